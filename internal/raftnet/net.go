package raftnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Net is a node's end of the network between nodes.
type Net struct {
	opts    Options
	metrics *metrics
	events  *events
	ctx     context.Context // ends at Close
	cancel  context.CancelCauseFunc
	life    uint64        // tells this process from one before it, never 0
	nextID  atomic.Uint64 // request ids
	inbox   atomic.Int64  // bytes that wait for raft, all groups together
	door    *doorway

	handlers [256]func(from int32, payload []byte) ([]byte, error) // fixed by Start
	groups   sync.Map                                              // replica uint64 -> *Transport

	mu       sync.Mutex
	wg       sync.WaitGroup // grown under mu while not closed
	started  bool
	closed   bool
	peers    map[int32]*peer
	accepted map[*conn]struct{}
	control  map[int32]*pool // Control handlers' work, by peer
	// healthy is closed while the node is healthy.
	healthy   chan struct{}
	isHealthy bool
}

// New makes a Net. It takes the listener over, even when it fails.
func New(opts Options) (*Net, error) {
	n, err := newNet(opts)
	if err != nil && opts.Listener != nil {
		opts.Listener.Close()
	}
	return n, err
}

func newNet(opts Options) (*Net, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("raftnet: %w", err)
	}
	n := &Net{
		opts: opts, metrics: m, events: newEvents(), life: rand.Uint64() | 1,
		peers: make(map[int32]*peer), accepted: make(map[*conn]struct{}), control: make(map[int32]*pool),
		healthy: make(chan struct{}), isHealthy: true, door: newDoorway(),
	}
	close(n.healthy)
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	return n, nil
}

// Start begins to accept and to dial. All of Handle comes before it.
func (n *Net) Start() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	if n.started {
		n.mu.Unlock()
		return errors.New("BUG: raftnet was started twice")
	}
	n.started = true
	n.wg.Go(n.accept)
	n.wg.Go(n.events.run)
	n.wg.Go(n.ticks)
	n.mu.Unlock()
	n.Refresh()
	return nil
}

// Close breaks all connections, fails all calls and closes all transports, and
// waits for everything that Net started, handlers included. It may be called
// more than once.
func (n *Net) Close() error {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	peers := n.peers
	if first {
		n.peers = make(map[int32]*peer)
	}
	accepted := make([]*conn, 0, len(n.accepted))
	for c := range n.accepted {
		accepted = append(accepted, c)
	}
	n.mu.Unlock()
	if first {
		n.cancel(ErrClosed)
		n.events.close()
		n.opts.Listener.Close()
		n.groups.Range(func(_, t any) bool {
			t.(*Transport).shut()
			return true
		})
		for _, c := range accepted {
			c.fail(ErrClosed)
		}
		for _, p := range peers {
			p.close(ErrClosed)
		}
	}
	n.wg.Wait()
	if first {
		n.metrics.unregister()
	}
	return nil
}

// spawn runs f on a goroutine that Close waits for. It returns false after Close.
func (n *Net) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.wg.Go(f)
	return true
}

// ticks pings, and looks for what is overdue.
func (n *Net) ticks() {
	tick := time.NewTicker(n.opts.PingInterval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		// The process itself may have been paused: the peers' pongs may be
		// waiting in the socket.
		late := now.Sub(last) > 2*n.opts.PingInterval+n.opts.PingTimeout/4
		last = now
		n.checkHealth()
		n.followResolver(false)
		for _, p := range n.allPeers() {
			p.tick(now, late)
			p.holds.tick(now)
		}
	}
}

// checkHealth opens or closes the gate of appends. When it closes, the
// connections that peers have made break, and none is accepted: they see at once
// that this node is lost. It still reaches them.
func (n *Net) checkHealth() bool {
	healthy := n.opts.Healthy()
	var accepted []*conn
	n.mu.Lock()
	if healthy != n.isHealthy {
		n.isHealthy = healthy
		if healthy {
			close(n.healthy)
		} else {
			n.healthy = make(chan struct{})
			accepted = slices.Collect(maps.Keys(n.accepted))
		}
	}
	n.mu.Unlock()
	for _, c := range accepted {
		c.fail(ErrUnhealthy)
	}
	return healthy
}

// healthGate returns nil while the node is healthy, else a channel that is
// closed once it is.
func (n *Net) healthGate() <-chan struct{} {
	if n.opts.Healthy() || n.checkHealth() {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.healthy
}

// Refresh asks the resolver again and tries unconnected peers at once.
func (n *Net) Refresh() { n.followResolver(true) }

// followResolver makes the peers those of the resolver.
func (n *Net) followResolver(kick bool) {
	want := make(map[int32]bool)
	for _, node := range n.opts.Resolver.Peers() {
		if node != n.opts.Identity.NodeID {
			want[node] = true
		}
	}
	var gone []*peer
	n.mu.Lock()
	if n.closed || !n.started {
		n.mu.Unlock()
		return
	}
	for node := range want {
		if _, ok := n.peers[node]; !ok {
			n.peers[node] = newPeer(n, node)
		}
	}
	for node, p := range n.peers {
		if !want[node] {
			delete(n.peers, node)
			gone = append(gone, p)
		}
	}
	n.mu.Unlock()
	for _, p := range gone {
		p.close(ErrUnknownNode)
		n.metrics.forget(p.node)
	}
	if kick {
		for _, p := range n.allPeers() {
			p.kick()
		}
	}
}

func (n *Net) allPeers() []*peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*peer, 0, len(n.peers))
	for _, p := range n.peers {
		all = append(all, p)
	}
	return all
}

// peer returns a node's peer, after a look at the resolver if there is none yet.
func (n *Net) peer(node int32) (*peer, error) {
	p, ok := n.knownPeer(node)
	if !ok {
		n.followResolver(false)
		p, ok = n.knownPeer(node)
	}
	switch {
	case ok:
		return p, nil
	case n.ctx.Err() != nil:
		return nil, ErrClosed
	case node == n.opts.Identity.NodeID:
		return nil, fmt.Errorf("%w: %d is this node itself", ErrUnknownNode, node)
	}
	return nil, fmt.Errorf("%w: %d", ErrUnknownNode, node)
}

func (n *Net) knownPeer(node int32) (*peer, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.peers[node]
	return p, ok
}

// peerOf returns the peer that holds a replica.
func (n *Net) peerOf(replica uint64) (*peer, error) {
	node, ok := n.opts.Resolver.NodeOf(replica)
	if !ok {
		return nil, fmt.Errorf("%w: %d is on no known node", ErrUnknownReplica, replica)
	}
	return n.peer(node)
}

// Watch has f told every change of a peer from now on, one call at a time.
// Events wait while f runs: it should hand long work on.
func (n *Net) Watch(f func(PeerEvent)) { n.events.watch(f) }

// Alive reports whether a peer is up.
func (n *Net) Alive(node int32) bool {
	p, ok := n.knownPeer(node)
	return ok && p.alive()
}

// Restarted is when a peer was first met again as another process; zero if this one
// has seen no restart of it.
func (n *Net) Restarted(node int32) time.Time {
	p, ok := n.knownPeer(node)
	if !ok {
		return time.Time{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.restarted
}

// LastPong is when a peer last answered a ping; false if it never did.
func (n *Net) LastPong(node int32) (time.Time, bool) {
	p, ok := n.knownPeer(node)
	if !ok {
		return time.Time{}, false
	}
	return p.pongAt()
}

// AllAlive reports whether all peers are up.
func (n *Net) AllAlive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		if !p.alive() {
			return false
		}
	}
	return true
}
