package raftnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// peer is another node: the connections dialled to it, and whether it is up.
type peer struct {
	n      *Net
	node   int32
	m      peerMetrics
	beats  beats
	holds  holds
	ctx    context.Context // ends when the peer is no longer followed
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	wg      sync.WaitGroup // grown under mu while not closed; part of Net.wg
	closed  bool
	changed chan struct{} // closed and replaced at every change that somebody may wait for
	slots   []*slot       // Control, then Data
	bulk    *conn
	dialing *bulkDial
	up      bool
	pong    time.Time // of the last pong
	// quietFrom is since when silence counts: the last pong, or later.
	quietFrom time.Time
	refusal   string // logged last
	life      uint64 // of the peer's process when it was last met; 0 before
	restarted time.Time
	reborn    bool // it is another process than when the peer was last up
}

// slot is one connection that is kept dialled.
type slot struct {
	class Class
	index byte
	cur   *conn         // guarded by peer.mu
	kick  chan struct{} // try again now
}

// newPeer begins to dial. Net.mu is held.
func newPeer(n *Net, node int32) *peer {
	p := &peer{n: n, node: node, m: n.metrics.peer(node), changed: make(chan struct{})}
	p.beats.p, p.holds.p = p, p
	p.ctx, p.cancel = context.WithCancelCause(n.ctx)
	p.slots = append(p.slots, &slot{class: Control, kick: make(chan struct{}, 1)})
	for i := range n.opts.DataConns {
		p.slots = append(p.slots, &slot{class: Data, index: byte(i), kick: make(chan struct{}, 1)})
	}
	p.m.up.Set(0)
	for _, s := range p.slots {
		p.wg.Go(func() { p.keep(s) })
	}
	n.wg.Go(p.wg.Wait)
	return p
}

// attach makes a fresh connection the slot's. It returns false, and breaks the
// connection, if the peer was closed meanwhile.
func (p *peer) attach(s *slot, c *conn) bool {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.fail(ErrClosed)
		return false
	}
	s.cur = c
	if s.class == Control {
		p.quietFrom = time.Now()
	}
	p.changedLocked()
	p.mu.Unlock()
	if s.class == Control {
		p.ping(c)
	}
	return true
}

func (p *peer) detach(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.cur = nil
	p.changedLocked()
}

func (p *peer) changedLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// ping is a pending request: the time at which it was sent comes back.
type ping struct{ p *peer }

func (ping) keeps() bool { return false }

func (g ping) resolve(payload []byte, err error) {
	if err != nil || len(payload) != 8 {
		return
	}
	sent := time.Duration(binary.BigEndian.Uint64(payload))
	g.p.ponged(time.Since(epoch) - sent)
}

// epoch makes monotonic times numbers.
var epoch = time.Now()

func (p *peer) ping(c *conn) {
	var now [8]byte
	binary.BigEndian.PutUint64(now[:], uint64(time.Since(epoch)))
	id := p.n.nextID.Add(1)
	f, err := simpleFrame(kindPing, 0, id, 0, 0, now[:])
	if err != nil {
		return
	}
	c.submit(f, id, ping{p}, nil) // a ping that can't be sent is a pong that is missing
}

func (p *peer) ponged(rtt time.Duration) {
	p.m.pong(rtt)
	now := time.Now()
	p.mu.Lock()
	p.pong, p.quietFrom = now, now
	rise := !p.up && !p.closed && p.slots[0].cur != nil
	if rise {
		p.up = true
		p.m.up.Set(1)
		p.changedLocked()
		p.n.events.publish(PeerEvent{Node: p.node, Up: true, Restarted: p.reborn})
		p.reborn = false
	}
	p.mu.Unlock()
	if rise {
		p.n.opts.Logger.Info("peer is up", "node", p.node)
		p.kick()
	}
}

