package backup

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/time/rate"
)

// Work says how much may be done at a time, and who hears of it.
type Work struct {
	Concurrency int   // partitions at a time; default 4
	Rate        int64 // bytes a second, read from the cluster or the place; 0 is no limit
	// Progress is told of each step; Note of what a person should know. They may be
	// called from several goroutines, and may be nil.
	Progress func(Progress)
	Note     func(string)

	limit *rate.Limiter
	done  *counters
}

// Progress is how far something is.
type Progress struct {
	Partitions, PartitionsDone int64
	Offsets, OffsetsDone       int64
	Bytes                      int64 // read so far
}

type counters struct{ partitions, partitionsDone, offsets, offsetsDone, bytes atomic.Int64 }

// begin fills in what is not set.
func (w *Work) begin() {
	if w.Concurrency <= 0 {
		w.Concurrency = 4
	}
	if w.Progress == nil {
		w.Progress = func(Progress) {}
	}
	if w.Note == nil {
		w.Note = func(string) {}
	}
	w.limit = rate.NewLimiter(rate.Inf, 0)
	if w.Rate > 0 {
		w.limit = rate.NewLimiter(rate.Limit(w.Rate), int(min(w.Rate, 1<<30)))
	}
	w.done = new(counters)
}

// read counts bytes that were read, and waits if they came too fast.
func (w *Work) read(ctx context.Context, n int) error {
	w.done.bytes.Add(int64(n))
	for n > 0 && w.Rate > 0 {
		step := min(n, w.limit.Burst())
		if err := w.limit.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return ctx.Err()
}

func (w *Work) report() {
	d := w.done
	w.Progress(Progress{d.partitions.Load(), d.partitionsDone.Load(), d.offsets.Load(), d.offsetsDone.Load(), d.bytes.Load()})
}

// retry tries until it succeeds, or fails for good, for a while.
func retry(ctx context.Context, try func() error) error {
	until := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || final(err) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		if wait(ctx, retryAfter) != nil {
			return err
		}
	}
}

// final tells a broker's answer that does not change by itself.
func final(err error) bool {
	var code *kerr.Error
	return errors.As(err, &code) && !code.Retriable
}
