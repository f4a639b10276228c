package node

import (
	"context"
	"sync"
	"time"
)

// pace spaces out bytes so that no more than rate of them pass in a second.
type pace struct {
	rate int64 // bytes per second; 0 or less is no limit

	mu   sync.Mutex
	free time.Time // when all that was let pass is paid for
}

// wait returns when n bytes may pass, or ctx has ended. What was not used in
// the past is not saved up.
func (p *pace) wait(ctx context.Context, n int64) error {
	if p.rate <= 0 {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	delay := p.free.Sub(now)
	p.mu.Unlock()
	return pause(ctx, delay)
}

// pause returns after a time, or when ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
