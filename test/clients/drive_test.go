package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/raftsman/raftsman/test/clients/agent"
)

// run is an agent at work, and what it has said so far.
type run struct {
	client string
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
	done   chan struct{} // closed when the process has ended
	on     func(agent.Event)

	mu        sync.Mutex
	records   []agent.Record
	committed map[int32]int64
	acked     []int
	last      *agent.Event // the done event
	trouble   []string
}

// through are the brokers' addresses that a client's agents are given instead of
// the nodes' own; nil but while requests are recorded.
var through map[string][]string

// start starts an agent. on, if not nil, is called with each event, in order.
func start(client string, j agent.Job, on func(agent.Event)) (*run, error) {
	r := &run{client: client, done: make(chan struct{}), committed: map[int32]int64{}, on: on}
	switch client {
	case "python-kafka":
		r.cmd = exec.Command("/usr/bin/python3", filepath.Join("python", "python_kafka.py"))
	case "confluent-python":
		r.cmd = exec.Command("/usr/bin/python3", filepath.Join("python", "confluent.py"))
	default:
		r.cmd = exec.Command(os.Args[0])
		r.cmd.Env = append(plainEnv(), agentEnv+"="+client)
	}
	r.cmd.Stderr = &r.stderr
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.stdin = stdin
	if through != nil {
		j.Brokers = through[client]
	}
	if err := startWithThread(r.cmd); err != nil {
		return nil, err
	}
	go r.listen(stdout)
	line, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	_, err = stdin.Write(append(line, '\n'))
	return r, err
}

func (r *run) listen(stdout io.Reader) {
	defer close(r.done)
	dec := json.NewDecoder(stdout)
	for {
		var e agent.Event
		if dec.Decode(&e) != nil { // the end, or what a killed process left of a line
			break
		}
		r.mu.Lock()
		switch e.Kind {
		case "records":
			r.records = append(r.records, e.Records...)
		case "committed":
			for p, o := range e.Offsets {
				r.committed[p] = max(r.committed[p], o)
			}
		case "acked":
			r.acked = append(r.acked, e.Numbers...)
		case "trouble":
			r.trouble = append(r.trouble, e.Error)
		case "done":
			r.last = &e
		}
		r.mu.Unlock()
		if r.on != nil {
			r.on(e)
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
	_ = r.cmd.Wait()
}

// leave lets the agent end properly and returns what it said at last.
func (r *run) leave(ctx context.Context) (agent.Event, error) {
	_ = r.stdin.Close()
	return r.result(ctx)
}

// result waits for the end of the agent. When ctx ends first it is killed.
func (r *run) result(ctx context.Context) (agent.Event, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
		r.kill()
		return agent.Event{}, fmt.Errorf("%s did not end in time; it wrote: %s", r.client, tail(r.stderr.String()))
	}
	switch {
	case r.last == nil:
		return agent.Event{}, fmt.Errorf("%s ended without an answer; it wrote: %s", r.client, tail(r.stderr.String()))
	case r.last.None:
		return agent.Event{}, agent.ErrNone
	case r.last.Error != "":
		return *r.last, fmt.Errorf("%s: %w; it wrote: %s", r.client, errors.New(r.last.Error), tail(r.stderr.String()))
	}
	return *r.last, nil
}

func tail(s string) string { return s[max(0, len(s)-1500):] }

func (r *run) kill() {
	r.signal(syscall.SIGKILL)
	<-r.done
}

func (r *run) signal(sig syscall.Signal) { _ = r.cmd.Process.Signal(sig) }

// seen are the records so far.
func (r *run) seen() []agent.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[:len(r.records):len(r.records)]
}

// ended is the error of an agent that ended though it should not have.
func (r *run) ended() error {
	select {
	case <-r.done:
		if r.last != nil && r.last.None {
			return agent.ErrNone
		}
		return fmt.Errorf("%s ended: %+v; it wrote: %s", r.client, r.last, tail(r.stderr.String()))
	default:
		return nil
	}
}

// do runs a job to its end.
func do(ctx context.Context, client string, j agent.Job) (agent.Event, error) {
	r, err := start(client, j, nil)
	if err != nil {
		return agent.Event{}, err
	}
	return r.result(ctx)
}
