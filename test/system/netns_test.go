//go:build system

package system

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// labs counts the labs of this process: each has names and a subnet of its own.
var labs atomic.Int32

// lab is a network namespace for each node, on a bridge in one of its own, with
// a way in for clients and etcd.
type lab struct {
	t      *testing.T
	prefix string
	subnet string
}

func (l *lab) ns(id int) string { return fmt.Sprint(l.prefix, "-n", id) }
func (l *lab) ip(id int) string { return fmt.Sprint(l.subnet, ".", id) }

func (l *lab) run(args ...string) {
	l.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startLab moves a cluster's nodes into namespaces. Clients and etcd are at .254.
func startLab(t *testing.T, c *cluster) *lab {
	t.Helper()
	l := newLab(t, len(c.nodes), func() {
		for _, p := range c.nodes {
			p.cleanUp()
		}
	})
	l.move(c)
	return l
}

// newLab makes namespaces 1 to nodes. before is called before they are removed.
func newLab(t *testing.T, nodes int, before func()) *lab {
	t.Helper()
	n, pid := labs.Add(1), os.Getpid()
	l := &lab{t: t, prefix: fmt.Sprintf("rm%d-%d", pid%10000, n), subnet: fmt.Sprintf("10.%d.%d", 200+n%50, pid%250)}
	sw := l.prefix + "-sw"
	t.Cleanup(func() {
		before()
		for id := range nodes {
			_ = exec.Command("ip", "netns", "del", l.ns(id+1)).Run()
		}
		_ = exec.Command("ip", "netns", "del", sw).Run()
		_ = exec.Command("ip", "link", "del", l.prefix+"up").Run()
	})
	l.run("ip", "netns", "add", sw)
	l.run("ip", "-n", sw, "link", "add", "br0", "type", "bridge")
	l.run("ip", "-n", sw, "link", "set", "br0", "up")
	l.run("ip", "-n", sw, "link", "add", "uplink", "type", "veth", "peer", "name", l.prefix+"up", "netns", fmt.Sprint(os.Getpid()))
	l.run("ip", "-n", sw, "link", "set", "dev", "uplink", "master", "br0", "up")
	l.run("ip", "addr", "add", l.ip(254)+"/24", "dev", l.prefix+"up")
	l.run("ip", "link", "set", l.prefix+"up", "up")
	for id := 1; id <= nodes; id++ {
		l.run("ip", "netns", "add", l.ns(id))
		l.run("ip", "-n", sw, "link", "add", fmt.Sprint("v", id), "type", "veth", "peer", "name", "eth0", "netns", l.ns(id))
		l.run("ip", "-n", sw, "link", "set", fmt.Sprint("v", id), "master", "br0", "up")
		l.run("ip", "-n", l.ns(id), "addr", "add", l.ip(id)+"/24", "dev", "eth0")
		l.run("ip", "-n", l.ns(id), "link", "set", "lo", "up")
		l.run("ip", "-n", l.ns(id), "link", "set", "eth0", "up")
		l.nft(id, "add table inet fault")
		l.nft(id, "add chain inet fault in { type filter hook input priority -10; }")
		l.nft(id, "add chain inet fault out { type filter hook output priority -10; }")
	}
	return l
}

// move restarts etcd and the nodes at their new addresses.
func (l *lab) move(c *cluster) {
	l.t.Helper()
	for i, p := range c.etcds {
		p.kill()
		for j, a := range p.args {
			if a == "--listen-client-urls" || a == "--advertise-client-urls" {
				p.args[j+1] = strings.ReplaceAll(p.args[j+1], "127.0.0.1", l.ip(254))
			}
		}
		c.etcdURL[i] = strings.ReplaceAll(c.etcdURL[i], "127.0.0.1", l.ip(254))
		p.start()
	}
	for i, p := range c.nodes {
		p.kill()
		for j, a := range p.args {
			switch a {
			case "--etcd-endpoints":
				p.args[j+1] = strings.Join(c.etcdURL, ",")
			case "--kafka-addr", "--http-addr", "--peer-addr":
				p.args[j+1] = strings.ReplaceAll(p.args[j+1], "127.0.0.1", l.ip(i+1))
			}
		}
		p.args = append([]string{"ip", "netns", "exec", l.ns(i + 1)}, p.args...)
		c.kafka[i] = strings.ReplaceAll(c.kafka[i], "127.0.0.1", l.ip(i+1))
		c.http[i] = strings.ReplaceAll(c.http[i], "127.0.0.1", l.ip(i+1))
		p.start()
	}
	waitFor(l.t, "all nodes to be registered where they are now", 40*time.Second, func() bool {
		out := c.etcdctl("get", "--prefix", "/raftsman/default/nodes/")
		for _, addr := range c.kafka {
			if !strings.Contains(out, addr) {
				return false
			}
		}
		return true
	})
	for i := range c.nodes {
		c.waitReady(i + 1)
	}
}

func (l *lab) nft(id int, rule string) {
	l.t.Helper()
	l.run("ip", "netns", "exec", l.ns(id), "nft", rule)
}

// cut drops what a node gets from its peers, what it sends them, or both.
func (l *lab) cut(id, nodes int, in, out bool) {
	l.t.Helper()
	for peer := 1; peer <= nodes; peer++ {
		if peer != id && in {
			l.nft(id, "add rule inet fault in ip saddr "+l.ip(peer)+" drop")
		}
		if peer != id && out {
			l.nft(id, "add rule inet fault out ip daddr "+l.ip(peer)+" drop")
		}
	}
}

func (l *lab) heal(id int) {
	l.t.Helper()
	l.nft(id, "flush table inet fault")
}

// pin is a client's way to one node only, until it is released.
type pin struct {
	addr  string
	mu    sync.Mutex
	free  bool
	stray []net.Conn
}

func (p *pin) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free {
		return d.DialContext(ctx, network, addr)
	}
	c, err := d.DialContext(ctx, network, p.addr)
	if err == nil && addr != p.addr {
		p.stray = append(p.stray, c)
	}
	return c, err
}

