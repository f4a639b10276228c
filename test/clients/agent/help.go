package agent

import (
	"context"
	"fmt"
	"sync"
	"time"
)

func (j Job) session() time.Duration { return time.Duration(j.Session) * time.Millisecond }

func (j Job) heartbeat() time.Duration { return j.session() / 6 }

// firstError keeps the first error of several goroutines.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// paced sends numbers from j.First on, one each j.Every milliseconds, to the
// partitions below j.Count in turn, until the context ends or send fails.
func paced(ctx context.Context, j Job, send func(n int, r Record) error) {
	tick := time.NewTicker(time.Duration(j.Every) * time.Millisecond)
	defer tick.Stop()
	for n := j.First; ctx.Err() == nil; n++ {
		if send(n, Record{Partition: int32(n % j.Count), Value: fmt.Append(nil, n)}) != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// nextOffsets are the offsets to commit after the records.
func nextOffsets(records []Record) map[int32]int64 {
	next := map[int32]int64{}
	for _, r := range records {
		next[r.Partition] = max(next[r.Partition], r.Offset+1)
	}
	return next
}

// pause waits for d or the end of the context.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
