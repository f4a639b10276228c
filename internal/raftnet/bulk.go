package raftnet

import (
	"context"
	"fmt"
	"time"
)

// bulkIdle closes a Bulk connection that had nothing to do for so long.
const bulkIdle = 30 * time.Second

// bulkDial is an attempt to open the Bulk connection, shared by all that want it.
type bulkDial struct {
	done chan struct{}
	c    *conn
	err  error
}

// bulkConn opens the Bulk connection if there is none. It fails at once when
// the peer is down.
func (p *peer) bulkConn(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, fmt.Errorf("node %d: %w", p.node, context.Cause(p.ctx))
	case !p.up:
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: %d", ErrNodeDown, p.node)
	case p.bulk != nil && !p.bulk.isBroken():
		defer p.mu.Unlock()
		p.bulk.touch()
		return p.bulk, nil
	}
	d := p.dialing
	if d == nil {
		d = &bulkDial{done: make(chan struct{})}
		p.dialing = d
		p.wg.Go(func() { p.runBulk(d) })
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.c, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *peer) runBulk(d *bulkDial) {
	c, err := p.dial(Bulk, 0)
	p.mu.Lock()
	if err == nil && (p.closed || !p.up) {
		err = fmt.Errorf("%w: %d", ErrNodeDown, p.node)
		defer c.fail(err)
		c = nil
	}
	d.c, d.err = c, err
	p.dialing, p.bulk = nil, c
	p.mu.Unlock()
	close(d.done)
	if err != nil {
		return
	}
	c.run(c.keepReply, c.handleReply)
	p.mu.Lock()
	if p.bulk == c {
		p.bulk = nil
	}
	p.mu.Unlock()
}
