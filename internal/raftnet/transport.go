package raftnet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Transport is one replica's raft.Transport. Server ids and addresses are
// decimal replica ids.
type Transport struct {
	n        *Net
	replica  uint64
	addr     raft.ServerAddress
	inbox    inbox
	progress progress
	done     sync.WaitGroup // the goroutine of answers

	mu        sync.Mutex
	closed    bool
	calls     context.Context // ends at Interrupt, which replaces it, and at Close
	interrupt context.CancelCauseFunc
	pipelines map[*pipeline]struct{}
	installer func(ctx context.Context, peer uint64, manifest []byte) error
	sentTerm  uint64 // newest term of an append of ours
	quitTerm  uint64 // sentTerm at the last Interrupt
}

var (
	_ raft.Transport      = (*Transport)(nil)
	_ raft.WithPreVote    = (*Transport)(nil)
	_ raft.WithClose      = (*Transport)(nil)
	_ raft.AppendPipeline = (*pipeline)(nil)
)

// Group opens the transport of a replica that this node holds. Frames for the
// replica are refused before that, and after its Close.
func (n *Net) Group(replica uint64) (*Transport, error) {
	if replica == 0 {
		return nil, errors.New("raftnet: 0 is no replica id")
	}
	t := &Transport{
		n: n, replica: replica, addr: raft.ServerAddress(strconv.FormatUint(replica, 10)),
		pipelines: make(map[*pipeline]struct{}),
	}
	t.inbox.init()
	t.calls, t.interrupt = context.WithCancelCause(n.ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		t.interrupt(ErrClosed)
		return nil, ErrClosed
	}
	if _, open := n.groups.LoadOrStore(replica, t); open {
		t.interrupt(ErrClosed)
		return nil, fmt.Errorf("raftnet: replica %d is open already", replica)
	}
	t.done.Go(t.answers)
	n.wg.Go(t.done.Wait)
	return t, nil
}

// Close ends all calls and refuses what comes. It may be called more than once.
func (t *Transport) Close() error {
	t.shut()
	t.done.Wait()
	return nil
}

func (t *Transport) shut() {
	t.mu.Lock()
	t.closed = true
	t.interrupt(ErrClosed)
	pipelines := t.pipelines
	t.pipelines = make(map[*pipeline]struct{})
	t.mu.Unlock()
	t.n.groups.CompareAndDelete(t.replica, t)
	t.inbox.close()
	for p := range pipelines {
		p.Close()
	}
}

// Interrupt fails every blocked call of this replica now: its leadership was
// lost, or it shuts down. Appends of the terms up to now no longer wait for
// peers that are down; everything else works as before. Deliver, which is
// bounded by itself, goes on.
//
// It must be called before raft.Raft.Shutdown is waited for, and when the
// leadership was lost: raft waits for its replication, which may wait here.
func (t *Transport) Interrupt() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.quitTerm = t.sentTerm
	t.interrupt(ErrInterrupted)
	t.calls, t.interrupt = context.WithCancelCause(t.n.ctx)
	pipelines := make([]*pipeline, 0, len(t.pipelines))
	for p := range t.pipelines {
		pipelines = append(pipelines, p)
	}
	t.mu.Unlock()
	for _, p := range pipelines {
		p.abort(ErrInterrupted)
	}
}

// SetInstaller sets what InstallSnapshot calls before the request itself: it
// stages the bulk data at the peer. It may take minutes and ends when ctx does.
func (t *Transport) SetInstaller(f func(ctx context.Context, peer uint64, manifest []byte) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.installer = f
}

// Progress returns what the last responses of a peer said: its log agrees with
// ours up to match, and contact is when it last answered. It is reset when this
// replica leads in a new term.
func (t *Transport) Progress(peer uint64) (match uint64, contact time.Time, ok bool) {
	return t.progress.of(peer)
}

// Consumer implements raft.Transport.
func (t *Transport) Consumer() <-chan raft.RPC { return t.inbox.consume }

// LocalAddr implements raft.Transport.
func (t *Transport) LocalAddr() raft.ServerAddress { return t.addr }

// EncodePeer implements raft.Transport.
func (t *Transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler does nothing, so that heartbeats go through raft's main
// loop: the fast path runs beside it and can violate safety (hashicorp/raft 695).
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// current returns the context of calls that begin now.
func (t *Transport) current() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

func parseReplica(id raft.ServerID) (uint64, error) {
	r, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil || r == 0 {
		return 0, fmt.Errorf("%w: server id %q is no replica id", ErrUnknownReplica, id)
	}
	return r, nil
}

// control sends a request on the Control connection and decodes the reply. It
// fails at once when the peer is down.
func (t *Transport) control(id raft.ServerID, timeout time.Duration, resp any, encode func(id, dst uint64) (*frame, error)) error {
	dst, err := parseReplica(id)
	if err != nil {
		return err
	}
	ctx := t.current()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	p, err := t.n.peerOf(dst)
	if err != nil {
		return err
	}
	c, err := p.controlConn()
	if err != nil {
		return err
	}
	rid := t.n.nextID.Add(1)
	f, err := encode(rid, dst)
	if err != nil {
		return err
	}
	reply, err := c.exchange(ctx, f, rid, timeout, false)
	if err != nil {
		return err
	}
	return decodeResponse(reply, dst, resp)
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.control(id, t.n.opts.VoteTimeout, resp, func(rid, dst uint64) (*frame, error) {
		return encodeVote(args, rid, dst, t.replica)
	})
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.control(id, t.n.opts.VoteTimeout, resp, func(rid, dst uint64) (*frame, error) {
		return encodePreVote(args, rid, dst, t.replica)
	})
}

// TimeoutNow implements raft.Transport.
func (t *Transport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.control(id, t.n.opts.HeartbeatTimeout, resp, func(rid, dst uint64) (*frame, error) {
		return encodeTimeoutNow(args, rid, dst, t.replica)
	})
}

// heartbeat is an append that says nothing but who leads.
func (t *Transport) heartbeat(id raft.ServerID, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !t.n.opts.Healthy() {
		return ErrUnhealthy
	}
	err := t.control(id, t.n.opts.HeartbeatTimeout, resp, func(rid, dst uint64) (*frame, error) {
		return encodeAppend(args, rid, dst, t.replica)
	})
	if err == nil {
		if dst, err := parseReplica(id); err == nil {
			t.progress.note(dst, args.Term, 0)
		}
	}
	return err
}
