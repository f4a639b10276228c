package testcluster

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Network is what the nodes dial each other through. A cut pair can't connect,
// and its connections break.
type Network struct {
	mu    sync.Mutex
	names map[string]int32 // peer address → node
	cut   map[[2]int32]bool
	conns map[*conn]bool
}

type conn struct {
	net.Conn
	network *Network
	pair    [2]int32
}

func newNetwork() *Network {
	return &Network{names: make(map[string]int32), cut: make(map[[2]int32]bool), conns: make(map[*conn]bool)}
}

func pair(a, b int32) [2]int32 { return [2]int32{min(a, b), max(a, b)} }

func (n *Network) name(addr string, id int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[addr] = id
}

func (n *Network) listen(network, addr string) (net.Listener, error) {
	return net.Listen(network, addr)
}

var errCut = errors.New("network is cut")

func (n *Network) dialer(from int32) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		n.mu.Lock()
		p := pair(from, n.names[addr])
		cut := n.cut[p]
		n.mu.Unlock()
		if cut {
			return nil, errCut
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		tracked := &conn{Conn: c, network: n, pair: p}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.cut[p] {
			c.Close()
			return nil, errCut
		}
		n.conns[tracked] = true
		return tracked, nil
	}
}

// Close forgets the connection.
func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

// Cut separates two nodes; Heal joins them again.
func (n *Network) Cut(a, b int32) {
	n.mu.Lock()
	n.cut[pair(a, b)] = true
	var broken []*conn
	for c := range n.conns {
		if c.pair == pair(a, b) {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		c.Close()
	}
}

// Heal joins two nodes that were cut.
func (n *Network) Heal(a, b int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, pair(a, b))
}
