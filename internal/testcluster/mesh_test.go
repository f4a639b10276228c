package testcluster

import (
	"context"
	"net"
	"sync"
)

// mesh is a relay for each ordered pair of nodes, so that each direction
// between two nodes can be cut by itself and in silence.
type mesh struct {
	mu     sync.Mutex
	names  map[string]int32
	relays map[mlink]*Relay
	cuts   map[[2]int32]bool // from, to
}

type mlink struct {
	from int32
	addr string
}

func newMesh() *mesh {
	return &mesh{names: make(map[string]int32), relays: make(map[mlink]*Relay), cuts: make(map[[2]int32]bool)}
}

// dialer replaces a node's Dial.
func (m *mesh) dialer(from int32) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		m.mu.Lock()
		r := m.relays[mlink{from, addr}]
		if r == nil {
			var err error
			if r, err = NewRelay(addr); err != nil {
				m.mu.Unlock()
				return nil, err
			}
			m.relays[mlink{from, addr}] = r
			m.applyLocked()
		}
		m.mu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", r.Addr())
	}
}

// name says who listens at an address.
func (m *mesh) name(addr string, id int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names[addr] = id
}

// set cuts or joins the way from one node to another.
func (m *mesh) set(from, to int32, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cuts[[2]int32{from, to}] = cut
	m.applyLocked()
}

func (m *mesh) applyLocked() {
	way := map[bool]Valve{false: Open, true: Held}
	for l, r := range m.relays {
		to := m.names[l.addr]
		r.Turn(way[m.cuts[[2]int32{l.from, to}]], way[m.cuts[[2]int32{to, l.from}]], 0)
	}
}

func (m *mesh) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.relays {
		r.Close()
	}
}
