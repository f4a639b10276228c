package raftnet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
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
	hurry    atomic.Int32   // callers of Hurry

	committed atomic.Pointer[func() uint64]
	screen    atomic.Pointer[func(cmd any) (answer any)]

	life context.Context // ends at Close
	end  context.CancelCauseFunc

	mu        sync.Mutex
	closed    bool
	calls     context.Context // of appends of sentTerm
	interrupt context.CancelCauseFunc
	pipelines map[*pipeline]struct{}
	installer func(ctx context.Context, peer uint64, manifest []byte, send func() error) error
	pacer     func(ctx context.Context, peer, last uint64, bytes int) error
	sentTerm  uint64                   // newest term of an append of ours
	quitTerm  uint64                   // newest term that was interrupted
	signals   map[uint64]chan struct{} // closed when there is news of a peer that somebody waits for
	gone      map[uint64]uint64        // peer -> newest term in which it was removed
	rush      chan struct{}            // closed when somebody gets into a hurry; nil when nobody waits for that
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
		pipelines: make(map[*pipeline]struct{}), signals: make(map[uint64]chan struct{}), gone: make(map[uint64]uint64),
	}
	t.inbox.init()
	t.life, t.end = context.WithCancelCause(n.ctx)
	t.calls, t.interrupt = context.WithCancelCause(t.life)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		t.end(ErrClosed)
		return nil, ErrClosed
	}
	if _, open := n.groups.LoadOrStore(replica, t); open {
		t.end(ErrClosed)
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
	t.end(ErrClosed)
	pipelines := t.pipelines
	t.pipelines = make(map[*pipeline]struct{})
	t.mu.Unlock()
	t.n.groups.CompareAndDelete(t.replica, t)
	t.inbox.close()
	for p := range pipelines {
		p.Close()
	}
}

// Interrupt fails every blocked append of this replica now: its leadership was
// lost, or it shuts down. Appends of the terms up to now no longer wait for
// peers that are down; everything else works as before. Votes and Deliver, which
// are bounded by themselves, go on.
//
// It must be called before raft.Raft.Shutdown is waited for, unless Close is, and
// when the leadership was lost: raft waits for its replication, which may wait here.
func (t *Transport) Interrupt() { t.InterruptTo(math.MaxUint64) }

// InterruptTo does this to appends of the terms up to one, which may be over for
// some time: this replica may lead again meanwhile.
func (t *Transport) InterruptTo(term uint64) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	term = min(term, t.sentTerm)
	t.quitTerm = max(t.quitTerm, term)
	var over []*pipeline
	if term == t.sentTerm {
		over = t.interruptLocked(term)
	}
	t.mu.Unlock()
	abortAll(over)
}

// interruptLocked ends the calls that were made, and returns the pipelines of
// terms up to one for abortAll, without the lock.
func (t *Transport) interruptLocked(term uint64) (over []*pipeline) {
	t.interrupt(ErrInterrupted)
	t.calls, t.interrupt = context.WithCancelCause(t.life)
	for p := range t.pipelines {
		if p.term.Load() <= term {
			over = append(over, p)
		}
	}
	return over
}

func abortAll(pipelines []*pipeline) {
	for _, p := range pipelines {
		p.abort(ErrInterrupted)
	}
}

// beginAppend returns the context of an append of a term, and whether it may
// wait for a peer that is down. Appends of older terms end.
func (t *Transport) beginAppend(term uint64) (ctx context.Context, patient bool) {
	t.mu.Lock()
	var over []*pipeline
	if term > t.sentTerm {
		if t.sentTerm > 0 && !t.closed {
			over = t.interruptLocked(t.sentTerm)
		}
		t.sentTerm = term
	}
	ctx, patient = t.calls, term > t.quitTerm
	if term < t.sentTerm {
		ctx, patient = interrupted, false
	}
	t.mu.Unlock()
	abortAll(over)
	return ctx, patient
}

// interrupted is the context of calls whose term is over.
var interrupted = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrInterrupted)
	return ctx
}()

// SetScreen has f look at each append (but heartbeats) and snapshot that comes from
// the network, before raft does. It may change the request, or return the response
// to it, which raft does not get to see then. It is called by the goroutines that
// read connections.
func (t *Transport) SetScreen(f func(cmd any) (answer any)) { t.screen.Store(&f) }

// SetInstaller sets what InstallSnapshot calls: it stages the bulk data at the
// peer, and then calls send, which makes the request itself. It may take minutes
// and ends when ctx does.
func (t *Transport) SetInstaller(f func(ctx context.Context, peer uint64, manifest []byte, send func() error) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.installer = f
}

// SetPacer sets what appends with entries wait for before they are sent: entries up
// to index last, of so many bytes. It ends when ctx does.
func (t *Transport) SetPacer(f func(ctx context.Context, peer, last uint64, bytes int) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pacer = f
}

func (t *Transport) pace(ctx context.Context, peer uint64, entries []*raft.Log) error {
	t.mu.Lock()
	pacer := t.pacer
	t.mu.Unlock()
	if pacer == nil || len(entries) == 0 {
		return nil
	}
	bytes := 0
	for _, l := range entries {
		bytes += len(l.Data) + len(l.Extensions)
	}
	return pacer(ctx, peer, entries[len(entries)-1].Index, bytes)
}

// Progress returns what the last responses of a peer said: its log agrees with
// ours up to match, and contact is when it last answered. It is reset when this
// replica leads in a new term.
func (t *Transport) Progress(peer uint64) (match uint64, contact time.Time, ok bool) {
	f, ok := t.progress.of(peer)
	return f.Match, f.Contact, ok
}

// Follower is Progress with what the peer knows to be committed.
func (t *Transport) Follower(peer uint64) (Follower, bool) { return t.progress.of(peer) }

// FellBack reports, once, that a follower has forgotten what was committed.
func (t *Transport) FellBack() bool {
	return t.progress.fellBack.Load() && t.progress.fellBack.Swap(false)
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
	ctx := t.life
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
