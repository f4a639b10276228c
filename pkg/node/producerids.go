package node

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// producerBlock is how many producer ids are taken from etcd at once.
const (
	producerBlock = 1000
	refillTimeout = 5 * time.Second
)

// producerIDs hands out producer ids from blocks that etcd gave to this node.
// A second block is kept in reserve, so that new producers get an id while
// etcd is away.
type producerIDs struct {
	alloc func(ctx context.Context, n int64) (first int64, err error)
	log   *slog.Logger

	mu      sync.Mutex
	blocks  []idBlock
	filling bool
	wg      sync.WaitGroup
}

type idBlock struct{ next, end int64 }

// take returns an id that was never given out before.
func (p *producerIDs) take(ctx context.Context) (int64, error) {
	if id, ok := p.local(); ok {
		p.refill(ctx)
		return id, nil
	}
	first, err := p.alloc(ctx, producerBlock)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks = append(p.blocks, idBlock{first + 1, first + producerBlock})
	return first, nil
}

func (p *producerIDs) local() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.blocks) > 0 {
		b := &p.blocks[0]
		if b.next < b.end {
			b.next++
			return b.next - 1, true
		}
		p.blocks = p.blocks[1:]
	}
	return 0, false
}

// refill takes another block when less than one is left, beside the caller.
func (p *producerIDs) refill(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left int64
	for _, b := range p.blocks {
		left += b.end - b.next
	}
	if p.filling || left >= producerBlock {
		return
	}
	p.filling = true
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refillTimeout)
		defer cancel()
		first, err := p.alloc(ctx, producerBlock)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.filling = false
		if err != nil {
			p.log.Debug("no producer ids in reserve, trying again with the next one", "err", err)
			return
		}
		p.blocks = append(p.blocks, idBlock{first, first + producerBlock})
	})
}

// close waits for a refill under way.
func (p *producerIDs) close() { p.wg.Wait() }
