package raftnet

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	controlQueueBytes = 4 << 20
	dataQueueBytes    = 16 << 20
	bulkQueueBytes    = 8 << 20
	readBuffer        = 64 << 10
	smallPayload      = 256 // replies up to this size are read into the reader's own buffer
)

// pending is a request that waits for its reply.
type pending interface {
	// resolve is called exactly once, on the connection's reader or on the
	// goroutine that broke it, with no lock held. payload is only valid during
	// the call unless keeps is true. It must not block.
	resolve(payload []byte, err error)
	// keeps says that resolve keeps the payload.
	keeps() bool
}

type call struct {
	p  pending
	at time.Time
}

// conn is one connection, dialled or accepted, after the handshake.
type conn struct {
	nc          net.Conn
	class       Class
	slot        byte
	node        int32 // the other side
	incarnation string
	m           *classMetrics
	out         *queue
	heard       atomic.Int64 // time after epoch at which the last frame came
	probed      time.Time    // last; belongs to Net.ticks
	used        atomic.Int64 // time after epoch of the last use; for closing idle Bulk connections

	broken chan struct{} // closed by fail

	mu    sync.Mutex
	calls map[uint64]call // requests without a reply yet; nil once broken
	err   error           // why it broke
}

func newConn(nc net.Conn, class Class, slot byte, node int32, incarnation string, m *metrics) *conn {
	limit := controlQueueBytes
	switch class {
	case Data:
		limit = dataQueueBytes
	case Bulk:
		limit = bulkQueueBytes
	}
	c := &conn{
		nc: nc, class: class, slot: slot, node: node, incarnation: incarnation, m: m.class(class),
		out: newQueue(limit), broken: make(chan struct{}), calls: make(map[uint64]call),
	}
	c.touch()
	c.heard.Store(int64(time.Since(epoch)))
	return c
}

// run reads and writes until the connection breaks, and returns why it did.
// handle is called for each frame on the calling goroutine; its payload is
// only valid during the call if keep returned false.
func (c *conn) run(keep func(header) bool, handle func(header, []byte) error) error {
	c.m.connections.Inc()
	defer c.m.connections.Dec()
	var wg sync.WaitGroup
	wg.Go(func() { c.fail(c.writeLoop()) })
	c.fail(c.readLoop(keep, handle))
	wg.Wait()
	return c.cause()
}

func (c *conn) writeLoop() error {
	w := newWriter(c.nc)
	var batch []*frame
	for {
		var ok bool
		if batch, ok = c.out.next(batch); !ok {
			return net.ErrClosed
		}
		err := w.write(batch)
		bytes := 0
		for i, f := range batch {
			bytes += f.size
			if err == nil {
				f.release()
			}
			batch[i] = nil
		}
		if err != nil {
			return err
		}
		c.m.sentBytes.Add(float64(bytes))
		c.m.sentFrames.Add(float64(len(batch)))
		c.out.wrote(bytes)
	}
}

func (c *conn) readLoop(keep func(header) bool, handle func(header, []byte) error) error {
	br := bufio.NewReaderSize(c.nc, readBuffer)
	small := make([]byte, smallPayload)
	var head [headerLen]byte
	for {
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return err
		}
		h, err := parseHeader(head[:])
		if err != nil {
			return err
		}
		p := small
		if int(h.length) > len(small) || keep(h) {
			p = make([]byte, h.length)
		} else {
			p = p[:h.length]
		}
		if _, err := io.ReadFull(br, p); err != nil {
			return err
		}
		if crc32.Checksum(p, castagnoli) != h.crc {
			return errPayloadCRC
		}
		c.heard.Store(int64(time.Since(epoch)))
		c.m.receivedFrames.Inc()
		c.m.receivedBytes.Add(float64(headerLen + len(p)))
		if err := handle(h, p); err != nil {
			return err
		}
	}
}

