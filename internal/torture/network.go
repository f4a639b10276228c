package torture

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/raftnet"
)

// network stands between the nodes: each is told to others by the address of a wire
// of its own, and who dials is read from the first bytes of a connection. So every
// direction of every pair has its own rule, for nodes in this process and in others.
type network struct {
	mu     sync.Mutex
	turned sync.Cond
	rules  map[[2]int32]rule // from, to
	wires  []*wire
	closed bool
}

// rule is what becomes of bytes in one direction. The zero rule lets them pass.
type rule struct {
	held  bool          // they wait, as if packets were lost for as long
	delay time.Duration // each arrives that much later
	stall float64       // how probably a chunk comes a retransmission later
}

// retransmission is what a lost packet costs.
const retransmission = 200 * time.Millisecond

func newNetwork() *network {
	n := &network{rules: make(map[[2]int32]rule)}
	n.turned.L = &n.mu
	return n
}

// wire passes connections on to one target.
type wire struct {
	net    *network
	ln     net.Listener
	target string
	node   int32 // whose it is
	peers  bool  // who dials is a node
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn][2]int32 // nil: closed
}

// etcdNode is etcd's number in rules.
const etcdNode = 0

// wire listens for connections to a node, from nodes or, for etcd, from anybody.
func (n *network) wire(node int32, target string, peers bool) (*wire, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{net: n, ln: ln, target: target, node: node, peers: peers, conns: make(map[net.Conn][2]int32)}
	n.mu.Lock()
	n.wires = append(n.wires, w)
	n.mu.Unlock()
	w.wg.Go(w.accept)
	return w, nil
}

func (w *wire) addr() string { return w.ln.Addr().String() }

// set changes the rules of directions; reset breaks their connections too.
func (n *network) set(r rule, reset bool, directions ...[2]int32) {
	n.mu.Lock()
	for _, d := range directions {
		if r == (rule{}) {
			delete(n.rules, d)
		} else {
			n.rules[d] = r
		}
	}
	n.turned.Broadcast()
	wires := n.wires
	n.mu.Unlock()
	if !reset {
		return
	}
	for _, w := range wires {
		for _, d := range directions {
			w.reset(d)
		}
	}
}

// reset breaks connections in either direction of a pair, as a machine that dies does.
func (w *wire) reset(d [2]int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, pair := range w.conns {
		if pair == d || pair == [2]int32{d[1], d[0]} {
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}
}

func (n *network) close() {
	n.mu.Lock()
	n.closed = true
	n.turned.Broadcast()
	wires := n.wires
	n.mu.Unlock()
	for _, w := range wires {
		w.ln.Close()
		w.mu.Lock()
		for c := range w.conns {
			c.Close()
		}
		w.conns = nil
		w.mu.Unlock()
		w.wg.Wait()
	}
}

// pass waits until bytes may go, and says how much later they are to arrive; false:
// everything ends.
func (n *network) pass(d [2]int32) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.rules[d].held && !n.closed {
		n.turned.Wait()
	}
	r := n.rules[d]
	if r.stall > 0 && rand.Float64() < r.stall {
		r.delay += retransmission
	}
	return r.delay, !n.closed
}

func (w *wire) accept() {
	for {
		in, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.serve(in) })
	}
}

// track remembers a connection; false: everything ends.
func (w *wire) track(c net.Conn, pair [2]int32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns != nil {
		w.conns[c] = pair
	}
	return w.conns != nil
}

func (w *wire) forget(c net.Conn) {
	c.Close()
	w.mu.Lock()
	delete(w.conns, c)
	w.mu.Unlock()
}

// callerTimeout is how long a node may take to say who it is.
const callerTimeout = 10 * time.Second

func (w *wire) serve(in net.Conn) {
	defer w.forget(in)
	if !w.track(in, [2]int32{-1, w.node}) {
		return
	}
	from := int32(-1)
	var first bytes.Buffer
	if w.peers {
		in.SetReadDeadline(time.Now().Add(callerTimeout))
		var err error
		if from, err = raftnet.Caller(io.TeeReader(in, &first)); err != nil {
			return
		}
		in.SetReadDeadline(time.Time{})
		if !w.track(in, [2]int32{from, w.node}) {
			return
		}
	}
	out, err := net.DialTimeout("tcp", w.target, callerTimeout)
	if err != nil {
		in.(*net.TCPConn).SetLinger(0) // as a port where nobody listens
		return
	}
	defer w.forget(out)
	if !w.track(out, [2]int32{from, w.node}) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(out, io.MultiReader(&first, in), in, [2]int32{from, w.node}) })
	both.Go(func() { w.copy(in, out, out, [2]int32{w.node, from}) })
	both.Wait()
}

type chunk struct {
	b   []byte
	due time.Time
}

// copy passes bytes on in order, each when it is due.
func (w *wire) copy(to net.Conn, from io.Reader, source net.Conn, d [2]int32) {
	defer source.Close() // whoever reads learns of a failed write
	chunks := make(chan chunk, 32)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer to.Close()
		for c := range chunks {
			<-time.After(time.Until(c.due))
			if _, err := to.Write(c.b); err != nil {
				source.Close()
				for range chunks { // until its sender has noticed
				}
			}
		}
	})
	defer wg.Wait()
	defer close(chunks)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			delay, on := w.net.pass(d)
			if !on {
				return
			}
			chunks <- chunk{buf[:n], time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}
