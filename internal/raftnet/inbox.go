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
	from  *conn
	head  header
	beats *beatAnswers // if it came in a beats frame, as the nth
	nth   int
	resp  chan raft.RPCResponse // one place; raft answers once
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
	rpc := raft.RPC{Command: cmd}
	if h.kind == kindInstallSnapshot {
		rpc.Reader = bytes.NewReader(body)
	}
	var answer any
	if f := t.screen.Load(); f != nil && (h.kind == kindInstallSnapshot || h.kind == kindAppendEntries) {
		answer = (*f)(cmd)
	}
	return t.handIn(request{from: c, head: h}, rpc, answer)
}

// receiveBeat does the same with a part of a beats frame.
func (t *Transport) receiveBeat(a *beatAnswers, nth int, cmd *raft.AppendEntriesRequest) byte {
	return t.handIn(request{beats: a, nth: nth, head: header{length: beatLen}}, raft.RPC{Command: cmd}, nil)
}

// handIn queues a request, for raft unless there is an answer already.
func (t *Transport) handIn(what request, rpc raft.RPC, answer any) byte {
	b := &t.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	size := int64(what.head.length)
	switch {
	case b.shut:
		return codeUnknownReplica
	case len(b.waiting) == cap(b.waiting), b.bytes > 0 && b.bytes+size > t.n.opts.InboxBytes, t.n.inbox.Load() > netInboxBytes:
		return codeBusy
	}
	r := requests.Get().(*request)
	r.from, r.head, r.beats, r.nth = what.from, what.head, what.beats, what.nth
	rpc.RespChan = r.resp
	if answer != nil {
		r.resp <- raft.RPCResponse{Response: answer}
	} else {
		select {
		case b.consume <- rpc:
		default:
			requests.Put(r)
			return codeBusy
		}
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
				t.settle(r, resp)
				r.from, r.beats, r.head = nil, nil, header{}
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
		t.settle(r, resp)
	default:
		t.settle(r, raft.RPCResponse{Error: ErrUnknownReplica})
	}
}

// settle sends an answer; ErrUnknownReplica stands for none.
func (t *Transport) settle(r *request, resp raft.RPCResponse) {
	size := int64(r.head.length)
	t.n.inbox.Add(-size)
	t.inbox.mu.Lock()
	t.inbox.bytes -= size
	t.inbox.mu.Unlock()
	switch {
	case r.beats != nil:
		var commit uint64
		if f := t.committed.Load(); f != nil {
			commit = (*f)()
		}
		r.beats.answer(r.nth, resp, commit)
	case r.head.flags&flagOneWay != 0:
	case resp.Error == ErrUnknownReplica:
		r.from.reply(errorFrame(r.head, codeUnknownReplica, ""))
	default:
		r.from.reply(encodeResponse(r.head, resp))
	}
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
