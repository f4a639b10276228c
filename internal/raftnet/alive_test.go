package raftnet

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// deaf swallows what is written to it once it is told to, as a connection does
// that a firewall has forgotten.
type deaf struct {
	net.Conn
	on *atomic.Bool
}

func (d *deaf) Write(p []byte) (int, error) {
	if d.on.Load() {
		return len(p), nil
	}
	return d.Conn.Write(p)
}

// TestDeadDataConnection: appends get through soon although the connections that
// carried them lead nowhere any more, while the Control connection is well.
func TestDeadDataConnection(t *testing.T) {
	var (
		mu   sync.Mutex
		made []*deaf
	)
	_, a, _, ta, tb := pair(t, func(o *Options) {
		o.PingInterval, o.PingTimeout = 20*time.Millisecond, 100*time.Millisecond
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, &deaf{c, new(atomic.Bool)})
			return made[len(made)-1], nil
		}
	})
	respond(t, tb, nil)
	p, _ := a.knownPeer(2)
	p.mu.Lock()
	control := p.slots[0].cur.nc
	p.mu.Unlock()
	mu.Lock()
	for _, c := range made {
		if c != control {
			c.on.Store(true)
		}
	}
	mu.Unlock()
	id, addr := serverOf(replica(1, 2))
	within(t, 15*time.Second, "an append", func() {
		if err := ta.AppendEntries(id, addr, entries(1, 1, 10), new(raft.AppendEntriesResponse)); err != nil {
			t.Error(err)
		}
	})
	if !a.Alive(2) {
		t.Error("the node counts as down")
	}
}

// TestBusyRaftKeepsItsConnection: a raft that does not answer for long is no
// reason to break the connection under the other groups.
func TestBusyRaftKeepsItsConnection(t *testing.T) {
	_, a, _, ta, tb := pair(t, func(o *Options) { o.PingInterval, o.PingTimeout = 20*time.Millisecond, 100*time.Millisecond })
	id, addr := serverOf(replica(1, 2))
	p, _ := a.knownPeer(2)
	p.mu.Lock()
	before := p.slots[p.dataSlot(replica(1, 2))].cur
	p.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- ta.AppendEntries(id, addr, entries(1, 1, 10), new(raft.AppendEntriesResponse)) }()
	since := time.Now()
	waitFor(t, "more than the patience", func() bool { return time.Since(since) > 2*probePatience*100*time.Millisecond })
	if before.isBroken() {
		t.Error("the connection was broken")
	}
	respond(t, tb, nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
