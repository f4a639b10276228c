package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is a server of a system. What it prints goes to a file beside its data.
type process struct {
	role string // "node", or what nodes need beside them
	name string
	args []string
	log  string
	// metrics is where it serves them, for memory and goroutines; "" if it does not.
	metrics string
	cmd     *exec.Cmd
	done    chan struct{}
}

// start starts the process, again too when it has ended.
func (p *process) start() error {
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	// Settings of raftsman and limits of Go's runtime in our environment are not the servers'.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "RAFTSMAN_") || strings.HasPrefix(v, "GOMEMLIMIT=") || strings.HasPrefix(v, "GOGC=")
	})
	if err := startWithThread(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}()
	p.cmd, p.done = cmd, done
	return nil
}

// spawner starts processes, for ever on one thread: the kernel kills a child when the thread
// ends that started it.
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

func startWithThread(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	result := make(chan error)
	spawner() <- func() { result <- cmd.Start() }
	return <-result
}

// kill kills the process and waits until it is gone.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ended is nil while the process runs, and else says what it said last.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %v; it said last:\n%s", p.name, p.cmd.ProcessState, tail(p.log))
	default:
		return nil
	}
}

// tail returns the last lines of a log.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// resident returns the bytes of memory that the process holds.
func (p *process) resident() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid()))
	if err != nil {
		return 0, err
	}
	var size, pages float64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, fmt.Errorf("/proc/%d/statm: %w", p.pid(), err)
	}
	return pages * float64(os.Getpagesize()), nil
}

// processes are those of one system.
type processes struct {
	dir string // its data and logs
	all []*process
}

// spawn starts a process that is stopped with the others.
func (ps *processes) spawn(role, name string, args ...string) error {
	p := &process{role: role, name: name, args: args, log: filepath.Join(ps.dir, name+".log")}
	if err := p.start(); err != nil {
		return err
	}
	ps.all = append(ps.all, p)
	return nil
}

// stop kills all processes: what they hold is thrown away.
func (ps *processes) stop() {
	for _, p := range ps.all {
		p.kill()
	}
}

// nodes are the processes that hold partitions, node 1 first.
func (ps *processes) nodes() (nodes []*process) {
	for _, p := range ps.all {
		if p.role == "node" {
			nodes = append(nodes, p)
		}
	}
	return nodes
}

func (ps *processes) roles() map[int]string {
	roles := make(map[int]string)
	for _, p := range ps.all {
		roles[p.pid()] = p.role
	}
	return roles
}

// until tries f until it succeeds, a process ends, or it has failed for too long.
func (ps *processes) until(ctx context.Context, what string, limit time.Duration, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, min(15*time.Second, limit/2)) // a lost question is asked again
		err := f(try)
		end()
		if err == nil {
			return nil
		}
		for _, p := range ps.all {
			if gone := p.ended(); gone != nil {
				return fmt.Errorf("waiting for %s: %w", what, gone)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freePorts returns ports that nobody listens on. Someone else may take one before it is used:
// then the process that wanted it ends and says so.
func freePorts(n int) (ports []int, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // all together, or one could be given out twice
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
