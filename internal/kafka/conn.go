package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// writeStep bounds what one write takes, and so what must move within
// Limits.StallTimeout.
const writeStep = 4 << 20

// conn is one client connection. serve owns its goroutines: the reader is
// the caller, the writer and parked fetches are in wg.
type conn struct {
	srv      *Server
	listener string
	inside   bool // from within the process: Server.Connect
	nc       net.Conn
	remote   string
	queue    *queue
	draining atomic.Bool
	stop     chan struct{} // closed when draining starts: parked fetches answer now

	settled   atomic.Bool // a response was sent that is not that to ApiVersions
	stopOnce  sync.Once
	abortOnce sync.Once
	cause     error // of the abort, after ctx is done
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	advertised string
	session    ForwardSession // nil with a backend
}

func newConn(s *Server, l Listener, nc net.Conn, cancel context.CancelFunc) *conn {
	return &conn{
		srv: s, listener: l.Name, advertised: l.Advertised, nc: nc, remote: nc.RemoteAddr().String(), cancel: cancel,
		queue: newQueue(s.opts.Limits.MaxPendingRequests, int64(s.opts.Limits.MaxPendingBytes), s.outgoing),
		stop:  make(chan struct{}),
	}
}

// serve runs the connection until it ends and waits for all it started.
func (c *conn) serve(ctx context.Context) {
	if f := c.srv.opts.Forward; f != nil {
		c.session = f.Open(ForwardClient{Listener: c.listener, Advertised: c.advertised, Remote: c.remote, Stop: c.stop, Abort: c.abort})
	}
	c.wg.Go(c.write)
	err := c.read(ctx)
	if errors.Is(err, errStopped) || c.draining.Load() {
		c.queue.drain()
	} else {
		c.abort(err)
	}
	c.wg.Wait()
	c.abort(nil)
	if c.session != nil {
		c.session.Close()
	}
	c.srv.reportEnd(c, c.cause)
}

// drain takes no more requests, answers what is pending and ends.
func (c *conn) drain() {
	c.stopOnce.Do(func() {
		c.draining.Store(true)
		close(c.stop)
		c.queue.drain() // frees a reader that waits for room
		c.nc.SetReadDeadline(time.Unix(1, 0))
	})
}

// abort ends the connection at once. Only the first cause counts.
func (c *conn) abort(cause error) {
	c.abortOnce.Do(func() {
		c.cause = cause
		c.cancel()
		c.queue.close()
		if c.settled.Load() {
			orderly(c.nc)
		}
		c.nc.Close()
	})
}

// read takes requests off the connection and starts them, in order.
func (c *conn) read(ctx context.Context) error {
	r := newFrameReader(c)
	for {
		size, key, version, err := r.next()
		if err != nil {
			return err
		}
		a := c.srv.apis.find(key)
		if a == nil {
			return badFramef("request with unknown API key %d (ApiVersions lists those that this node has)", key)
		}
		if !a.supports(version) && a.key != apiVersionsKey {
			return badFramef("%s version %d is not supported, only %d to %d", a.name, version, a.min, a.max)
		}
		if size > a.maxFrame(&c.srv.opts.Limits) {
			return badFramef("%s request of %d bytes, at most %d are taken", a.name, size, a.maxFrame(&c.srv.opts.Limits))
		}
		if !c.queue.reserve(ctx, size) {
			return errStopped
		}
		l, ok := c.lease(ctx, size)
		if !ok {
			return errStopped
		}
		if err := c.request(ctx, r, a, version, size, l); err != nil {
			return err
		}
	}
}

// lease waits for memory for a request, which is not counted when it is small
// and the only one that is unanswered.
func (c *conn) lease(ctx context.Context, size int) (*lease, bool) {
	if size <= freeRequest && c.queue.unanswered() == 1 {
		return nil, true
	}
	b := c.srv.requests
	n, ok := b.acquire(ctx, c.stop, size)
	if !ok {
		return nil, false
	}
	return newLease(b, n), true
}

// request reads one request, whose size has been reserved, and starts it. It
// takes the lease over.
func (c *conn) request(ctx context.Context, r *frameReader, a *api, version int16, size int, l *lease) (err error) {
	defer l.drop()
	var (
		frame  []byte
		pooled *[]byte
	)
	if a.keepsFrame || a.grouped || size > maxPooled {
		frame = make([]byte, 0, min(size, frameStep))
	} else {
		pooled = buffers.get(size)
		frame = *pooled
	}
	if frame, err = r.body(frame, size); err != nil {
		return err
	}
	x := &exchange{
		conn: c, api: a, version: version, flexible: a.flexible(version), size: size,
		started: c.srv.now(), lease: l,
	}
	m := c.srv.metrics
	m.received.Add(float64(size + 4))
	a.requests.Inc()

	correlation, clientID, body, err := parseHeader(frame, x.flexible && a.supports(version))
	if err != nil {
		return err
	}
	x.correlation = correlation
	if a.grouped {
		x.clientID = string(clientID)
	}
	if !a.supports(version) { // ApiVersions only, see read
		c.queue.push(x)
		replyUnsupportedApiVersions(x)
		return nil
	}
	req, err := decode(a, version, x.flexible, body)
	if err != nil {
		return err
	}
	if pooled != nil {
		*pooled = frame
		buffers.put(pooled)
	}
	c.queue.push(x)
	a.handle(ctx, x, req)
	return nil
}

// write sends answered exchanges, in order, until the queue is over. When it
// has drained, it ends the connection.
func (c *conn) write() {
	var (
		xs   []*exchange
		bufs [][]byte
		ok   bool
	)
	for {
		xs, ok = c.queue.take(xs[:0], writeStep)
		if !ok {
			c.abort(nil)
			return
		}
		bufs = bufs[:0]
		for _, x := range xs {
			bufs = x.out.appendTo(bufs)
		}
		settles := !c.settled.Load() && slices.ContainsFunc(xs, (*exchange).settles)
		if settles {
			c.settled.Store(true)
		}
		err := c.send(bufs)
		if settles {
			orderly(c.nc)
		}
		clear(bufs)
		now := c.srv.now()
		for _, x := range xs {
			x.api.latency.Observe(now.Sub(x.started).Seconds())
			if c.srv.opts.LogRequests {
				c.logRequest(x, now)
			}
		}
		c.queue.done(xs)
		clear(xs)
		if err != nil {
			c.abort(fmt.Errorf("write: %w", err))
			return
		}
	}
}

func (c *conn) logRequest(x *exchange, now time.Time) {
	c.srv.log.Info("request", "api", x.api.name, "version", x.version, "remote", c.remote, "listener", c.listener,
		"bytes", x.size, "response_bytes", x.out.size, "took", now.Sub(x.started))
}

// send writes bufs with as few system calls as the stall timeout allows:
// each must make writeStep or all of the rest move in time.
func (c *conn) send(bufs [][]byte) error {
	for len(bufs) > 0 {
		n, size := 0, 0
		for n < len(bufs) && (n == 0 || size+len(bufs[n]) <= writeStep) {
			size += len(bufs[n])
			n++
		}
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.srv.opts.Limits.StallTimeout)); err != nil {
			return err
		}
		part := net.Buffers(bufs[:n])
		written, err := part.WriteTo(c.nc)
		c.srv.metrics.sent.Add(float64(written))
		if err != nil {
			return err
		}
		bufs = bufs[n:]
	}
	return nil
}

// ordinary says whether a connection may end like this without anyone being
// at fault.
func ordinary(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, errStopped) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, context.Canceled)
}
