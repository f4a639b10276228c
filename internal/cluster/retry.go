package cluster

import (
	"context"
	"sync"
	"time"
)

// pause is a sleep that Retry ends.
func (s *Store) pause(ctx context.Context, d time.Duration) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var retry sync.WaitGroup
	defer retry.Wait()
	defer stop()
	retry.Go(func() {
		select {
		case <-s.retry:
			stop()
		case <-ctx.Done():
		}
	})
	s.sleep(ctx, d)
}

// Retry tells the store that etcd has answered somebody: it need not wait any
// longer before it tries again.
func (s *Store) Retry() {
	select {
	case s.retry <- struct{}{}:
	default:
	}
}
