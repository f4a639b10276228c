package httpgateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// maxIdle connections to the own Kafka server are kept.
const maxIdle = 64

// asker makes requests to the own Kafka server.
type asker struct {
	connect func() net.Conn

	mu     sync.Mutex
	closed bool
	idle   []*inside
}

// inside is a connection to the own Kafka server, for one request at a time.
type inside struct {
	nc  net.Conn
	buf []byte
}

// unsentError says that a request did not reach the server.
type unsentError struct{ error }

func (e unsentError) Unwrap() error { return e.error }

func (a *asker) open() *inside { return &inside{nc: a.connect()} }

// ask makes a request and waits for the answer, until ctx ends. It fails with an
// unsentError if nothing can have come of it.
func (a *asker) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	for {
		a.mu.Lock()
		var c *inside
		if n := len(a.idle); n > 0 {
			c, a.idle = a.idle[n-1], a.idle[:n-1]
		}
		a.mu.Unlock()
		kept := c != nil
		if !kept {
			c = a.open()
		}
		resp, err := c.ask(ctx, req)
		if err == nil {
			a.keep(c)
			return resp, nil
		}
		c.close()
		var unsent unsentError
		if !kept || !errors.As(err, &unsent) || ctx.Err() != nil {
			return nil, err
		} // the server has ended a connection that was idle for long
	}
}

func (a *asker) keep(c *inside) {
	a.mu.Lock()
	if !a.closed && len(a.idle) < maxIdle {
		a.idle = append(a.idle, c)
		c = nil
	}
	a.mu.Unlock()
	if c != nil {
		c.close()
	}
}

func (a *asker) close() {
	a.mu.Lock()
	idle := a.idle
	a.idle, a.closed = nil, true
	a.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

func (c *inside) close() { c.nc.Close() }

// ask is for one goroutine at a time; after an error the connection is over. What
// the answer has of bytes is valid until the next one.
func (c *inside) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	c.buf = kmsg.NewRequestFormatter(kmsg.FormatterClientID("http")).AppendRequest(c.buf[:0], req, 0)
	if _, err := c.nc.Write(c.buf); err != nil {
		return nil, unsentError{c.failed(ctx, err)}
	}
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return nil, c.failed(ctx, err)
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if cap(c.buf) < size || cap(c.buf) > 4*size+(1<<20) {
		c.buf = make([]byte, size) // its length is our own server's word
	}
	c.buf = c.buf[:size]
	if _, err := io.ReadFull(c.nc, c.buf); err != nil {
		return nil, c.failed(ctx, err)
	}
	_, body, err := kafka.SplitAnswer(c.buf, req.IsFlexible())
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	return resp, resp.ReadFrom(body)
}

func (c *inside) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("this node can't serve now: %w", err)
}
