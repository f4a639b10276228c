package testcluster

import (
	"net"
	"sync"
)

// Valve is one direction of a Relay.
type Valve int

// What a Valve does with bytes.
const (
	Open    Valve = iota
	Held          // they wait, as in a network that drops packets silently
	Swallow       // they are lost: the connection never gets any again
)

// Relay passes TCP connections on to a target, as long as its valves let it.
type Relay struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu     sync.Mutex
	turned sync.Cond
	up     Valve
	down   Valve
	spare  int // bytes that still pass down before it swallows
	lost   int // bytes that were swallowed
	closed bool
	conns  map[net.Conn]bool
}

// NewRelay listens on a port of its own.
func NewRelay(target string) (*Relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{ln: ln, target: target, conns: make(map[net.Conn]bool)}
	r.turned.L = &r.mu
	r.wg.Go(r.accept)
	return r, nil
}

// Addr is where it listens.
func (r *Relay) Addr() string { return r.ln.Addr().String() }

// Turn sets the valves: up is towards the target. The first spare bytes still pass
// down before that swallows.
func (r *Relay) Turn(up, down Valve, spare int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up, r.down, r.spare = up, down, spare
	r.turned.Broadcast()
}

// Aim gives it another target.
func (r *Relay) Aim(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// Swallowed is the number of bytes lost so far.
func (r *Relay) Swallowed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Drop breaks all connections.
func (r *Relay) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.(*net.TCPConn).SetLinger(0) // as when a machine dies
		c.Close()
	}
}

// Close ends it and all its connections, and waits.
func (r *Relay) Close() {
	r.ln.Close()
	r.mu.Lock()
	r.closed = true
	r.turned.Broadcast()
	r.mu.Unlock()
	r.Drop()
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		in, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(in) })
	}
}

func (r *Relay) serve(in net.Conn) {
	defer in.Close()
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		// As a port where nobody listens, not as a server that hangs up.
		in.(*net.TCPConn).SetLinger(0)
		return
	}
	defer out.Close()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.conns[in], r.conns[out] = true, true
	r.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { r.copy(out, in, &r.up, false) })
	wg.Go(func() { r.copy(in, out, &r.down, true) })
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, in)
	delete(r.conns, out)
}

func (r *Relay) copy(to, from net.Conn, v *Valve, down bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	broken := false // bytes were swallowed
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for *v == Held && !r.closed {
			r.turned.Wait()
		}
		pass := n
		if broken || *v == Swallow {
			pass = 0
			if down && !broken {
				pass = min(n, r.spare)
				r.spare -= pass
			}
			if pass < n {
				broken = true
				r.lost += n - pass
			}
		}
		r.mu.Unlock()
		if _, werr := to.Write(buf[:pass]); err != nil || werr != nil {
			if broken {
				to.(*net.TCPConn).SetLinger(0) // what follows the gap is no orderly end
			}
			return
		}
	}
}
