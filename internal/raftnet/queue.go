package raftnet

import (
	"errors"
	"net"
	"sync"
)

const (
	maxBatchBytes  = 2 << 20 // gathered into one write
	maxBatchPieces = 1000    // the kernel takes 1024 in one writev
	coalesceBytes  = 64 << 10
	replySlack     = 16 << 20
)

var (
	errQueueClosed = errors.New("queue is closed")
	errCancelled   = errors.New("cancelled while waiting for room")
)

// queue holds the frames that one connection's writer shall write next, in
// order. Bytes count until they are written.
type queue struct {
	limit int // bytes; one frame is always let in

	mu     sync.Mutex
	ready  sync.Cond // for the writer
	idle   bool      // the writer waits on ready
	frames []*frame
	bytes  int
	closed bool
	room   chan struct{} // not nil while somebody waits for room; closed when there may be some
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit}
	q.ready.L = &q.mu
	return q
}

// pushMode says what a frame without room does.
type pushMode int

const (
	failFull    pushMode = iota // fails with ErrBusy
	withSlack                   // has replySlack more room, then fails with ErrBusy
	waitForRoom                 // waits
)

// push queues a frame and takes it over, unless it fails. cancel ends a wait
// for room.
func (q *queue) push(f *frame, mode pushMode, cancel <-chan struct{}) error {
	limit := q.limit
	if mode == withSlack {
		limit += replySlack
	}
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return errQueueClosed
		}
		if q.bytes == 0 || q.bytes+f.size <= limit {
			q.frames = append(q.frames, f)
			q.bytes += f.size
			idle := q.idle
			q.idle = false
			q.mu.Unlock()
			if idle {
				q.ready.Signal()
			}
			return nil
		}
		if mode != waitForRoom {
			q.mu.Unlock()
			return ErrBusy
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-cancel:
			return errCancelled
		}
	}
}

// next waits for frames and moves up to a batch of them to batch[:0]. It
// returns false when the queue was closed.
func (q *queue) next(batch []*frame) ([]*frame, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.frames) == 0 && !q.closed {
		q.idle = true
		q.ready.Wait()
	}
	if q.closed {
		return nil, false
	}
	n, bytes, pieces := 0, 0, 0
	for _, f := range q.frames {
		if n > 0 && (bytes+f.size > maxBatchBytes || pieces+len(f.pieces) > maxBatchPieces) {
			break
		}
		n, bytes, pieces = n+1, bytes+f.size, pieces+len(f.pieces)
	}
	batch = append(batch[:0], q.frames[:n]...)
	rest := copy(q.frames, q.frames[n:])
	clear(q.frames[rest:])
	q.frames = q.frames[:rest]
	return batch, true
}

// wrote gives the room of written frames back.
func (q *queue) wrote(bytes int) {
	q.mu.Lock()
	q.bytes -= bytes
	q.openRoomLocked()
	q.mu.Unlock()
}

func (q *queue) openRoomLocked() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// close drops what is queued and fails all that wait.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.frames = nil
	q.idle = false
	q.openRoomLocked()
	q.mu.Unlock()
	q.ready.Broadcast()
}

// writer puts batches of frames on a connection: with writev where the
// connection has it, else through a buffer.
type writer struct {
	nc       net.Conn
	vectored bool
	pieces   [][]byte
	rest     net.Buffers // what WriteTo has not written yet
	buf      []byte
}

func newWriter(nc net.Conn) *writer {
	w := &writer{nc: nc}
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		w.vectored = true
	}
	return w
}

func (w *writer) write(batch []*frame) error {
	if !w.vectored {
		return w.writeBuffered(batch)
	}
	w.pieces = w.pieces[:0]
	for _, f := range batch {
		w.pieces = append(w.pieces, f.pieces...)
	}
	if len(w.pieces) == 1 {
		_, err := w.nc.Write(w.pieces[0])
		w.pieces[0] = nil
		return err
	}
	w.rest = w.pieces
	_, err := w.rest.WriteTo(w.nc)
	clear(w.pieces)
	return err
}

func (w *writer) writeBuffered(batch []*frame) error {
	w.buf = w.buf[:0]
	flush := func() error {
		if len(w.buf) == 0 {
			return nil
		}
		_, err := w.nc.Write(w.buf)
		w.buf = w.buf[:0]
		return err
	}
	for _, f := range batch {
		for _, p := range f.pieces {
			if len(w.buf)+len(p) > coalesceBytes {
				if err := flush(); err != nil {
					return err
				}
			}
			if len(p) > coalesceBytes {
				if _, err := w.nc.Write(p); err != nil {
					return err
				}
				continue
			}
			w.buf = append(w.buf, p...)
		}
	}
	return flush()
}
