//go:build system

package system

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
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
)

// binary is a program that `make test-system` has built.
func binary(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run these tests with `make test-system`", path)
	}
	return path
}

// process is a real process whose output goes to a file.
type process struct {
	t    *testing.T
	name string
	args []string
	log  string
	dir  string // to run in; "" is the test's
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
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env, p.cmd.Dir = plainEnv(), p.dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startWithThread(p.cmd); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // how it ended is in the log
		close(done)
	}(p.cmd)
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
	result := make(chan error)
	spawner() <- func() { result <- cmd.Start() }
	return <-result
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("send %v to %s: %v", sig, p.name, err)
	}
}

// kill kills the process and waits until it is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// cleanUp ends the process. With RAFTSMAN_LOGS=directory its log is kept there.
func (p *process) cleanUp() {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if dir := os.Getenv("RAFTSMAN_LOGS"); dir != "" {
		name := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "-")+"-"+p.name+".log")
		if err := os.WriteFile(name, []byte(p.logs()), 0o644); err != nil {
			p.t.Error(err)
		}
	}
}

func (p *process) logs() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// plainEnv is the environment without RAFTSMAN_…: those variables are the tests'.
func plainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RAFTSMAN_") })
}

// cluster is three etcd members and some nodes, each a process.
type cluster struct {
	t       *testing.T
	dir     string
	etcds   []*process
	etcdURL []string
	nodes   []*process // node i+1
	kafka   []string
	http    []string
	ttl     time.Duration
}

// The ports of the tests are beneath those that the system gives to connections
// going out: a process that is killed and started again finds its port free.
const firstPort, lastPort = 10_000, 30_000

var given struct {
	sync.Mutex
	ports map[int]bool
}

// ports returns free ports, each once. The tests run alone on their machine.
func ports(t *testing.T, n int) (out []int) {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = make(map[int]bool)
	}
	for tries := 0; len(out) < n; tries++ {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if given.ports[port] {
			continue
		}
		ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			if tries > 1000 {
				t.Fatal(err)
			}
			continue
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		given.ports[port] = true
		out = append(out, port)
	}
	return out
}

// startCluster starts three etcd members and n nodes, and waits until all serve.
func startCluster(t *testing.T, n int, ttl time.Duration, extra ...string) *cluster {
	t.Helper()
	return startClusterWith(t, n, ttl, func(int) []string { return extra })
}

// startClusterWith gives each node flags of its own.
func startClusterWith(t *testing.T, n int, ttl time.Duration, extra func(id int) []string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), ttl: ttl}
	t.Cleanup(func() {
		for _, p := range append(c.nodes, c.etcds...) {
			p.cleanUp()
		}
		if t.Failed() {
			for _, p := range c.nodes {
				out := p.logs()
				t.Logf("%s wrote at last:\n%s", p.name, out[max(0, len(out)-6000):])
			}
		}
	})
	p := ports(t, 6+3*n)
	var members []string
	for i := range 3 {
		members = append(members, fmt.Sprintf("e%d=http://127.0.0.1:%d", i, p[2*i]))
		c.etcdURL = append(c.etcdURL, fmt.Sprintf("http://127.0.0.1:%d", p[2*i+1]))
	}
	for i := range 3 {
		peer := fmt.Sprintf("http://127.0.0.1:%d", p[2*i])
		c.etcds = append(c.etcds, c.spawn(fmt.Sprintf("etcd-%d", i), binary(t, "etcd"),
			"--name", fmt.Sprintf("e%d", i), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("etcd-%d", i)),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--listen-client-urls", c.etcdURL[i], "--advertise-client-urls", c.etcdURL[i],
			"--initial-cluster", strings.Join(members, ","), "--logger", "zap", "--log-level", "error"))
	}
	for i := range n {
		kafka, http, peer := p[6+3*i], p[7+3*i], p[8+3*i]
		c.kafka = append(c.kafka, fmt.Sprintf("127.0.0.1:%d", kafka))
		c.http = append(c.http, fmt.Sprintf("127.0.0.1:%d", http))
		c.nodes = append(c.nodes, c.spawn(fmt.Sprintf("node-%d", i+1), append([]string{binary(t, "raftsman"), "serve",
			"--node-id", fmt.Sprint(i + 1), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("node-%d", i+1)),
			"--etcd-endpoints", strings.Join(c.etcdURL, ","), "--kafka-addr", c.kafka[i], "--http-addr", c.http[i],
			"--peer-addr", fmt.Sprintf("127.0.0.1:%d", peer), "--session-ttl", ttl.String(),
			"--leader-return-delay", "0"}, extra(i+1)...)...))
	}
	for i := range n {
		c.waitReady(i + 1)
	}
	waitFor(t, "a winner", 20*time.Second, func() bool { return c.winner() > 0 })
	waitFor(t, "all nodes to be registered", 20*time.Second, func() bool {
		return strings.Count(c.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/nodes/"), "/nodes/") == n
	})
	return c
}

func (c *cluster) spawn(name string, args ...string) *process {
	c.t.Helper()
	p := &process{t: c.t, name: name, args: args, log: filepath.Join(c.dir, name+".log")}
	p.start()
	return p
}

func (c *cluster) node(id int) *process { return c.nodes[id-1] }

func (c *cluster) waitReady(id int) {
	c.t.Helper()
	waitFor(c.t, fmt.Sprintf("node %d to be ready", id), 30*time.Second, func() bool {
		client := http.Client{Timeout: time.Second}
		resp, err := client.Get("http://" + c.http[id-1] + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// etcdctl runs etcdctl (API 3) against the cluster's etcd.
func (c *cluster) etcdctl(args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t, "etcdctl"), append([]string{"--endpoints", strings.Join(c.etcdURL, ",")}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("etcdctl %v: %v", args, err)
	}
	return string(out)
}

// winner is the node whose election key was created first, 0 for none.
func (c *cluster) winner() (id int) {
	c.t.Helper()
	out := c.etcdctl("get", "--prefix", "/raftsman/default/leader/", "--sort-by", "CREATE", "--order", "ASCEND", "--limit", "1", "--print-value-only")
	if _, err := fmt.Sscanf(out, `{"node":%d`, &id); err != nil {
		return 0
	}
	return id
}

// raftsman runs the binary's command line against node 1, or the first that runs.
func (c *cluster) raftsman(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t, "raftsman"), args...)
	cmd.Env = append(plainEnv(), "RAFTSMAN_BROKERS="+strings.Join(c.kafka, ","))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// create creates a topic and waits until all partitions have a leader.
func (c *cluster) create(topic string, partitions int) {
	c.t.Helper()
	if out, err := c.raftsman("topic", "create", topic, "--partitions", fmt.Sprint(partitions)); err != nil {
		c.t.Fatalf("create %s: %v\n%s", topic, err, out)
	}
	waitFor(c.t, "leaders of "+topic, 20*time.Second, func() bool {
		for i := range partitions {
			if c.leader(topic, i) == 0 {
				return false
			}
		}
		return true
	})
}

// leader asks the nodes that answer for a partition's leader, 0 for none.
func (c *cluster) leader(topic string, partition int) int {
	out, err := c.raftsman("topic", "describe", topic, "-o", "json")
	if err != nil {
		return 0
	}
	return leaderIn(out, partition)
}

func waitFor(t *testing.T, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.After(limit)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited %v for %s", limit, what)
		case <-poll.C:
		}
	}
}

// command runs a program with input and returns its output.
func command(t *testing.T, stdin string, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out.Bytes()
}
