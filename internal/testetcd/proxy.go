package testetcd

import (
	"io"
	"net"
	"sync"
)

// proxy stands between the clients and one member. It lets a member stop at
// once (etcd waits some 5 s for open streams), and fail on the network alone.
type proxy struct {
	listener net.Listener
	target   string
	answer   func(to io.Writer, from net.Conn) // passes on what the member says; nil: io.Copy
	wg       sync.WaitGroup

	frozen sync.RWMutex // held for writing while no byte passes

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

func newProxy(listen, target string) (*proxy, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.track(in) {
			p.wg.Go(func() { p.serve(in) })
		}
	}
}

// track remembers a connection for close; false when that has happened.
func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) serve(in net.Conn) {
	out, err := net.Dial("tcp", p.target)
	if err != nil || !p.track(out) {
		in.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in, nil) })
	both.Go(func() { p.copy(in, out, p.answer) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, in)
	delete(p.conns, out)
}

func (p *proxy) copy(to, from net.Conn, with func(io.Writer, net.Conn)) {
	defer to.Close()
	defer from.Close()
	if with != nil {
		with(gated{to, p}, from)
		return
	}
	io.Copy(gated{to, p}, from)
}

type gated struct {
	io.Writer
	p *proxy
}

func (g gated) Write(b []byte) (int, error) {
	g.p.frozen.RLock()
	defer g.p.frozen.RUnlock()
	return g.Writer.Write(b)
}

// close ends the listener and every connection, and waits. It must not be
// frozen.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}
