//go:build system

package system

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// plainEtcd describes a cluster with an etcd of one member.
type plainEtcd struct {
	etcd   []string                  // flags of etcd
	scheme string                    // default http
	ready  func(url string)          // called when etcd was started, before the nodes
	node   func(url string) []string // further flags of the nodes
	ttl    time.Duration
}

// startPlain starts one member of etcd and n nodes.
func startPlain(t *testing.T, n int, with plainEtcd) *cluster {
	t.Helper()
	if with.scheme == "" {
		with.scheme = "http"
	}
	if with.ttl == 0 {
		with.ttl = sessionTTL(t)
	}
	c := &cluster{t: t, dir: t.TempDir(), ttl: with.ttl}
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
	p := ports(t, 2+3*n)
	peer, url := fmt.Sprintf("http://127.0.0.1:%d", p[0]), fmt.Sprintf("%s://127.0.0.1:%d", with.scheme, p[1])
	c.etcdURL = []string{url}
	c.etcds = append(c.etcds, c.spawn("etcd-0", append([]string{binary(t, "etcd"), "--name", "e0", "--data-dir", filepath.Join(c.dir, "etcd-0"),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", url, "--advertise-client-urls", url,
		"--initial-cluster", "e0=" + peer, "--logger", "zap", "--log-level", "error"}, with.etcd...)...))
	if with.ready != nil {
		with.ready(url)
	}
	nodeFlags := []string{"--etcd-endpoints", url}
	if with.node != nil {
		nodeFlags = append(nodeFlags, with.node(url)...)
	}
	for i := range n {
		c.kafka = append(c.kafka, fmt.Sprintf("127.0.0.1:%d", p[2+3*i]))
		c.http = append(c.http, fmt.Sprintf("127.0.0.1:%d", p[3+3*i]))
		c.nodes = append(c.nodes, c.spawn(fmt.Sprintf("node-%d", i+1), append([]string{binary(t, "raftsman"), "serve",
			"--node-id", fmt.Sprint(i + 1), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("node-%d", i+1)),
			"--kafka-addr", c.kafka[i], "--http-addr", c.http[i], "--peer-addr", fmt.Sprintf("127.0.0.1:%d", p[4+3*i]),
			"--session-ttl", with.ttl.String()}, nodeFlags...)...))
	}
	for i := range n {
		c.waitReady(i + 1)
	}
	waitFor(t, "all nodes to see each other registered", 30*time.Second, func() bool {
		return c.each(func(i clusterInfo) bool { return len(i.Nodes) == n })
	})
	return c
}

// trouble is a cluster with a load and a reader, to which something happens.
type trouble struct {
	*cluster
	t     *testing.T
	load  *load
	read  *reading
	marks []int // how much each node had logged when it began
	since time.Time
}

func newTrouble(t *testing.T, c *cluster) *trouble {
	t.Helper()
	x := &trouble{cluster: c, t: t}
	c.createWith("numbers", "--replication-factor", "3")
	c.createWith("side", "--partitions", "4", "--replication-factor", "3")
	x.load, x.read = startLoad(t, c.kafka, "numbers"), startReading(t, c.kafka, "numbers")
	x.load.goesOn(t)
	x.read.goesOn(t, x.load)
	x.begin()
	return x
}

// begin is when the trouble begins: what the nodes have logged before does not count.
func (x *trouble) begin() { x.marks, x.since = x.cluster.marks(), time.Now() }

// serves checks that records are written and read, by clients old and new.
func (x *trouble) serves() {
	x.t.Helper()
	x.load.goesOn(x.t)
	x.read.goesOn(x.t, x.load)
	for id := range x.nodes {
		x.newClients(id+1, "side")
	}
}

// endures serves for a time.
func (x *trouble) endures(d time.Duration) {
	x.t.Helper()
	at := time.Now()
	waitFor(x.t, "the time of the trouble to pass", d+30*time.Second, func() bool { return time.Since(at) > d })
	x.serves()
}

// changes asks a node for a new topic: it works, or fails in a way that clients
// try again.
func (x *trouble) changes(node int, topic string) {
	x.t.Helper()
	message, code := x.tryCreate(node, topic)
	if code != nil && (!retriable(code) || message == "") {
		x.t.Errorf("node %d answers the wish for a new topic with %v %q", node, code, message)
	}
	x.t.Logf("a new topic meanwhile: %v %s", code, message)
}

