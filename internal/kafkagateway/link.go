package kafkagateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/kafka"
)

const (
	linkBuffer  = 64 << 10
	answerStep  = 1 << 20   // allocated for an answer before its bytes have arrived
	maxAnswer   = 256 << 20 // no answer of a node is larger
	freeAnswer  = 32 << 10  // answers up to it are not counted
	dialTimeout = 2 * time.Second
	writeStall  = 10 * time.Second // for one write to a node
)

var errLinkClosed = errors.New("connection to the node is closed")

// flight is a request on a link and the answer to it.
type flight struct {
	frame    [][]byte // of the request; the link fills in the correlation id
	flexible bool     // the answer's header has tags
	silent   bool     // there is no answer (acks=0)
	deadline time.Time

	// done is called once, by the link, and must not block. body aliases a buffer
	// that belongs to the caller until release. sent says that the request may
	// have reached the node.
	done func(body []byte, release func(), sent bool, err error)

	correlation int32
	sent        bool
}

// link is a connection to a node that belongs to one session: requests leave in
// the order of send and are answered in it.
type link struct {
	g    *Gateway
	node int32
	addr string

	mu      sync.Mutex
	err     error     // it is over
	queued  []*flight // not written yet
	flying  []*flight // written, not answered
	next    int32
	nc      net.Conn
	wake    chan struct{}
	cancel  context.CancelFunc
	stopped chan struct{} // both goroutines have ended
}

// dial makes a link at once; it connects in the background.
func (g *Gateway) dial(node int32, addr string) *link {
	ctx, cancel := context.WithCancel(g.ctx)
	l := &link{g: g, node: node, addr: addr, wake: make(chan struct{}, 1), cancel: cancel, stopped: make(chan struct{})}
	g.wg.Go(func() { l.run(ctx) })
	return l
}

// send queues a request, or fails if the link is over: done is not called then. It
// never blocks: what is queued is bounded by what the client may have pending.
func (l *link) send(f *flight) error {
	l.mu.Lock()
	if err := l.err; err != nil {
		l.mu.Unlock()
		return err
	}
	l.next++
	f.correlation = l.next
	l.queued = append(l.queued, f)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// broken says that nothing more can be sent.
func (l *link) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// fail ends the link and all that is on it.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	lost := append(l.flying, l.queued...)
	l.flying, l.queued = nil, nil
	nc := l.nc
	l.mu.Unlock()
	l.cancel()
	if nc != nil {
		nc.Close()
	}
	for _, f := range lost {
		f.done(nil, nil, f.sent, err)
	}
}

// close ends the link and waits for its goroutines.
func (l *link) close() {
	l.fail(errLinkClosed)
	<-l.stopped
}

// run connects, and then writes and reads until the link is over.
func (l *link) run(ctx context.Context) {
	defer close(l.stopped)
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	nc, err := l.g.opts.Dial(dctx, l.addr)
	cancel()
	if err != nil {
		l.fail(fmt.Errorf("connect to node %d: %w", l.node, err))
		return
	}
	l.mu.Lock()
	over := l.err != nil
	l.nc = nc
	l.mu.Unlock()
	if over {
		nc.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.fail(l.read(ctx, nc)) })
	l.fail(l.write(ctx, nc))
	wg.Wait()
}

func (l *link) write(ctx context.Context, nc net.Conn) error {
	var bufs net.Buffers
	var silent []*flight
	for {
		bufs, silent = bufs[:0], silent[:0]
		l.mu.Lock()
		for _, f := range l.queued {
			binary.BigEndian.PutUint32(f.frame[0][kafka.CorrelationAt:], uint32(f.correlation))
			bufs = append(bufs, f.frame...)
			f.sent = true
			if f.silent {
				silent = append(silent, f)
				continue
			}
			l.flying = append(l.flying, f)
		}
		clear(l.queued)
		l.queued = l.queued[:0]
		l.armLocked()
		l.mu.Unlock()
		if len(bufs) == 0 {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return errLinkClosed
			}
		}
		size := 0
		for _, b := range bufs {
			size += len(b)
		}
		stall := writeStall + time.Duration(size>>20)*time.Second
		if err := nc.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return fmt.Errorf("write to node %d: %w", l.node, err)
		}
		pending := bufs // WriteTo consumes it
		_, err := pending.WriteTo(nc)
		clear(bufs)
		for _, f := range silent {
			f.done(nil, nil, true, err)
		}
		if err != nil {
			return fmt.Errorf("write to node %d: %w", l.node, err)
		}
	}
}

