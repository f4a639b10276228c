package kafka

import (
	"context"
	"sync"
)

// queue holds the exchanges of a connection from the arrival of the request
// until its response is written: requests are answered in its order. It
// bounds what is pending. One reader reserves and pushes, any goroutine
// completes, one writer takes.
type queue struct {
	maxCount int
	maxBytes int64

	wake chan struct{} // to the writer: the head is ready, or the state changed
	room chan struct{} // to the reader: something left, or the state changed

	out *outgoing // of the server; responses that are ready are counted there

	mu    sync.Mutex
	items []*exchange // in request order
	count int         // reserved and not yet written
	open  int         // of these, not yet answered
	bytes int64       // of requests reserved and responses ready, not yet written
	state queueState
}

type queueState int

const (
	queueOpen     queueState = iota
	queueDraining            // takes no more requests; the writer ends when it is empty
	queueClosed              // takes nothing, answers nothing
)

func newQueue(maxCount int, maxBytes int64, out *outgoing) *queue {
	return &queue{maxCount: maxCount, maxBytes: maxBytes, out: out, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// reserve waits until a request of size bytes may be read. One request is
// always let in, whatever its size. It returns false when the queue is no
// longer open.
func (q *queue) reserve(ctx context.Context, size int) bool {
	for {
		q.mu.Lock()
		if q.state != queueOpen {
			q.mu.Unlock()
			return false
		}
		if q.count == 0 || (q.count < q.maxCount && q.bytes+int64(size) <= q.maxBytes && !q.out.full()) {
			q.count++
			q.open++
			q.bytes += int64(size)
			q.mu.Unlock()
			return true
		}
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-ctx.Done():
			return false
		}
	}
}

// push appends an exchange whose size was reserved. The queue holds its lease from
// then on; the caller keeps a hold of its own as long as it handles the request, for
// the queue may be closed, and let go, at any moment.
func (q *queue) push(x *exchange) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != queueClosed {
		x.lease.hold()
		q.items = append(q.items, x)
	}
}

// complete marks an exchange as answered. Its response belongs to the queue
// from then on.
func (q *queue) complete(x *exchange) {
	q.mu.Lock()
	if x.ready {
		q.mu.Unlock()
		panic("BUG: request answered twice: " + x.api.name)
	}
	x.ready = true
	q.open--
	if q.state == queueClosed {
		q.mu.Unlock()
		x.giveBack(q.out)
		return
	}
	q.bytes += int64(x.out.size)
	head := len(q.items) > 0 && q.items[0] == x
	q.mu.Unlock()
	if head {
		signal(q.wake)
	}
}

// take moves the answered exchanges at the head into dst, about maxBytes of
// responses at most but at least one. It waits for the first, and returns
// false when there will be none.
func (q *queue) take(dst []*exchange, maxBytes int) ([]*exchange, bool) {
	for {
		q.mu.Lock()
		n, size := 0, 0
		for n < len(q.items) && q.items[n].ready && (n == 0 || size < maxBytes) {
			size += q.items[n].out.size
			n++
		}
		if q.state == queueClosed {
			n = 0
		}
		dst = append(dst, q.items[:n]...)
		q.items = q.items[:copy(q.items, q.items[n:])]
		clear(q.items[len(q.items) : len(q.items)+n])
		over := q.state == queueClosed || (q.state == queueDraining && len(q.items) == 0)
		q.mu.Unlock()
		if n > 0 {
			return dst, true
		}
		if over {
			return dst, false
		}
		<-q.wake
	}
}

// done gives back what the taken exchanges had reserved and releases their
// responses.
func (q *queue) done(xs []*exchange) {
	q.mu.Lock()
	for _, x := range xs {
		q.count--
		q.bytes -= int64(x.size) + int64(x.out.size)
	}
	q.mu.Unlock()
	for _, x := range xs {
		x.giveBack(q.out)
		x.lease.drop()
	}
	signal(q.room)
}

// idle says that nothing is reserved that is not yet written.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count == 0
}

// unanswered counts the requests that are reserved and not yet complete. A
// client that has its response finds that request no longer counted, which
// count can't promise: it falls only after the write.
func (q *queue) unanswered() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open
}

// drain refuses further requests. What was pushed is still answered.
func (q *queue) drain() {
	q.mu.Lock()
	q.state = max(q.state, queueDraining)
	q.mu.Unlock()
	signal(q.wake)
	signal(q.room)
}

// close drops what is pending.
func (q *queue) close() {
	q.mu.Lock()
	var drop []*exchange
	all := q.items
	for _, x := range all {
		if x.ready { // the others release themselves when they are completed
			drop = append(drop, x)
		}
	}
	q.state, q.items = queueClosed, nil
	q.mu.Unlock()
	for _, x := range drop {
		x.giveBack(q.out)
	}
	for _, x := range all {
		x.lease.drop()
	}
	signal(q.wake)
	signal(q.room)
}