// mended checks that topics can be created again.
func (x *trouble) mended(topic string) {
	x.t.Helper()
	for id := range x.nodes {
		waitFor(x.t, fmt.Sprintf("node %d to create a topic", id+1), 60*time.Second, func() bool {
			message, code := x.tryCreate(id+1, topic)
			if code != nil && !retriable(code) && !errors.Is(code, kerr.TopicAlreadyExists) {
				x.t.Fatalf("node %d: %v: %s", id+1, code, message)
			}
			return code == nil || errors.Is(code, kerr.TopicAlreadyExists)
		})
	}
	waitFor(x.t, "a leader of "+topic, 30*time.Second, func() bool { return x.leader(topic, 0) > 0 })
	x.serves()
}

// finish checks that nothing acknowledged was lost.
func (x *trouble) finish() {
	x.t.Helper()
	x.t.Logf("longest time without an acknowledgement: %v", x.load.longestGap(x.since).Round(time.Millisecond))
	x.load.finish(x.t)
	x.read.finish(x.t, x.load)
	x.load.verify(x.t, x.kafka)
}

var logMessage = regexp.MustCompile(`level=(WARN|ERROR) msg=("(?:[^"\\]|\\.)*"|\S+)`)

// quiet checks that no node has repeated itself: no warning or error came more
// often than most. It returns what each said since the beginning.
func (x *trouble) quiet(most int) (said []string) {
	x.t.Helper()
	for i, p := range x.nodes[:len(x.marks)] {
		out := p.logs()[x.marks[i]:]
		said = append(said, out)
		times := map[string]int{}
		for _, m := range logMessage.FindAllStringSubmatch(out, -1) {
			times[m[2]]++
		}
		for message, n := range times {
			if n > most/2 {
				x.t.Logf("%s said %d times %s", p.name, n, message)
			}
			if n > most {
				x.t.Errorf("%s said %d times %s", p.name, n, message)
			}
		}
	}
	return said
}

// once checks that each node has said something exactly once since the beginning.
func (x *trouble) once(what ...string) {
	x.t.Helper()
	for i, p := range x.nodes {
		n := 0
		for line := range strings.SplitSeq(p.logs()[x.marks[i]:], "\n") {
			if !slices.ContainsFunc(what, func(s string) bool { return !strings.Contains(line, s) }) {
				n++
			}
		}
		if n != 1 {
			x.t.Errorf("%s said %d times %q", p.name, n, what)
		}
	}
}

// placement is every assignment, and every leader with its term.
func (x *trouble) placement() string {
	x.t.Helper()
	var b strings.Builder
	b.WriteString(x.etcdctl("get", "--prefix", "/raftsman/default/assignments/"))
	for p := range 4 {
		fmt.Fprintf(&b, "side/%d is led by %s\n", p, x.led("side", p))
	}
	fmt.Fprintf(&b, "numbers/0 is led by %s\n", x.led("numbers", 0))
	return b.String()
}

// led is who leads a partition, at which term.
func (x *trouble) led(topic string, partition int) string {
	x.t.Helper()
	out := ""
	waitFor(x.t, fmt.Sprintf("a leader of %s/%d", topic, partition), 30*time.Second, func() bool {
		text, err := x.raftsman("topic", "describe", topic, "-o", "json")
		out = text
		return err == nil && leaderIn(text, partition) > 0
	})
	var epochs []string
	for _, m := range regexp.MustCompile(`"(leader|leader_epoch|partition)": *(-?\d+)`).FindAllStringSubmatch(out, -1) {
		epochs = append(epochs, m[1]+"="+m[2])
	}
	return fmt.Sprint(leaderIn(out, partition), " ", strings.Join(epochs, " "))
}

// value is what a key holds.
func (x *trouble) value(key string) string {
	x.t.Helper()
	return strings.TrimSuffix(x.etcdctl("get", "--print-value-only", "/raftsman/default/"+key), "\n")
}

// hasLogged waits until every node has said something since the beginning.
func (x *trouble) hasLogged(what string) {
	x.t.Helper()
	for i, p := range x.nodes {
		waitFor(x.t, fmt.Sprintf("%s to say %q", p.name, what), 30*time.Second, func() bool {
			return strings.Contains(p.logs()[x.marks[i]:], what)
		})
	}
}