// meet notes which process answers. One that was restarted so quickly that no
// redial failed was down all the same: what it led has no leader now.
func (p *peer) meet(life uint64) {
	p.mu.Lock()
	another := p.life != 0 && p.life != life
	p.life = life
	p.reborn = p.reborn || another
	if another {
		p.restarted = time.Now()
	}
	p.mu.Unlock()
	if another {
		p.down("its process was restarted")
	}
}

// down marks the peer down and breaks all connections to it.
func (p *peer) down(reason string) {
	p.mu.Lock()
	if !p.up {
		p.mu.Unlock()
		return
	}
	conns := p.downLocked(reason)
	p.mu.Unlock()
	p.n.opts.Logger.Warn("peer is down", "node", p.node, "reason", reason)
	for _, c := range conns {
		c.fail(fmt.Errorf("%w: %s", ErrNodeDown, reason))
	}
}

func (p *peer) downLocked(reason string) []*conn {
	if p.up {
		p.up = false
		p.m.up.Set(0)
		p.n.events.publish(PeerEvent{Node: p.node, Reason: reason})
	}
	p.changedLocked()
	var conns []*conn
	for _, s := range p.slots {
		if s.cur != nil {
			conns = append(conns, s.cur)
		}
	}
	if p.bulk != nil {
		conns = append(conns, p.bulk)
	}
	return conns
}

// close stops dialling and breaks all connections. Net.Close waits for the rest.
func (p *peer) close(cause error) {
	p.cancel(cause)
	p.mu.Lock()
	p.closed = true
	conns := p.downLocked(cause.Error())
	p.mu.Unlock()
	for _, c := range conns {
		c.fail(cause)
	}
}

// tick pings and looks for what is overdue. late says that this process may
// have been paused since the last tick.
func (p *peer) tick(now time.Time, late bool) {
	o := &p.n.opts
	p.mu.Lock()
	if late {
		p.quietFrom = now
	}
	quiet := now.Sub(p.quietFrom)
	up, control := p.up, p.slots[0].cur
	var idle *conn
	if p.bulk != nil && p.bulk.idleSince().Before(now.Add(-bulkIdle)) {
		idle, p.bulk = p.bulk, nil
	}
	conns := make([]*conn, 0, 1+len(p.slots))
	for _, s := range p.slots[1:] {
		if s.cur != nil {
			conns = append(conns, s.cur)
		}
	}
	p.mu.Unlock()
	switch {
	case up && quiet > o.PingTimeout:
		p.down(fmt.Sprintf("no pong for %s", quiet.Round(time.Millisecond)))
	case control != nil && quiet > 3*o.PingTimeout:
		// Connected, never answered: maybe the connection leads nowhere.
		control.fail(errors.New("no pong since it was made"))
	case control != nil:
		p.ping(control)
	}
	for _, c := range conns {
		c.expire(now.Add(-o.DataTimeout))
		if late {
			c.heard.Store(int64(time.Since(epoch)))
		}
		if up && c.probe(p.n, now) {
			c.fail(errors.New("silent, though the peer answers elsewhere"))
		}
	}
	if idle != nil {
		idle.fail(errors.New("idle"))
	}
}

func (p *peer) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

func (p *peer) pongAt() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pong, !p.pong.IsZero()
}

// ready returns the connection of a slot if the peer is up, else why not and a
// channel that is closed at the next change.
func (p *peer) ready(slot int) (*conn, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, nil, fmt.Errorf("node %d: %w", p.node, context.Cause(p.ctx))
	case !p.up || p.slots[slot].cur == nil || p.slots[slot].cur.isBroken():
		return nil, p.changed, fmt.Errorf("%w: %d", ErrNodeDown, p.node)
	}
	return p.slots[slot].cur, nil, nil
}

// controlConn fails at once when the peer is down.
func (p *peer) controlConn() (*conn, error) {
	c, _, err := p.ready(0)
	return c, err
}

// dataSlot is the slot that carries a replica's appends.
func (p *peer) dataSlot(replica uint64) int {
	return 1 + int((replica*0x9E3779B97F4A7C15)>>33)%(len(p.slots)-1)
}
