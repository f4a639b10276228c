package main

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A load keeps a number of messages outstanding on each of its lanes. What fails is sent again.
type load struct {
	lanes     []*lane
	producers []producer
	latency   atomic.Pointer[histogram] // from send to acknowledgement
	acked     atomic.Uint64
	failed    atomic.Uint64
	firstErr  atomic.Pointer[error]
	limit     uint64

	cancel  context.CancelFunc
	senders sync.WaitGroup
}

// loading says what a load is like.
type loading struct {
	lanes   int    // dealt out to the partitions; 0: one each
	window  int    // messages outstanding on all lanes together; each has at least one
	clients int    // with connections of their own; lanes are dealt out to them
	limit   uint64 // messages of each lane; 0: as many as can be
	lossy   bool
}

// A lane sends to one partition.
type lane struct {
	load      *load
	number    int
	partition int
	ledger    *ledger
	producer  producer
	free      chan *message // messages that are not on their way; its capacity is the window

	mu      sync.Mutex
	last    time.Time     // of the last acknowledgement
	longest time.Duration // between two, since forget
	since   uint64        // acknowledgements since forget
}

// resendAfter is how long a failed message rests.
const resendAfter = 20 * time.Millisecond

// startLoad sends on all lanes, until the load is stopped.
func startLoad(ctx context.Context, e *env, how loading) (*load, error) {
	l, ctx, err := makeLoad(ctx, e, how)
	if err != nil {
		return nil, err
	}
	for _, ln := range l.lanes {
		l.senders.Go(func() { ln.send(ctx) })
	}
	return l, nil
}

// makeLoad makes lanes and producers. Senders have to end when the context ends that it returns.
func makeLoad(ctx context.Context, e *env, how loading) (*load, context.Context, error) {
	l := &load{limit: how.limit}
	l.latency.Store(new(histogram))
	lanes := cmp.Or(how.lanes, e.partitions)
	for i := range lanes {
		l.lanes = append(l.lanes, newLane(l, e, i, windowOf(i, how.window, lanes)))
	}
	for _, numbers := range deal(lanes, how.clients) {
		var parts []int
		for _, i := range numbers {
			parts = append(parts, l.lanes[i].partition)
		}
		p, err := e.client.producer(ctx, producing{partitions: parts, done: done, lossy: how.lossy})
		if err != nil {
			l.close()
			return nil, nil, fmt.Errorf("make a producer: %w", err)
		}
		l.producers = append(l.producers, p)
		for _, i := range numbers {
			l.lanes[i].producer = p
		}
	}
	ctx, l.cancel = context.WithCancel(ctx)
	return l, ctx, nil
}

// windowOf is a lane's part of a window.
func windowOf(lane, window, lanes int) int {
	share := window / lanes
	if lane < window%lanes {
		share++
	}
	return max(1, share)
}

// deal gives lanes out to clients, of which none stays without.
func deal(lanes, clients int) [][]int {
	dealt := make([][]int, max(1, min(clients, lanes)))
	for i := range lanes {
		dealt[i%len(dealt)] = append(dealt[i%len(dealt)], i)
	}
	return dealt
}

func newLane(l *load, e *env, number, window int) *lane {
	p := number % e.partitions
	ln := &lane{load: l, number: number, partition: p, ledger: e.ledgers[p], last: time.Now(), free: make(chan *message, window)}
	for range window {
		ln.free <- &message{lane: ln, partition: p, value: make([]byte, e.cfg.size)}
	}
	return ln
}

func (ln *lane) send(ctx context.Context) {
	for seq := uint64(0); ; {
		var m *message
		select {
		case <-ctx.Done():
			return
		case m = <-ln.free:
		}
		if !m.again {
			if ln.load.limit > 0 && seq >= ln.load.limit {
				ln.free <- m
				return
			}
			m.id = identity(ln.number, seq)
			seq++
		}
		m.sent = time.Now()
		fill(m.value, m.id, m.sent)
		ln.producer.send(m)
	}
}

// done takes a message back. Its lane's channel has room for it.
func done(m *message) {
	ln := m.lane
	l := ln.load
	if m.err != nil {
		l.failed.Add(1)
		l.firstErr.CompareAndSwap(nil, &m.err)
		// The client may still hold the old bytes.
		retry := &message{lane: ln, partition: m.partition, id: m.id, value: make([]byte, len(m.value)), again: true}
		time.AfterFunc(resendAfter, func() { ln.free <- retry })
		return
	}
	now := time.Now()
	l.latency.Load().add(now.Sub(m.sent))
	l.acked.Add(1)
	ln.ledger.ack(m.offset, m.id)
	ln.mu.Lock()
	ln.longest, ln.last = max(ln.longest, now.Sub(ln.last)), now
	ln.since++
	ln.mu.Unlock()
	m.again = false
	ln.free <- m
}

// forget begins anew to look for the longest gap. The gap under way counts from its beginning.
func (l *load) forget() {
	for _, ln := range l.lanes {
		ln.mu.Lock()
		ln.longest, ln.since = 0, 0
		ln.mu.Unlock()
	}
}

// gap returns the longest time that any lane was without an acknowledgement since forget,
// and how many lanes have had none.
func (l *load) gap() (longest time.Duration, silent int) {
	for _, ln := range l.lanes {
		ln.mu.Lock()
		longest = max(longest, ln.longest)
		if ln.since == 0 {
			silent++
		}
		ln.mu.Unlock()
	}
	return longest, silent
}

// drain waits until nothing is on its way, with the senders stopped or at their limit.
func (l *load) drain(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, ln := range l.lanes {
		for i := range cap(ln.free) {
			select {
			case <-ln.free:
			case <-ctx.Done():
				return fmt.Errorf("%d messages of partition %d were not answered in %v%s", cap(ln.free)-i, ln.partition, limit, l.said())
			}
		}
	}
	return nil
}

// said is how the first error is told.
func (l *load) said() string {
	if err := l.firstErr.Load(); err != nil {
		return fmt.Sprintf("; the first error: %v", *err)
	}
	return ""
}

// finish stops sending, waits for what is on its way, and closes the clients.
func (l *load) finish(ctx context.Context) error {
	l.cancel()
	l.senders.Wait()
	err := l.drain(ctx, 30*time.Second)
	l.close()
	return err
}

// complete waits until every lane has reached the limit, and closes the clients.
func (l *load) complete(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer l.close()
	defer l.senders.Wait()
	defer l.cancel()
	want := l.limit * uint64(len(l.lanes))
	for l.acked.Load() < want {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages were acknowledged in %v%s", l.acked.Load(), want, limit, l.said())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (l *load) close() {
	if l.cancel != nil {
		l.cancel()
	}
	for _, p := range l.producers {
		p.close()
	}
}
