package kafka

import (
	"context"
	"sync"
	"sync/atomic"
)

// What clients can make a node hold is bounded per connection (queue.go) and,
// here, for all connections together: limits per connection do not add up to
// anything that fits a machine.
//
// Requests: a request's bytes are acquired as a whole before its body is read,
// first come, first served, and given back when it is answered and nothing that
// Produce handed over is under way any more. A holder never waits for more, so
// there is no deadlock. One request of each connection, if it is small, is
// free: Metadata and ApiVersions never wait for somebody's large Produce. While
// others wait, a holder gets Limits.ContendedTimeout for a MiB or is cut off.
//
// Responses: nothing waits. A fetch reads as much as it is granted, less the
// fuller the memory is, and answers without data when there is no room; its
// client comes back. A connection that has not taken its last response gets no
// further request read while the memory is used up.

// freeRequest is the size up to which one request of a connection is not
// counted: no more than the connection's read buffer takes anyway.
const freeRequest = readBuffer

// budget is the memory of requests in flight.
type budget struct {
	limit int64

	mu      sync.Mutex
	used    int64
	peak    int64
	waiting []*claim // in order of arrival
}

type claim struct {
	n       int64
	granted chan struct{}
}

// acquire waits for n bytes; a larger claim than there is room for at all gets
// everything. It returns what was taken, and false when ctx or stop ended.
func (b *budget) acquire(ctx context.Context, stop <-chan struct{}, n int) (int64, bool) {
	want := min(int64(n), b.limit)
	b.mu.Lock()
	if len(b.waiting) == 0 && b.used+want <= b.limit {
		b.used += want
		b.peak = max(b.peak, b.used)
		b.mu.Unlock()
		return want, true
	}
	c := &claim{n: want, granted: make(chan struct{})}
	b.waiting = append(b.waiting, c)
	b.grantLocked()
	b.mu.Unlock()
	select {
	case <-c.granted:
		return c.n, true
	case <-ctx.Done():
	case <-stop:
	}
	b.mu.Lock()
	for i, w := range b.waiting {
		if w == c {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			b.grantLocked() // those behind may fit
			b.mu.Unlock()
			return 0, false
		}
	}
	b.mu.Unlock()
	b.release(c.n) // granted at the same moment
	return 0, false
}

// grantLocked serves claims in order; one that does not fit holds up the rest,
// or large ones would never get through.
func (b *budget) grantLocked() {
	n := 0
	for ; n < len(b.waiting) && b.used+b.waiting[n].n <= b.limit; n++ {
		b.used += b.waiting[n].n
		close(b.waiting[n].granted)
	}
	b.peak = max(b.peak, b.used)
	b.waiting = append(b.waiting[:0], b.waiting[n:]...)
}

func (b *budget) release(n int64) {
	b.mu.Lock()
	b.used -= n
	if b.used < 0 {
		b.mu.Unlock()
		panic("BUG: more request memory was given back than taken")
	}
	b.grantLocked()
	b.mu.Unlock()
}

// contended says whether somebody waits.
func (b *budget) contended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0
}

func (b *budget) inUse() (used, peak int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.peak
}

// lease is a request's share of the budget. It is given back when the last
// holder has let go: the connection, and each batch that is under way. A nil
// lease is that of a request that is not counted.
type lease struct {
	b    *budget
	n    int64
	refs atomic.Int64
}

func newLease(b *budget, n int64) *lease {
	l := &lease{b: b, n: n}
	l.refs.Store(1)
	return l
}

func (l *lease) hold() {
	if l != nil {
		l.refs.Add(1)
	}
}

func (l *lease) drop() {
	if l != nil && l.refs.Add(-1) == 0 {
		l.b.release(l.n)
	}
}

// outgoing is the memory of responses that are not written yet.
type outgoing struct {
	limit int64

	mu   sync.Mutex
	used int64
	peak int64
}

// Shares of outgoing, as divisors: a fetch gets an eighth of what is free; in
// the last eighth no more than a small piece, so that many still get something.
const (
	fetchShare = 8
	fetchPiece = 64 << 10
)

// grant takes up to want bytes for a fetch that has not read yet. roomy says
// that there is enough room to go beyond for the sake of one large batch.
func (o *outgoing) grant(want int) (got int, roomy bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	free := max(o.limit-o.used, 0)
	share := free / fetchShare
	if free < o.limit/fetchShare {
		share = min(fetchPiece, free)
	}
	got = int(min(int64(want), share))
	o.addLocked(int64(got))
	return got, free >= o.limit/2
}

// settle corrects a grant to what is held in the end. It fails, and takes
// nothing, when that is more and there is no room for it.
func (o *outgoing) settle(granted, held int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if held > granted && o.used+int64(held-granted) > o.limit && o.used > int64(granted) {
		return false
	}
	o.addLocked(int64(held - granted))
	return true
}

// add counts bytes that are there already (n > 0), or were released.
func (o *outgoing) add(n int) {
	o.mu.Lock()
	o.addLocked(int64(n))
	o.mu.Unlock()
}

func (o *outgoing) addLocked(n int64) {
	o.used += n
	o.peak = max(o.peak, o.used)
	if o.used < 0 {
		panic("BUG: more response memory was given back than taken")
	}
}

// full says whether the memory is used up.
func (o *outgoing) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.used >= o.limit
}

func (o *outgoing) inUse() (used, peak int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.used, o.peak
}
