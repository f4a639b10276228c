package raftnet

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/raftsman/raftsman/internal/identity"
)

const handshakeTimeout = 5 * time.Second

// accept takes connections until the listener is closed.
func (n *Net) accept() {
	pause := 5 * time.Millisecond
	for {
		nc, err := n.opts.Listener.Accept()
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			n.opts.Logger.Warn("can't accept a peer's connection", "err", err)
			select {
			case <-n.ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		host := hostOf(nc)
		if !n.door.enter(host) {
			nc.Close()
			if n.door.mayTell(host, time.Now()) {
				n.opts.Logger.Warn("too many connections on the peer port are in their handshake: some are closed unheard",
					"remote", nc.RemoteAddr(), "limit", maxHandshakes, "limit_per_address", maxHostHandshakes)
			}
			continue
		}
		ok := n.spawn(func() { n.serve(nc, func() { n.door.leave(host) }) })
		if !ok {
			nc.Close()
			n.door.leave(host)
		}
	}
}

// serve shakes hands and then handles requests until the connection breaks.
func (n *Net) serve(nc net.Conn, shaken func()) {
	if !n.opts.Healthy() {
		shaken()
		nc.Close()
		return
	}
	c, err := n.welcome(nc)
	shaken()
	if err != nil {
		nc.Close()
		n.turnedDown(nc, err)
		return
	}
	if c.class == Control {
		if p, ok := n.knownPeer(c.node); ok {
			p.kick() // it is there, so it can be reached
		}
	}
	s := &server{n: n, c: c, bulk: make(map[byte]*pool)}
	err = c.run(s.keep, s.handle)
	n.forgetAccepted(c)
	n.opts.Logger.Debug("a peer's connection ended", "node", c.node, "class", c.class, "err", err)
}

// welcome is the acceptor's side of the handshake.
func (n *Net) welcome(nc net.Conn) (*conn, error) {
	nc.SetDeadline(time.Now().Add(handshakeTimeout))
	stop := context.AfterFunc(n.ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	h, err := readHello(nc)
	if err != nil {
		return nil, err
	}
	version, reason := judge(h, n.opts.Identity, n.opts.CheckPeer)
	a := answer{version: version, lowest: lowestVersion, from: n.opts.Identity, life: n.life, reason: reason}
	if reason != "" {
		a.version, a.status = protocolVersion, statusRefused
	}
	if _, err := nc.Write(a.encode()); err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, &refusedError{reason}
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c := newConn(nc, h.class, h.slot, h.from.NodeID, h.from.Incarnation, n.metrics)
	return c, n.admit(c, h.from)
}

// admit notes an accepted connection and breaks those that it replaces.
func (n *Net) admit(c *conn, from identity.Identity) error {
	var old []*conn
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	for o := range n.accepted {
		if o.node == from.NodeID && (o.incarnation != from.Incarnation || o.class == c.class && o.slot == c.slot) {
			old = append(old, o)
			delete(n.accepted, o)
		}
	}
	n.accepted[c] = struct{}{}
	n.mu.Unlock()
	for _, o := range old {
		o.fail(errors.New("replaced by a newer connection"))
	}
	return nil
}

func (n *Net) forgetAccepted(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.accepted, c)
}