// fail breaks the connection: everything that waits for a reply is told err.
// Later calls do nothing.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.calls == nil {
		c.mu.Unlock()
		return
	}
	calls := c.calls
	c.calls = nil
	c.err = err
	close(c.broken)
	c.mu.Unlock()
	c.out.close()
	c.nc.Close()
	told := fmt.Errorf("%w: node %d: %v", ErrBroken, c.node, err)
	for _, call := range calls {
		call.p.resolve(nil, told)
	}
}

func (c *conn) isBroken() bool {
	select {
	case <-c.broken:
		return true
	default:
		return false
	}
}

func (c *conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// submit sends a request whose reply, or failure, p will be told; it takes the
// frame over. When it returns an error p was not told anything and won't be.
// On Control it fails with ErrBusy instead of waiting for room; cancel ends
// the wait on the others.
func (c *conn) submit(f *frame, id uint64, p pending, cancel <-chan struct{}) error {
	now := time.Now()
	c.mu.Lock()
	if c.calls == nil {
		err := c.err
		c.mu.Unlock()
		f.release()
		return fmt.Errorf("%w: node %d: %v", ErrBroken, c.node, err)
	}
	c.calls[id] = call{p: p, at: now}
	c.mu.Unlock()
	mode := waitForRoom
	if c.class == Control {
		mode = failFull
	}
	err := c.out.push(f, mode, cancel)
	if err == nil {
		return nil
	}
	f.release()
	if !c.take(id) {
		return nil // it was told already
	}
	return err
}

// watch has p told when the connection breaks, under a request id of its own.
func (c *conn) watch(id uint64, p pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return fmt.Errorf("%w: node %d: %v", ErrBroken, c.node, c.err)
	}
	c.calls[id] = call{p: p, at: time.Now().Add(forever)} // it does not expire
	return nil
}

const forever = 100 * 365 * 24 * time.Hour

// take withdraws a request. It returns false if somebody has resolved it, or
// is about to.
func (c *conn) take(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.calls[id]; !ok {
		return false
	}
	delete(c.calls, id)
	return true
}

// pop takes the request that a reply answers.
func (c *conn) pop(id uint64) (pending, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, ok := c.calls[id]
	delete(c.calls, id)
	return call.p, ok
}

// keepReply and handleReply make up the dialler's side of run.
func (c *conn) keepReply(h header) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, ok := c.calls[h.id]
	return ok && call.p.keeps()
}

func (c *conn) handleReply(h header, payload []byte) error {
	if h.flags&flagReply == 0 {
		return fmt.Errorf("a request of kind %d came where only replies do", h.kind)
	}
	p, ok := c.pop(h.id)
	if !ok {
		return nil // it was withdrawn
	}
	if h.flags&flagError != 0 {
		p.resolve(nil, decodeError(payload))
	} else {
		p.resolve(payload, nil)
	}
	return nil
}

// expire fails the requests that have waited since before then.
func (c *conn) expire(then time.Time) {
	var late []pending
	c.mu.Lock()
	for id, call := range c.calls {
		if call.at.Before(then) {
			late = append(late, call.p)
			delete(c.calls, id)
		}
	}
	c.mu.Unlock()
	for _, p := range late {
		p.resolve(nil, fmt.Errorf("%w: node %d", ErrTimeout, c.node))
	}
}

// touch keeps the connection from being idle.
func (c *conn) touch() { c.used.Store(int64(time.Since(epoch))) }

// idleSince is when the connection was last used; now if a request waits.
func (c *conn) idleSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) > 0 {
		c.touch()
	}
	return epoch.Add(time.Duration(c.used.Load()))
}

// reply queues a reply without waiting. A peer that does not read its replies
// loses the connection.
func (c *conn) reply(f *frame) {
	err := c.out.push(f, withSlack, nil)
	if err == nil {
		return
	}
	f.release()
	if errors.Is(err, ErrBusy) {
		c.fail(errors.New("the peer does not read its replies"))
	}
}

// replyBulk queues a reply and waits for room.
func (c *conn) replyBulk(f *frame) {
	if c.out.push(f, waitForRoom, c.broken) != nil {
		f.release()
	}
}
