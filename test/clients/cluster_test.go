package clients

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/raftsman/raftsman/test/clients/agent"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// process is a real process whose output goes to a file.
type process struct {
	t    testing.TB
	args []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) start() {
	p.t.Helper()
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = f, f, plainEnv()
	if err := startWithThread(p.cmd); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // how it ended is in the log
		close(done)
	}(p.cmd, p.done)
}

// kill kills the process and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// spawner starts processes, for ever on one thread: the kernel sends Pdeathsig
// when the thread ends that started the process, not when the test does.
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

// plainEnv is the environment without RAFTSMAN_…: those variables are the tests'.
func plainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RAFTSMAN_") })
}

func binary(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run these tests with `make test-clients`", path)
	}
	return path
}

// cluster is three nodes and an etcd.
type cluster struct {
	t     testing.TB
	dir   string
	nodes []*process // node i+1
	kafka []string
	http  []string
	adm   *kadm.Client // the test's own view, through franz-go
	cl    *kgo.Client
}

func startCluster(t testing.TB, extra ...string) *cluster {
	t.Helper()
	return startNodes(t, func(int) []string { return extra })
}

// startNodes starts a cluster in which nodes 0 to 2 get flags of their own.
func startNodes(t testing.TB, extra func(node int) []string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	p := ports(t, 2+3*3)
	etcd := fmt.Sprintf("http://127.0.0.1:%d", p[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", p[1])
	c.spawn("etcd", binary(t, "etcd"), "--name", "e", "--data-dir", filepath.Join(c.dir, "etcd"),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", etcd,
		"--advertise-client-urls", etcd, "--initial-cluster", "e="+peer, "--logger", "zap", "--log-level", "error")
	for i := range 3 {
		kafka, http, peer := p[2+3*i], p[3+3*i], p[4+3*i]
		c.kafka = append(c.kafka, fmt.Sprintf("127.0.0.1:%d", kafka))
		c.http = append(c.http, fmt.Sprintf("127.0.0.1:%d", http))
		c.nodes = append(c.nodes, c.spawn(fmt.Sprintf("node-%d", i+1), append([]string{binary(t, "raftsman"), "serve",
			"--node-id", fmt.Sprint(i + 1), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("node-%d", i+1)),
			"--etcd-endpoints", etcd, "--kafka-addr", c.kafka[i], "--http-addr", c.http[i],
			"--peer-addr", fmt.Sprintf("127.0.0.1:%d", peer), "--group-initial-rebalance-delay", "500ms"}, extra(i)...)...))
	}
	for i := range 3 {
		c.waitReady(i + 1)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	c.cl, c.adm = cl, kadm.NewClient(cl)
	waitFor(t, "three brokers", 30*time.Second, func() error {
		m, err := c.adm.BrokerMetadata(t.Context())
		if err == nil && len(m.Brokers) != 3 {
			err = fmt.Errorf("%d brokers", len(m.Brokers))
		}
		return err
	})
	return c
}

func (c *cluster) spawn(name string, args ...string) *process {
	c.t.Helper()
	p := &process{t: c.t, args: args, log: filepath.Join(c.dir, name+".log")}
	p.start()
	c.t.Cleanup(func() {
		p.kill()
		if out, _ := os.ReadFile(p.log); c.t.Failed() && name != "etcd" {
			c.t.Logf("%s wrote at last:\n%s", name, out[max(0, len(out)-4000):])
		}
	})
	return p
}

func (c *cluster) waitReady(id int) {
	c.t.Helper()
	waitFor(c.t, fmt.Sprintf("node %d to be ready", id), 60*time.Second, func() error {
		client := http.Client{Timeout: time.Second}
		resp, err := client.Get("http://" + c.http[id-1] + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
		return err
	})
}

// create creates a topic of three replicas and waits until all partitions have a
// leader.
func (c *cluster) create(ctx context.Context, topic string, partitions int) error {
	if _, err := c.adm.CreateTopic(ctx, int32(partitions), 3, nil, topic); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	return until(ctx, func() error {
		offsets, err := c.adm.ListEndOffsets(ctx, topic)
		if err == nil {
			err = offsets.Error()
		}
		return err
	})
}

func ports(t testing.TB, n int) (out []int) {
	t.Helper()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		out = append(out, ln.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// until repeats cond until it has no error or says ErrNone; when the context ends
// it returns the last error.
func until(ctx context.Context, cond func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := cond()
		if err == nil || errors.Is(err, agent.ErrNone) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

func waitFor(t testing.TB, what string, limit time.Duration, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := until(ctx, cond); err != nil {
		t.Fatalf("waited %v for %s: %v", limit, what, err)
	}
}
