package replication

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// faultNet is a network whose ways can be cut, one direction at a time, slowed
// down and broken. It is made of TCP, or of pipes for tests with fake time.
type faultNet struct {
	pipes bool

	mu        sync.Mutex
	listeners map[int32]*pipeListener
	names     map[string]int32 // TCP address -> node
	ways      map[way]*wayState
	conns     map[*faultConn]bool
}

type way struct{ from, to int32 }

type wayState struct {
	open   chan struct{} // closed while bytes pass
	cut    bool
	noDial bool
	delay  time.Duration
}

func newFaultNet(pipes bool) *faultNet {
	return &faultNet{pipes: pipes, listeners: make(map[int32]*pipeListener), names: make(map[string]int32), ways: make(map[way]*wayState), conns: make(map[*faultConn]bool)}
}

func (n *faultNet) wayLocked(w way) *wayState {
	s := n.ways[w]
	if s == nil {
		s = &wayState{open: make(chan struct{})}
		close(s.open)
		n.ways[w] = s
	}
	return s
}

// set cuts or opens one direction: bytes are held while it is cut.
func (n *faultNet) set(from, to int32, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.wayLocked(way{from, to})
	if cut == s.cut {
		return
	}
	if s.cut = cut; cut {
		s.open = make(chan struct{})
	} else {
		close(s.open)
	}
}

func (n *faultNet) refuse(from, to int32, no bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wayLocked(way{from, to}).noDial = no
}

func (n *faultNet) slow(from, to int32, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wayLocked(way{from, to}).delay = delay
}

// drop breaks the connections that one node made to another.
func (n *faultNet) drop(from, to int32) {
	n.mu.Lock()
	var broken []*faultConn
	for c := range n.conns {
		if c.out == (way{from, to}) {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		c.Close()
	}
}

// heal ends all faults.
func (n *faultNet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.ways {
		if s.cut {
			close(s.open)
		}
		s.cut, s.noDial, s.delay = false, false, 0
	}
}

// listen opens a node's end.
func (n *faultNet) listen(node int32, addr string) (net.Listener, error) {
	if !n.pipes {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			n.mu.Lock()
			n.names[ln.Addr().String()] = node
			n.mu.Unlock()
		}
		return ln, err
	}
	l := &pipeListener{name: pipeAddr(node), in: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[node] = l
	n.names[l.name.String()] = node
	return l, nil
}

var errRefused = errors.New("connection refused")

func (n *faultNet) dialer(from int32) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		n.mu.Lock()
		to := n.names[addr]
		l := n.listeners[to]
		there, back := n.wayLocked(way{from, to}), n.wayLocked(way{to, from})
		lost, no := there.cut || back.cut, there.noDial
		n.mu.Unlock()
		if lost {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		if no {
			return nil, errRefused
		}
		var (
			under net.Conn
			err   error
		)
		if n.pipes {
			under, err = l.dial(ctx)
		} else {
			var d net.Dialer
			under, err = d.DialContext(ctx, "tcp", addr)
		}
		if err != nil {
			return nil, err
		}
		c := &faultConn{Conn: under, n: n, out: way{from, to}, closed: make(chan struct{})}
		n.mu.Lock()
		n.conns[c] = true
		n.mu.Unlock()
		return c, nil
	}
}

// faultConn is the dialler's end of a connection; it stands for both ways.
type faultConn struct {
	net.Conn
	n      *faultNet
	out    way
	once   sync.Once
	closed chan struct{}
}

// pass waits until bytes pass in a direction, then for its delay.
func (c *faultConn) pass(w way) error {
	for {
		c.n.mu.Lock()
		s := c.n.wayLocked(w)
		open, cut, delay := s.open, s.cut, s.delay
		c.n.mu.Unlock()
		if !cut {
			if delay == 0 {
				return nil
			}
			t := time.NewTimer(delay)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-c.closed:
				return net.ErrClosed
			}
		}
		select {
		case <-open:
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

func (c *faultConn) Write(p []byte) (int, error) {
	if err := c.pass(c.out); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *faultConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil {
		if gone := c.pass(way{c.out.to, c.out.from}); gone != nil {
			return 0, gone
		}
	}
	return n, err
}

// SetDeadline in the past ends what waits at a cut, too.
func (c *faultConn) SetDeadline(t time.Time) error {
	if !t.IsZero() && t.Before(time.Now()) {
		c.once.Do(func() { close(c.closed) })
	}
	return c.Conn.SetDeadline(t)
}

func (c *faultConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.n.mu.Lock()
	delete(c.n.conns, c)
	c.n.mu.Unlock()
	return c.Conn.Close()
}

type pipeAddr int32

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return "node " + string(rune('0'+a)) }

type pipeListener struct {
	name pipeAddr
	in   chan net.Conn
	once sync.Once
	done chan struct{}
}

func (l *pipeListener) Addr() net.Addr { return l.name }
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.in <- there:
		return here, nil
	case <-l.done:
		return nil, errRefused
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