// armLocked has the reader wait for the oldest answer as long as that may take.
func (l *link) armLocked() {
	if l.nc == nil || l.err != nil {
		return
	}
	var deadline time.Time
	if len(l.flying) > 0 {
		deadline = l.flying[0].deadline
	}
	l.nc.SetReadDeadline(deadline)
}

func (l *link) read(ctx context.Context, nc net.Conn) error {
	br := bufio.NewReaderSize(nc, linkBuffer)
	for {
		head, err := br.Peek(8)
		if err != nil {
			return fmt.Errorf("read from node %d: %w", l.node, err)
		}
		size, correlation := int(int32(binary.BigEndian.Uint32(head))), int32(binary.BigEndian.Uint32(head[4:]))
		if size < 4 || size > maxAnswer {
			return fmt.Errorf("answer of %d bytes from node %d", size, l.node)
		}
		l.mu.Lock()
		if len(l.flying) == 0 || l.flying[0].correlation != correlation {
			l.mu.Unlock()
			return fmt.Errorf("answer from node %d that nobody asked for", l.node)
		}
		l.mu.Unlock()
		if _, err := br.Discard(4); err != nil {
			return err
		}
		frame, release, err := l.g.answers.read(ctx, br, size)
		if err != nil {
			return fmt.Errorf("read from node %d: %w", l.node, err)
		}
		l.mu.Lock()
		if len(l.flying) == 0 { // it failed meanwhile
			l.mu.Unlock()
			release()
			return errLinkClosed
		}
		f := l.flying[0]
		l.flying = l.flying[:copy(l.flying, l.flying[1:])]
		l.armLocked()
		l.mu.Unlock()
		_, body, err := kafka.SplitAnswer(frame, f.flexible)
		if err != nil {
			release()
			f.done(nil, nil, true, err)
			return fmt.Errorf("node %d: %w", l.node, err)
		}
		f.done(body, release, true, nil)
	}
}

// answers is the memory of nodes' answers that clients have not taken yet. A link
// does not read on before there is room for what comes; its node holds the rest.
type answers struct {
	limit int64
	pool  sync.Pool // *[]byte

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when some was given back and somebody waits
}

// read takes an answer of size bytes off a connection. release gives its memory
// back, and may be called more than once.
func (a *answers) read(ctx context.Context, r io.Reader, size int) ([]byte, func(), error) {
	counted := int64(0)
	if size > freeAnswer {
		counted = min(int64(size), a.limit)
		if err := a.acquire(ctx, counted); err != nil {
			return nil, nil, err
		}
	}
	p, _ := a.pool.Get().(*[]byte)
	if p == nil {
		p = new([]byte)
	}
	var once sync.Once
	release := func() {
		once.Do(func() {
			if cap(*p) <= 4*answerStep {
				a.pool.Put(p)
			}
			a.release(counted)
		})
	}
	buf := (*p)[:0]
	for len(buf) < size {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(size, max(2*len(buf), answerStep)))
			copy(grown, buf)
			buf = grown
		}
		n, err := io.ReadFull(r, buf[len(buf):min(size, cap(buf))])
		buf = buf[:len(buf)+n]
		if err != nil {
			release()
			return nil, nil, err
		}
	}
	*p = buf
	return buf, release, nil
}

func (a *answers) acquire(ctx context.Context, n int64) error {
	for {
		a.mu.Lock()
		if a.used == 0 || a.used+n <= a.limit {
			a.used += n
			a.mu.Unlock()
			return nil
		}
		if a.freed == nil {
			a.freed = make(chan struct{})
		}
		freed := a.freed
		a.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *answers) release(n int64) {
	if n == 0 {
		return
	}
	a.mu.Lock()
	a.used -= n
	if a.freed != nil {
		close(a.freed)
		a.freed = nil
	}
	a.mu.Unlock()
}

func (a *answers) inUse() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}
