package raftnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// waiter is a request whose caller waits for the reply.
type waiter struct {
	done    chan struct{}
	keep    bool
	payload []byte
	err     error
}

func (w *waiter) keeps() bool { return w.keep }

func (w *waiter) resolve(payload []byte, err error) {
	if !w.keep {
		payload = bytes.Clone(payload)
	}
	w.payload, w.err = payload, err
	close(w.done)
}

// exchange sends a request and waits for its reply. ctx ends the wait, with
// its cause; a timeout of 0 is none. keep is for replies that may be large.
func (c *conn) exchange(ctx context.Context, f *frame, id uint64, timeout time.Duration, keep bool) ([]byte, error) {
	w := &waiter{done: make(chan struct{}), keep: keep}
	if err := c.submit(f, id, w, ctx.Done()); err != nil {
		if errors.Is(err, errCancelled) {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	var err error
	select {
	case <-w.done:
		return w.payload, w.err
	case <-expired:
		err = fmt.Errorf("%w: node %d, after %s", ErrTimeout, c.node, timeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if c.take(id) {
		return nil, err
	}
	<-w.done
	return w.payload, w.err
}
