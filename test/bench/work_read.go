package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

func readWarm(ctx context.Context, e *env) (figures, error) {
	read, err := filled(ctx, e)
	if err != nil {
		return nil, err
	}
	if _, err := read(ctx); err != nil { // what is not in the page cache gets there
		return nil, err
	}
	return passes(ctx, e, func() error { return nil }, read)
}

func readCold(ctx context.Context, e *env) (figures, error) {
	read, err := filled(ctx, e)
	if err != nil {
		return nil, err
	}
	return passes(ctx, e, dropPageCache, read)
}

// passes reads all partitions again and again, until a round's time was spent with it.
func passes(ctx context.Context, e *env, before func() error, read func(context.Context) (uint64, error)) (figures, error) {
	var n uint64
	count := 0
	for ; e.used.Seconds < e.cfg.round.Seconds(); count++ {
		if err := before(); err != nil {
			return nil, err
		}
		if err := e.measure(func() error {
			got, err := read(ctx)
			n += got
			return err
		}); err != nil {
			return nil, err
		}
	}
	f := e.perMessage(n)
	f["passes"] = float64(count)
	return f, nil
}

// filled writes -read-bytes, and returns what reads them all once and says how many there were.
func filled(ctx context.Context, e *env) (read func(context.Context) (uint64, error), err error) {
	each := max(1, uint64(e.cfg.readBytes)/uint64(e.cfg.size)/uint64(e.partitions))
	l, err := startLoad(ctx, e, loading{window: e.cfg.window, clients: e.cfg.clients, limit: each})
	if err != nil {
		return nil, err
	}
	if err := l.complete(ctx, 10*time.Minute); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (uint64, error) { return readAll(ctx, e, each) }, nil
}

// readAll reads each partition from its start. Every message must come, in order, from the
// only lane that wrote there; verify looks at their bytes.
func readAll(ctx context.Context, e *env, each uint64) (uint64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var n atomic.Uint64
	stuck := time.AfterFunc(10*time.Minute, func() {
		cancel(fmt.Errorf("of %d messages %d came in ten minutes", each*uint64(e.partitions), n.Load()))
	})
	defer stuck.Stop()
	var wg sync.WaitGroup
	for p := range e.partitions {
		wg.Go(func() {
			next := uint64(0)
			err := e.client.consume(ctx, p, consuming{}, func(_ int64, value []byte) bool {
				id, _, err := parse(value)
				if want := identity(p, next); err != nil || id != want {
					cancel(fmt.Errorf("partition %d: read message %x instead of %x", p, id, want))
					return false
				}
				next++
				return next < each
			})
			n.Add(next)
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return n.Load(), nil
}

// dropPageCache has the kernel forget the contents of all files.
func dropPageCache() error {
	unix.Sync() // what is not written yet can't be dropped
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}
