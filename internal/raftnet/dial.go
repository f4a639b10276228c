package raftnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

const (
	minRedial = 50 * time.Millisecond
	maxRedial = time.Second
)

// keep keeps one slot connected until the peer is closed.
func (p *peer) keep(s *slot) {
	var delay time.Duration
	var lastBreak time.Time
	for p.ctx.Err() == nil {
		c, err := p.dial(s.class, s.index)
		if err != nil {
			if s.class == Control {
				p.down(fmt.Sprintf("connection broke or could not be made: %v", err))
			}
			delay = min(max(2*delay, minRedial), maxRedial)
			if p.pause(s, delay) {
				delay = 0
			}
			continue
		}
		delay = 0
		if p.attach(s, c) {
			c.run(c.keepReply, c.handleReply)
			p.detach(s)
		}
		// One redial at once; a connection that keeps breaking is paced.
		if time.Since(lastBreak) < 5*minRedial {
			p.pause(s, minRedial)
		}
		lastBreak = time.Now()
	}
}

// pause waits, with jitter; it returns true if the slot was kicked.
func (p *peer) pause(s *slot, d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-s.kick:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// kick has all unconnected slots try again at once.
func (p *peer) kick() {
	for _, s := range p.slots {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// dial opens a connection and shakes hands.
func (p *peer) dial(class Class, slot byte) (*conn, error) {
	c, err := p.tryDial(class, slot)
	var refused *refusedError
	switch {
	case err == nil:
		p.n.metrics.dials.WithLabelValues("ok").Inc()
		p.noteRefusal("")
	case errors.As(err, &refused):
		p.n.metrics.dials.WithLabelValues("refused").Inc()
		p.noteRefusal(refused.reason)
	default:
		p.n.metrics.dials.WithLabelValues("failed").Inc()
	}
	return c, err
}

// noteRefusal logs a reason once, until it changes.
func (p *peer) noteRefusal(reason string) {
	p.mu.Lock()
	fresh := reason != p.refusal
	p.refusal = reason
	p.mu.Unlock()
	if fresh && reason != "" {
		p.n.opts.Logger.Warn("a peer's address answers, but refuses this node; check its address and cluster", "node", p.node, "reason", reason)
	}
}

func (p *peer) tryDial(class Class, slot byte) (*conn, error) {
	o := &p.n.opts
	addr, ok := o.Resolver.PeerAddr(p.node)
	if !ok {
		return nil, fmt.Errorf("%w: no address of node %d is known", ErrUnknownNode, p.node)
	}
	ctx, cancel := context.WithTimeout(p.ctx, o.PingTimeout)
	defer cancel()
	nc, err := o.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	a, err := p.shakeHands(ctx, nc, class, slot)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	if class == Control {
		p.meet(a.life)
	}
	return newConn(nc, class, slot, p.node, a.from.Incarnation, p.n.metrics), nil
}

func (p *peer) shakeHands(ctx context.Context, nc net.Conn, class Class, slot byte) (answer, error) {
	o := &p.n.opts
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	h := hello{version: protocolVersion, lowest: lowestVersion, from: o.Identity, target: p.node, class: class, slot: slot}
	if _, err := nc.Write(h.encode()); err != nil {
		return answer{}, err
	}
	a, err := readAnswer(nc)
	if err != nil {
		return answer{}, err
	}
	if err := judgeAnswer(a, o.Identity, p.node, o.CheckPeer); err != nil {
		return answer{}, err
	}
	if !stop() {
		return answer{}, ctx.Err()
	}
	return a, nil
}
