//go:build system

package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	composeProject = "raftsman-test"
	composePort    = "19192" // where the gateway is published
)

// composeCluster is the cluster of docker-compose.yml under a name of its own.
type composeCluster struct {
	t    *testing.T
	root string
}

// composeContainer is what `docker inspect` says about a container.
type composeContainer struct {
	ID, Name, IP, Health string
	Running              bool
}

// TestCompose starts three etcd members and three workers from docker-compose.yml,
// writes through the workers' addresses, scales to five workers, and kills the
// partition's leader under a producer: all that was acknowledged is there, in
// order. The killed worker comes back with its node id at another address.
func TestCompose(t *testing.T) {
	c := &composeCluster{t: t}
	var err error
	if c.root, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
		t.Fatal(err)
	}
	c.run(3*time.Minute, "make", "image", "image-etcd")
	c.remove() // of a run that was killed
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.try(time.Minute, "docker-compose", "-p", composeProject, "logs", "--no-color", "--tail=60"))
			t.Log(c.try(time.Minute, "docker-compose", "-p", composeProject, "ps"))
		}
		c.remove()
	})
	c.compose("up", "-d")
	c.waitHealthy(7)

	lines := composeLines(150_000)
	first := lines[:composeOffset(lines, 100_000)]
	input := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(input, first, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(time.Minute, "kcat", "-b", c.brokers(), "-P", "-t", "lines", "-X", "acks=all", "-l", input)
	c.check(first)
	c.run(time.Minute, "kcat", "-b", "127.0.0.1:"+composePort, "-P", "-t", "through-the-gateway", "-X", "acks=all", "-l", input)
	if got := c.run(time.Minute, "kcat", "-b", "127.0.0.1:"+composePort, "-C", "-t", "through-the-gateway", "-e", "-q"); !bytes.Equal(got, first) {
		t.Errorf("%d bytes came back through the gateway of %d", len(got), len(first))
	}

	if got := string(c.run(20*time.Second, binary(t, "raftsman"), "healthcheck", "--http", "127.0.0.1:"+composeHTTP)); got != "ready\n" {
		t.Errorf("the gateway's HTTP says %q", got)
	}
	c.prometheus(3)

	// Two more workers.
	before := c.nodes()
	c.compose("up", "-d", "--scale", "worker=5")
	c.waitHealthy(9)
	after := c.nodes()
	if len(before) != 3 || len(after) != 5 {
		t.Fatalf("etcd holds nodes %v, and with five workers %v", before, after)
	}
	for id, peer := range before {
		if after[id] != peer {
			t.Errorf("node %d was at %s and is at %q with five workers", id, peer, after[id])
		}
	}

	// The leader dies in the middle of the next lines.
	leader := c.leader("lines")
	victim := c.workerAt(after[leader])
	p := c.producer("lines")
	rest := lines[len(first):]
	third := composeOffset(rest, 17_000)
	p.write(rest[:third])
	c.waitCount("lines", 100_001)
	killed := make(chan error, 1)
	go func() {
		_, err := c.output(20*time.Second, "docker", "kill", victim.ID)
		killed <- err
	}()
	at := third
	for dead := false; !dead; { // 50 lines every 2 ms, until the leader is dead
		select {
		case err := <-killed:
			if err != nil {
				t.Fatal(err)
			}
			dead = true
		case <-time.After(2 * time.Millisecond):
			if n := composeOffset(rest[at:], 50); at+n < 2*third {
				p.write(rest[at : at+n])
				at += n
			}
		}
	}
	p.write(rest[at:])
	p.close()
	t.Logf("killed %s, node %d, the leader, while lines 117,000 to %d were sent", victim.Name, leader, 100_000+bytes.Count(rest[:at], []byte("\n")))
	waitFor(t, "another leader", 30*time.Second, func() bool { l := c.leader("lines"); return l > 0 && l != leader })
	c.check(lines)

	// It returns with its node id, at another address: its old one is taken.
	squatter := strings.TrimSpace(string(c.run(20*time.Second, "docker", "run", "-d", "--rm", "--network", composeProject+"_default",
		"--label", "com.docker.compose.project="+composeProject, "raftsman-etcd:dev")))
	t.Cleanup(func() { c.try(20*time.Second, "docker", "rm", "-f", "-v", squatter) })
	c.run(20*time.Second, "docker", "start", victim.ID)
	c.waitHealthy(9)
	back := c.inspect(victim.ID)[0]
	t.Logf("%s was at %s and is at %s", victim.Name, victim.IP, back.IP)
	if back.IP == victim.IP {
		t.Errorf("%s has its old address: this shows nothing about another one", victim.Name)
	}
	waitFor(t, "the new address in etcd", 30*time.Second, func() bool { return c.nodes()[leader] == back.IP+":7070" })
	if n := len(c.nodes()); n != 5 {
		t.Errorf("etcd holds %d nodes, want 5", n)
	}
	// Its replica catches up there: the partition stays when the leader of now
	// stops, and with two of three replicas it needs the one that came back.
	second := c.leader("lines")
	stopped := c.workerAt(c.nodes()[second]).ID
	c.run(40*time.Second, "docker", "stop", stopped)
	more := []byte("one more line\n")
	p = c.producer("lines")
	p.write(more)
	p.close()
	c.check(append(slices.Clone(lines), more...))
	c.run(20*time.Second, "docker", "rm", "-f", "-v", squatter)
	c.run(20*time.Second, "docker", "start", stopped)
	c.waitHealthy(9)
	c.waitHealth()
	if os.Getenv("RAFTSMAN_REPEAT") != "" {
		c.faults()
	}
}

