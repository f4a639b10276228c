package raftnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// inboxDepth is how many requests may wait for a group's raft.
	inboxDepth = 256
	// netInboxBytes bounds what waits for raft, all groups together.
	netInboxBytes = 1 << 30
	// deliverTimeout bounds Deliver.
	deliverTimeout = 2 * time.Second
)

// request is one that was handed to raft, and where its answer goes.
type request struct {
	from *conn
	head header
	resp chan raft.RPCResponse // one place; raft answers once
}

// requests are reused once raft has answered, with their channels.
var requests = sync.Pool{New: func() any { return &request{resp: make(chan raft.RPCResponse, 1)} }}

// inbox takes requests to raft and raft's answers back. Raft handles requests
// one after the other, so answers are awaited in order, by one goroutine.
type inbox struct {
	consume chan raft.RPC // raft's end
	waiting chan *request // handed in, not answered yet
	closed  chan struct{}

	mu    sync.Mutex // one sender at a time
	bytes int64      // of requests without an answer
	shut  bool
}

func (b *inbox) init() {
	b.consume = make(chan raft.RPC, inboxDepth)
	b.waiting = make(chan *request, inboxDepth)
	b.closed = make(chan struct{})
}

// receive hands a request from the network to raft. It does not block; the
// result is the error code to answer with, 0 if raft will answer.
func (t *Transport) receive(c *conn, h header, cmd any, body []byte) byte {
	b := &t.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	size := int64(h.length)
	switch {
	case b.shut:
		return codeUnknownReplica
	case len(b.waiting) == cap(b.waiting), b.bytes > 0 && b.bytes+size > t.n.opts.InboxBytes, t.n.inbox.Load() > netInboxBytes:
		return codeBusy
	}
	r := requests.Get().(*request)
	r.from, r.head = c, h
	rpc := raft.RPC{Command: cmd, RespChan: r.resp}
	if h.kind == kindInstallSnapshot {
		rpc.Reader = bytes.NewReader(body)
	}
	select {
	case b.consume <- rpc:
	default:
		requests.Put(r)
		return codeBusy
	}
	b.bytes += size
	t.n.inbox.Add(size)
	b.waiting <- r // has room: it was looked at under the lock, and only grows under it
	return 0
}

// answers sends raft's answers back until the transport is shut.
func (t *Transport) answers() {
	b := &t.inbox
	for {
		select {
		case r := <-b.waiting:
			select {
			case resp := <-r.resp:
				t.settle(r, encodeResponse(r.head, resp))
				r.from, r.head = nil, header{}
				requests.Put(r)
			case <-b.closed:
				t.abandon(r)
			}
		case <-b.closed:
			for {
				select {
				case r := <-b.waiting:
					t.abandon(r)
				default:
					return
				}
			}
		}
	}
}

// abandon answers a request that raft will not, or may still: it is not reused.
func (t *Transport) abandon(r *request) {
	select {
	case resp := <-r.resp:
		t.settle(r, encodeResponse(r.head, resp))
	default:
		t.settle(r, errorFrame(r.head, codeUnknownReplica, ""))
	}
}

func (t *Transport) settle(r *request, f *frame) {
	size := int64(r.head.length)
	t.n.inbox.Add(-size)
	t.inbox.mu.Lock()
	t.inbox.bytes -= size
	t.inbox.mu.Unlock()
	if r.head.flags&flagOneWay != 0 {
		f.release()
		return
	}
	r.from.reply(f)
}

// close refuses what comes from now on; waiting requests are answered by answers.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.shut {
		b.shut = true
		close(b.closed)
	}
}

// Deliver injects a command (a pointer to one of raft's requests, with an
// RPCHeader of raft's protocol version) into the own group and returns what
// raft answers. It fails when raft has not answered within two seconds.
func (t *Transport) Deliver(cmd any) (raft.RPCResponse, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), deliverTimeout, ErrTimeout)
	defer cancel()
	return t.DeliverContext(ctx, cmd)
}

// DeliverContext is Deliver with another bound. When ctx ends it the command
// may still be handled later.
func (t *Transport) DeliverContext(ctx context.Context, cmd any) (raft.RPCResponse, error) {
	if _, ok := cmd.(*raft.InstallSnapshotRequest); ok {
		return raft.RPCResponse{}, errors.New("raftnet: a snapshot can't be delivered locally")
	}
	resp := make(chan raft.RPCResponse, 1)
	select {
	case t.inbox.consume <- raft.RPC{Command: cmd, RespChan: resp}:
	case <-t.inbox.closed:
		return raft.RPCResponse{}, ErrClosed
	case <-ctx.Done():
		return raft.RPCResponse{}, fmt.Errorf("deliver %T: %w", cmd, context.Cause(ctx))
	}
	select {
	case r := <-resp:
		return r, nil
	case <-t.inbox.closed:
		return raft.RPCResponse{}, ErrClosed
	case <-ctx.Done():
		return raft.RPCResponse{}, fmt.Errorf("deliver %T: %w", cmd, context.Cause(ctx))
	}
}
