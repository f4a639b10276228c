package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A tailer is a consumer at a partition's end.
type tailer struct {
	latency *atomic.Pointer[histogram] // of all tailers
	got     atomic.Uint64
	strange atomic.Uint64 // messages that were not the one after the last
	next    uint64        // only in its own consume
}

func (t *tailer) take(_ int64, value []byte) bool {
	id, sent, err := parse(value)
	if err != nil || t.got.Load() > 0 && id != t.next {
		t.strange.Add(1)
	}
	t.next = id + 1
	t.got.Add(1)
	t.latency.Load().add(time.Since(sent))
	return true
}

// tailing sends at a steady rate, and looks at how old messages are when consumers get them.
func tailing(ctx context.Context, e *env) (figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var latency atomic.Pointer[histogram]
	latency.Store(new(histogram))
	tailers := make([]*tailer, e.cfg.consumers)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	for i := range tailers {
		t := &tailer{latency: &latency}
		tailers[i] = t
		wg.Go(func() {
			if err := e.client.consume(ctx, i%e.partitions, consuming{tail: true}, t.take); err != nil {
				cancel(err)
			}
		})
	}
	s, err := startSteady(ctx, e)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := eventually(ctx, time.Minute+time.Duration(len(tailers))*100*time.Millisecond, func() error { return waiting(tailers) }); err != nil {
		return nil, err
	}
	if err := pass(ctx, e.cfg.warm); err != nil {
		return nil, err
	}
	h := new(histogram)
	var sent uint64
	if err := e.measure(func() error {
		latency.Store(h)
		sent = s.acked.Load()
		err := pass(ctx, e.cfg.round)
		sent = s.acked.Load() - sent
		return err
	}); err != nil {
		return nil, err
	}
	latency.Store(new(histogram))
	if err := s.finish(ctx); err != nil {
		return nil, err
	}
	for i, t := range tailers {
		if n := t.strange.Load(); n > 0 {
			return nil, fmt.Errorf("consumer %d got %d messages that did not follow the last", i, n)
		}
	}
	delivered := h.count()
	f := e.perMessage(max(1, delivered))
	f["sent"] = float64(sent) / e.used.Seconds
	f["p50_ms"], f["p99_ms"] = millis(h.quantile(0.5)), millis(h.quantile(0.99))
	return f, nil
}

// waiting says which consumer has got nothing yet.
func waiting(tailers []*tailer) error {
	for i, t := range tailers {
		if t.got.Load() == 0 {
			return fmt.Errorf("consumer %d has got nothing yet", i)
		}
	}
	return nil
}

// backlog is how many messages may be without an answer before a steady load waits.
const backlog = 1 << 14

// startSteady sends at -rate, whatever is acknowledged.
func startSteady(ctx context.Context, e *env) (*load, error) {
	l, ctx, err := makeLoad(ctx, e, loading{window: backlog, clients: e.cfg.clients})
	if err != nil {
		return nil, err
	}
	l.senders.Go(func() { l.sendSteadily(ctx, e.cfg.rate) })
	return l, nil
}

// sendSteadily sends on the lanes by turns, at most once a millisecond what is due by then. A
// message's age counts from when it was due, so that a sender that is held up hides nothing.
func (l *load) sendSteadily(ctx context.Context, rate int) {
	tick := max(time.Millisecond, time.Second/time.Duration(rate))
	seqs := make([]uint64, len(l.lanes))
	began, sent := time.Now(), 0
	for n := 1; ; n++ {
		due := began.Add(time.Duration(n) * tick)
		if pass(ctx, time.Until(due)) != nil {
			return
		}
		for ; float64(sent) < due.Sub(began).Seconds()*float64(rate); sent++ {
			ln := l.lanes[sent%len(l.lanes)]
			select {
			case <-ctx.Done():
				return
			case m := <-ln.free:
				if !m.again {
					m.id, seqs[ln.number] = identity(ln.number, seqs[ln.number]), seqs[ln.number]+1
				}
				m.sent = due
				fill(m.value, m.id, m.sent)
				ln.producer.send(m)
			}
		}
	}
}

// eventually waits for a condition.
func eventually(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if late := pass(ctx, 20*time.Millisecond); late != nil {
			return errors.Join(late, err)
		}
	}
}
