package testcluster

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// startMeshed starts three nodes whose ways to each other can be cut one by one.
func startMeshed(t *testing.T) (*Cluster, *mesh) {
	m := newMesh()
	t.Cleanup(m.close)
	c := Start(t, 3, func(cfg *node.Config) { cfg.Dial = m.dialer(cfg.NodeID) })
	for id := int32(1); id <= 3; id++ {
		m.name(c.Member(id).Node.PeerAddr(), id)
	}
	return c, m
}

// pinned is a client's way to one node only: connections to the others lead
// there too, until it is released.
type pinned struct {
	addr string

	mu    sync.Mutex
	free  bool
	conns []net.Conn // that lead astray
}

func (p *pinned) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free {
		return d.DialContext(ctx, network, addr)
	}
	c, err := d.DialContext(ctx, network, p.addr)
	if err == nil && addr != p.addr {
		p.conns = append(p.conns, c)
	}
	return c, err
}

func (p *pinned) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = true
	for _, c := range p.conns {
		c.Close()
	}
}

// reader reads a partition through one node and notes what it was given.
type reader struct {
	mu   sync.Mutex
	seen map[int64]string // offset → value
}

func (c *Cluster) reader(p *pinned, topic string, partition int32) *reader {
	r := &reader{seen: make(map[int64]string)}
	client := c.Client(kgo.Dialer(p.dial), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.seen[rec.Offset] = name(rec.Value)
			})
		}
	}()
	return r
}

// name is a record's writer and number.
func name(value []byte) string {
	f := strings.Fields(string(value))
	return f[0] + " " + f[1]
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// check compares what was read with what is there in the end.
func (r *reader) check(t *testing.T, got map[string][][2]int64) {
	t.Helper()
	there := make(map[int64]string)
	for w, list := range got {
		for _, g := range list {
			there[g[1]] = w + " " + strconv.FormatInt(g[0], 10)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for offset, v := range r.seen {
		if there[offset] != v {
			t.Errorf("offset %d was read as %q and is %q in the end", offset, v, there[offset])
			return
		}
	}
}

// cuts are the ways to part a leader from its peers, not from its clients.
var cuts = []struct {
	name string
	do   func(m *mesh, leader, peer int32, cut bool)
}{
	{"connections break", func(m *mesh, a, b int32, cut bool) {
		m.set(a, b, cut)
		m.set(b, a, cut)
		for _, r := range m.between(a, b) {
			if cut {
				r.Drop()
			}
		}
	}},
	{"packets vanish both ways", func(m *mesh, a, b int32, cut bool) {
		m.set(a, b, cut)
		m.set(b, a, cut)
	}},
	{"the leader is not heard", func(m *mesh, a, b int32, cut bool) { m.set(a, b, cut) }},
	{"the leader does not hear", func(m *mesh, a, b int32, cut bool) { m.set(b, a, cut) }},
}

// between returns the relays between two nodes.
func (m *mesh) between(a, b int32) map[mlink]*Relay {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[mlink]*Relay)
	for l, r := range m.relays {
		if to := m.names[l.addr]; l.from == a && to == b || l.from == b && to == a {
			out[l] = r
		}
	}
	return out
}

// TestLeaderCutOffInEachWay cuts each node, which leads a partition, from its
// peers in each way. Clients that reach that node only get no acknowledgement
// for anything that they send after the cut; others get them from a new leader.
// After healing nothing acknowledged is missing, and what was read through the
// cut leader is what is there.
func TestLeaderCutOffInEachWay(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	c, m := startMeshed(t)
	for i, cut := range cuts {
		for leader := int32(1); leader <= 3; leader++ {
			cutOff(t, c, m, fmt.Sprintf("cut-%d-%d", i, leader), leader, cut.name, cut.do)
		}
	}
}

func cutOff(t *testing.T, c *Cluster, m *mesh, topic string, leader int32, how string, do func(*mesh, int32, int32, bool)) {
	t.Helper()
	leaders := c.spread(t, topic, 3)
	led := int32(-1)
	for p, id := range leaders {
		if id == leader {
			led = int32(p)
		}
	}
	p := &pinned{addr: c.Member(leader).Node.KafkaAddr()}
	stuck := only(c.writersAs("pinned", topic, 3, 200, 5*time.Millisecond, kgo.Dialer(p.dial)), led)
	free := only(c.writers(topic, 3, 200, 5*time.Millisecond), led)
	all := append(append([]*writer(nil), stuck...), free...)
	r := c.reader(p, topic, led)
	fresh(t, "before the cut", all)
	testetcd.Eventually(t, "records to be read", func() bool { return r.count() > 10 })

	for id := int32(1); id <= 3; id++ {
		if id != leader {
			do(m, leader, id, true)
		}
	}
	s := silent(stuck)
	began := time.Now()
	fresh(t, fmt.Sprintf("of another leader than %d, as %s", leader, how), free)
	t.Logf("node %d, %s: another leader after %v", leader, how, time.Since(began).Round(time.Millisecond))
	pass(t, 500*time.Millisecond)
	s.check(t, how)
	for id := int32(1); id <= 3; id++ {
		if id != leader {
			do(m, leader, id, false)
		}
	}
	p.release()
	fresh(t, "after healing", all)
	c.finish(t, all)
	r.check(t, c.readAll(t, topic, led))
	testetcd.Eventually(t, "all nodes to know each other", func() bool {
		return c.Member(1).Node.Reaches(3) && c.Member(2).Node.Reaches(3) && c.Member(3).Node.Reaches(3)
	})
}

// only keeps the writers of one partition.
func only(all []*writer, partition int32) (some []*writer) {
	for _, w := range all {
		if w.partition == partition {
			some = append(some, w)
		} else {
			w.halt()
		}
	}
	return some
}

// TestLinksFlap cuts and joins single ways between nodes at random, faster than
// the nodes' timeouts and slower.
func TestLinksFlap(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	rnd, rounds := settings(t, 60)
	c, m := startMeshed(t)
	c.spread(t, "numbers", 3)
	all := c.writers("numbers", 3, 200, 5*time.Millisecond)
	var readers []*reader
	for id := int32(1); id <= 3; id++ {
		for p := range int32(3) {
			readers = append(readers, c.reader(&pinned{addr: c.Member(id).Node.KafkaAddr()}, "numbers", p))
		}
	}
	fresh(t, "before", all)
	for range rounds {
		from := 1 + rnd.Int32N(3)
		to := (from+rnd.Int32N(2))%3 + 1
		m.set(from, to, rnd.IntN(2) == 0)
		if rnd.IntN(4) == 0 {
			for _, r := range m.between(from, to) {
				r.Drop()
			}
		}
		pass(t, time.Duration(rnd.IntN(1200))*time.Millisecond)
	}
	for from := int32(1); from <= 3; from++ {
		for to := int32(1); to <= 3; to++ {
			m.set(from, to, false)
		}
	}
	fresh(t, "after healing", all)
	c.finish(t, all)
	for i, r := range readers {
		r.check(t, c.readAll(t, "numbers", int32(i%3)))
	}
}
