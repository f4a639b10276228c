package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// readers read back at once.
const readers = 8

// readIdle is how long reading back may stand still.
const readIdle = 30 * time.Second

// verify reads all partitions and compares them with what was acknowledged.
func verify(ctx context.Context, e *env) (total verdict, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	parts := make(chan int)
	for range min(readers, e.partitions) {
		wg.Go(func() {
			for p := range parts {
				v, e := verifyPartition(ctx, e, p)
				mu.Lock()
				total.plus(v)
				if err == nil {
					err = e
				}
				mu.Unlock()
			}
		})
	}
	for p := range e.partitions {
		parts <- p
	}
	close(parts)
	wg.Wait()
	return total, err
}

func verifyPartition(ctx context.Context, e *env, p int) (verdict, error) {
	r := &reading{of: e.ledgers[p]}
	_, end, err := e.client.offsets(ctx, p)
	if err != nil {
		return verdict{}, err
	}
	if err := readTo(ctx, e.client, p, end, r.add); err != nil {
		return verdict{}, err
	}
	// Asked for afterwards: what retention removed meanwhile need not have been read.
	start, _, err := e.client.offsets(ctx, p)
	if err != nil {
		return verdict{}, err
	}
	return r.compare(start), nil
}

// readTo reads a partition from its start up to offset end.
func readTo(ctx context.Context, c client, p int, end int64, f func(offset int64, value []byte)) error {
	start, _, err := c.offsets(ctx, p)
	if err != nil || start >= end {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	idle := time.AfterFunc(readIdle, func() {
		cancel(fmt.Errorf("partition %d ends at %d, and for %v nothing came after %d", p, end, readIdle, next.Load()))
	})
	defer idle.Stop()
	err = c.consume(ctx, p, consuming{offsets: true}, func(offset int64, value []byte) bool {
		if offset&0xfff == 0 {
			idle.Reset(readIdle)
		}
		f(offset, value)
		next.Store(offset + 1)
		return offset+1 < end
	})
	if err == nil && next.Load() < end {
		err = context.Cause(ctx)
	}
	return err
}
