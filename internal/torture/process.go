package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/raftsman/raftsman/pkg/node"
)

// process is a node in a process of its own.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

func startProcess(m *member) (engine, error) {
	log, err := os.OpenFile(m.processLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{log: m.processLog, done: make(chan struct{})}
	p.cmd = exec.Command(m.program, "serve", "--node-id", fmt.Sprint(m.id), "--data-dir", m.dir, "--cluster", clusterName,
		"--rack", m.nodeRack, "--etcd-endpoints", m.etcd, "--kafka-addr", m.kafka, "--http-addr", m.web,
		"--peer-addr", m.peer, "--peer-advertise", m.advertise, "--session-ttl", sessionTTL.String(), "--leader-return-delay", "0",
		"--replica-selector", node.ReadRack, "--segment-bytes", fmt.Sprint(segmentBytes), "--wal-file-size", fmt.Sprint(walFileSize),
		"--wal-size-limit", fmt.Sprint(walSizeLimit), "--drain-timeout", "5s", "--min-free-disk", "-1",
		"--offsets-topic-partitions", fmt.Sprint(offsetsTopics), "--group-initial-rebalance-delay", "0")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // a Ctrl-C is not theirs
	started := make(chan error)
	spawner() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// spawner starts processes, for ever on one thread: the kernel sends Pdeathsig when
// the thread ends that has started the process.
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

// stopTimeout is longer than a node takes to stop in order.
const stopTimeout = 30 * time.Second

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("a node has not ended %s after SIGTERM", stopTimeout), p.kill())
	}
}

func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

func (p *process) pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) goOn() error  { return p.cmd.Process.Signal(syscall.SIGCONT) }

func (p *process) ended() error {
	select {
	case <-p.done:
		said, _ := os.ReadFile(p.log) // what there is
		said = bytes.TrimSpace(said[max(0, len(said)-300):])
		return fmt.Errorf("process %d: %s, after it said: %s", p.cmd.Process.Pid, p.cmd.ProcessState, said)
	default:
		return nil
	}
}
