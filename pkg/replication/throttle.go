package replication

import (
	"context"
	"sync"
	"time"
)

// throttle spaces out bytes so that no more than rate of them pass in a second,
// over all its callers together, in the order in which they come. A rate of 0
// lets everything pass.
type throttle struct {
	rate  int64 // bytes per second
	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	mu   sync.Mutex
	free time.Time // when all that was let pass is paid for
}

func newThrottle(rate int64) *throttle {
	return &throttle{rate: rate, now: time.Now, after: time.After}
}

// reserve says how long n bytes have to wait. What was not used in the past is
// not saved up.
func (t *throttle) reserve(n int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.free.Before(now) {
		t.free = now
	}
	t.free = t.free.Add(time.Duration(float64(n) / float64(t.rate) * float64(time.Second)))
	return t.free.Sub(now)
}

// wait returns when n bytes may pass, or ctx has ended.
func (t *throttle) wait(ctx context.Context, n int) error {
	if t.rate <= 0 {
		return context.Cause(ctx)
	}
	select {
	case <-t.after(t.reserve(n)):
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