func (p *pin) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = true
	for _, c := range p.stray {
		c.Close()
	}
}

// TestLeaderCutOff cuts the leader's process from its peers, not from its
// clients or etcd, with packets dropped in both directions or in one: clients
// that reach it only get no acknowledgement of what they send then, others get
// theirs from another leader; nothing acknowledged is lost.
func TestLeaderCutOff(t *testing.T) {
	c := startCluster(t, 3, 10*time.Second)
	l := startLab(t, c)
	c.create("numbers", 1)
	// A leadership that went back would leave the clients who reach one node only.
	c.etcdctl("put", "/raftsman/default/config/rebalance", `{"paused":true}`)
	free := startSteady(t, c, "idempotent", 1)
	ways := []struct {
		name    string
		in, out bool
	}{{"both ways", true, true}, {"it hears nothing", true, false}, {"it is not heard", false, true}}
	var stuck []*steady
	for round := range repetitions(3) {
		way := ways[round%len(ways)]
		var leader int
		waitFor(t, "a leader", 30*time.Second, func() bool { leader = c.leader("numbers", 0); return leader > 0 })
		p := &pin{addr: c.kafka[leader-1]}
		here := startSteady(t, c, fmt.Sprint("pinned", round), 1, kgo.Dialer(p.dial), kgo.DisableIdempotentWrite(),
			kgo.RequiredAcks([]kgo.Acks{kgo.AllISRAcks(), kgo.LeaderAck()}[round%2]))
		stuck = append(stuck, here)
		waitFor(t, "acknowledgements before the cut", 20*time.Second, func() bool { return here.ackedFrom(10) > 10 })
		l.cut(leader, 3, way.in, way.out)
		from, at := here.sent(), free.sent()
		began := time.Now()
		waitFor(t, "acknowledgements by another leader", 30*time.Second, func() bool { return free.ackedFrom(at) > 50 })
		t.Logf("node %d, %s: another leader's acknowledgements after %v", leader, way.name, time.Since(began).Round(time.Millisecond))
		waitFor(t, "more to be sent", 10*time.Second, func() bool { return here.sent() > from+1000 })
		if n := here.ackedFrom(from); n > 0 {
			t.Errorf("node %d, %s: it acknowledged %d records", leader, way.name, n)
		}
		l.heal(leader)
		p.release()
		waitFor(t, "acknowledgements after healing", 40*time.Second, func() bool { return here.ackedFrom(from) > 100 })
		here.halt()
	}
	finishSteady(t, c, append(stuck, free))
}