// try runs a program in the repository and returns all that it printed.
func (c *composeCluster) try(limit time.Duration, name string, args ...string) string {
	// Not the test's context: that one has ended when the test cleans up.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.root, composeEnv(), time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// run runs a program in the repository and returns its output.
func (c *composeCluster) run(limit time.Duration, name string, args ...string) []byte {
	c.t.Helper()
	out, err := c.output(limit, name, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *composeCluster) output(limit time.Duration, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.root, composeEnv(), time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w\n%s", name, args, err, errs.String())
	}
	return out, nil
}

func composeEnv() []string {
	return append(os.Environ(), "ETCD_IMAGE=raftsman-etcd:dev", "RAFTSMAN_IMAGE=raftsman:dev", "COMPOSE_PROJECT_NAME="+composeProject, "KAFKA_PORT="+composePort,
		"HTTP_PORT="+composeHTTP, "PROMETHEUS_PORT="+composePrometheus, "PROMETHEUS_IMAGE=raftsman-test-prometheus:dev")
}

func (c *composeCluster) compose(args ...string) {
	c.t.Helper()
	c.run(2*time.Minute, "docker-compose", append([]string{"-p", composeProject}, args...)...)
}

// remove removes the cluster with its volumes, and anything else on its network.
func (c *composeCluster) remove() {
	c.t.Helper()
	for _, id := range strings.Fields(c.try(20*time.Second, "docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+composeProject)) {
		c.try(20*time.Second, "docker", "rm", "-f", "-v", id)
	}
	c.try(time.Minute, "docker-compose", "-p", composeProject, "down", "-v", "--remove-orphans", "-t", "1")
	for _, what := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		out := c.try(20*time.Second, "docker", append(what, "--filter", "label=com.docker.compose.project="+composeProject)...)
		if out != "" {
			c.t.Errorf("docker %v still shows %s", what, out)
		}
	}
}

// inspect describes containers; none given: all of the project.
func (c *composeCluster) inspect(ids ...string) []composeContainer {
	c.t.Helper()
	if len(ids) == 0 {
		ids = strings.Fields(string(c.run(time.Minute, "docker-compose", "-p", composeProject, "ps", "-q")))
	}
	if len(ids) == 0 {
		return nil
	}
	var raw []struct {
		ID, Name string `json:",omitempty"`
		State    struct {
			Running bool
			Health  struct{ Status string }
		}
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := json.Unmarshal(c.run(20*time.Second, "docker", append([]string{"inspect"}, ids...)...), &raw); err != nil {
		c.t.Fatal(err)
	}
	var all []composeContainer
	for _, r := range raw {
		all = append(all, composeContainer{
			ID: r.ID, Name: strings.TrimPrefix(r.Name, "/"), IP: r.NetworkSettings.Networks[composeProject+"_default"].IPAddress,
			Health: r.State.Health.Status, Running: r.State.Running,
		})
	}
	return all
}

// waitHealthy waits until all n containers run and are healthy.
func (c *composeCluster) waitHealthy(n int) {
	c.t.Helper()
	waitFor(c.t, fmt.Sprintf("%d healthy containers", n), time.Minute, func() bool {
		healthy := 0
		for _, k := range c.inspect() {
			if k.Running && k.Health == "healthy" {
				healthy++
			}
		}
		return healthy == n
	})
}

// brokers are the addresses that `make up` prints.
func (c *composeCluster) brokers() string {
	c.t.Helper()
	return strings.TrimSpace(string(c.run(20*time.Second, "./deploy/brokers.sh")))
}

// nodes are the registered nodes and their peer addresses.
func (c *composeCluster) nodes() map[int]string {
	c.t.Helper()
	out := c.run(time.Minute, "docker-compose", "-p", composeProject, "exec", "-T", "etcd-1",
		"etcdctl", "get", "--prefix", "/raftsman/default/nodes/", "--print-value-only")
	nodes := make(map[int]string)
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var n struct {
			Node int    `json:"node"`
			Peer string `json:"peer"`
		}
		if err := d.Decode(&n); err != nil {
			c.t.Fatalf("%v in %s", err, out)
		}
		nodes[n.Node] = n.Peer
	}
	return nodes
}

// leader is the node that leads partition 0 of a topic, 0 for none.
func (c *composeCluster) leader(topic string) int {
	c.t.Helper()
	out, err := c.output(30*time.Second, binary(c.t, "raftsman"), "topic", "describe", topic, "-o", "json", "--brokers", c.brokers())
	if err != nil {
		return 0
	}
	return leaderIn(string(out), 0)
}

// workerAt is the running worker with a peer address.
func (c *composeCluster) workerAt(peer string) composeContainer {
	c.t.Helper()
	all := c.inspect()
	for _, k := range all {
		if k.Running && strings.Contains(k.Name, "worker") && k.IP+":7070" == peer {
			return k
		}
	}
	c.t.Fatalf("no worker is at %q: %+v", peer, all)
	return composeContainer{}
}

// check reads a topic from its start to its end and compares it.
func (c *composeCluster) check(want []byte) {
	c.t.Helper()
	got := c.run(time.Minute, "kcat", "-b", c.brokers(), "-C", "-t", "lines", "-o", "beginning", "-e", "-q")
	if !bytes.Equal(got, want) {
		g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
		at := 0
		for at < len(g) && at < len(w) && bytes.Equal(g[at], w[at]) {
			at++
		}
		c.t.Fatalf("read %d lines of %d; they differ from line %d on", len(g)-1, len(w)-1, at+1)
	}
}

// waitCount waits until a topic's only partition has at least n records.
func (c *composeCluster) waitCount(topic string, n int64) {
	c.t.Helper()
	brokers := c.brokers()
	waitFor(c.t, fmt.Sprintf("%d records", n), 30*time.Second, func() bool {
		out, err := c.output(20*time.Second, "kcat", "-b", brokers, "-Q", "-t", topic+":0:-1")
		if err != nil {
			return false
		}
		var end int64
		_, err = fmt.Sscanf(string(out), topic+" [0] offset %d", &end)
		return err == nil && end >= n
	})
}

// composeProducer is a kcat that sends what is written to it, line by line,
// idempotently and acknowledged by a majority.
type composeProducer struct {
	t    *testing.T
	in   io.WriteCloser
	errs bytes.Buffer
	done chan error
}

func (c *composeCluster) producer(topic string) *composeProducer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 90*time.Second)
	c.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "kcat", "-b", c.brokers(), "-P", "-t", topic, "-X", "enable.idempotence=true", "-X", "linger.ms=1")
	p := &composeProducer{t: c.t, done: make(chan error, 1)}
	cmd.Stderr = &p.errs
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { p.done <- cmd.Wait() }()
	return p
}

func (p *composeProducer) write(b []byte) {
	p.t.Helper()
	if _, err := p.in.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// close waits until everything is acknowledged.
func (p *composeProducer) close() {
	p.t.Helper()
	if err := p.in.Close(); err != nil {
		p.t.Fatal(err)
	}
	if err := <-p.done; err != nil {
		p.t.Fatalf("kcat: %v\n%s", err, p.errs.String())
	}
	if strings.Contains(p.errs.String(), "Delivery failed") {
		p.t.Fatalf("kcat: %s", p.errs.String())
	}
}

// composeLines are n different lines.
func composeLines(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "line %d of the compose test, %x\n", i, i*i)
	}
	return b.Bytes()
}

// composeOffset is where line n begins.
func composeOffset(b []byte, n int) int {
	at := 0
	for range n {
		at += bytes.IndexByte(b[at:], '\n') + 1
	}
	return at
}
