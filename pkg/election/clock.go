package election

import (
	"context"
	"time"
)

// Clock is the time as sessions see it; nil in a configuration means the
// real one. Only the differences between two results of Now matter, and they
// must be monotonic.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own once d has passed, unless
	// stop is called before. stop says whether it prevented the call.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }
func (realClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// sleep waits for d on the clock and says whether ctx was still alive then.
func sleep(ctx context.Context, clock Clock, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	passed := make(chan struct{})
	stop := clock.AfterFunc(d, func() { close(passed) })
	defer stop()
	select {
	case <-passed:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
