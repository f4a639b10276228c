package raftnet

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	pipelineDepth = 64
	pipelineBytes = 32 << 20 // in flight; one request is always let in
)

// pipeline is a raft.AppendPipeline on one Data connection.
//
// Futures are delivered to the consumer in the order sent. The consumer may
// have stopped reading at any time, so nothing here waits for it but the pump,
// which Close ends.
type pipeline struct {
	t    *Transport
	c    *conn
	peer uint64
	term atomic.Uint64          // of what was sent; 0 before that
	id   uint64                 // of the call that stands for the connection
	out  chan raft.AppendFuture // never closed

	failed chan struct{} // closed: nothing more is sent
	closed chan struct{} // closed by Close

	mu       sync.Mutex
	flight   []*appendFuture // sent, oldest first, not handed to out or late
	late     []*appendFuture // resolved, in order, waiting for the pump because out is full
	bytes    int             // of flight
	room     chan struct{}   // not nil while a sender waits; closed when there may be room
	pumping  bool
	isFailed bool
	isClosed bool
	wg       sync.WaitGroup // the pump
}

// appendFuture implements raft.AppendFuture and pending.
type appendFuture struct {
	p     *pipeline
	start time.Time
	args  *raft.AppendEntriesRequest
	resp  *raft.AppendEntriesResponse
	id    uint64
	size  int

	// guarded by pipeline.mu
	resolved bool
	err      error
	done     chan struct{} // made by the first that waits
}

// AppendEntriesPipeline implements raft.Transport. It fails at once when the
// peer is down.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	dst, err := parseReplica(id)
	if err != nil {
		return nil, err
	}
	c, err := t.dataConn(t.life, dst, 0, false)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		t: t, c: c, peer: dst, out: make(chan raft.AppendFuture, pipelineDepth),
		failed: make(chan struct{}), closed: make(chan struct{}),
	}
	p.id = t.n.nextID.Add(1)
	if err := c.watch(p.id, pipelineWatch{p}); err != nil {
		return nil, err
	}
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.pipelines[p] = struct{}{}
	}
	t.mu.Unlock()
	if closed {
		c.take(p.id)
		return nil, ErrClosed
	}
	return p, nil
}

// pipelineWatch is told when the connection breaks, though nothing is in flight:
// raft would notice by what it sends next, and not send that again.
type pipelineWatch struct{ p *pipeline }

func (pipelineWatch) keeps() bool { return false }

func (w pipelineWatch) resolve(_ []byte, err error) { w.p.endIdle(err) }

// endIdle fails the pipeline and tells raft, unless what is in flight does.
func (p *pipeline) endIdle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		return
	}
	told := p.isFailed
	p.failLocked()
	if len(p.flight) == 0 && !told {
		p.handLocked(&appendFuture{p: p, start: time.Now(), args: new(raft.AppendEntriesRequest), resp: new(raft.AppendEntriesResponse), resolved: true, err: err})
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// AppendEntries implements raft.AppendPipeline. It blocks while too much is in
// flight or unread, until the pipeline fails or is closed.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.t.n.healthGate() != nil {
		return nil, ErrUnhealthy
	}
	p.term.Store(args.Term)
	ctx, _ := p.t.beginAppend(args.Term)
	if err := p.t.pace(ctx, p.peer, args.Entries); err != nil {
		return nil, err
	}
	f := &appendFuture{p: p, start: time.Now(), args: args, resp: resp, id: p.t.n.nextID.Add(1)}
	fr, err := encodeAppend(args, f.id, p.peer, p.t.replica)
	if err != nil {
		return nil, err
	}
	f.size = fr.size
	if err := p.enter(f); err != nil {
		fr.release()
		return nil, err
	}
	if err := p.c.submit(fr, f.id, f, p.failed); err != nil {
		// It counts as sent, and raft hears of its failure from the consumer.
		if errors.Is(err, errCancelled) {
			err = raft.ErrPipelineShutdown
		}
		f.resolve(nil, err)
		return nil, err
	}
	return f, nil
}

// enter waits for room and puts the future in flight.
func (p *pipeline) enter(f *appendFuture) error {
	for {
		p.mu.Lock()
		if p.isFailed {
			p.mu.Unlock()
			return raft.ErrPipelineShutdown
		}
		if n := len(p.flight) + len(p.late); n == 0 || n < pipelineDepth && p.bytes+f.size <= pipelineBytes {
			p.flight = append(p.flight, f)
			p.bytes += f.size
			p.mu.Unlock()
			return nil
		}
		if p.room == nil {
			p.room = make(chan struct{})
		}
		room := p.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-p.failed:
		}
	}
}

func (f *appendFuture) keeps() bool { return false }

// resolve implements pending.
func (f *appendFuture) resolve(payload []byte, err error) {
	p := f.p
	if err == nil {
		err = decodeResponse(payload, p.peer, f.resp)
	}
	if err != nil {
		*f.resp = raft.AppendEntriesResponse{}
	} else {
		p.t.progress.noteAppend(p.peer, f.args, f.resp)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f.resolved, f.err = true, err
	if f.done != nil {
		close(f.done)
	}
	p.deliverLocked()
}

// deliverLocked hands on what has been resolved, in order.
func (p *pipeline) deliverLocked() {
	for len(p.flight) > 0 && p.flight[0].resolved {
		f := p.flight[0]
		p.flight[0] = nil
		p.flight = p.flight[1:]
		p.bytes -= f.size
		if !p.isClosed {
			p.handLocked(f)
		}
		if !f.resp.Success {
			p.failLocked() // raft reads no further
		}
	}
	p.openRoomLocked()
}

func (p *pipeline) handLocked(f *appendFuture) {
	if len(p.late) == 0 {
		select {
		case p.out <- f:
			return
		default:
		}
	}
	p.late = append(p.late, f)
	if !p.pumping {
		p.pumping = true
		p.wg.Go(p.pump)
	}
}

// pump hands late futures on as the consumer reads.
func (p *pipeline) pump() {
	for {
		p.mu.Lock()
		if len(p.late) == 0 || p.isClosed {
			p.pumping = false
			p.mu.Unlock()
			return
		}
		f := p.late[0]
		p.mu.Unlock()
		select {
		case p.out <- f:
		case <-p.closed:
			continue
		}
		p.mu.Lock()
		p.late = p.late[1:]
		p.openRoomLocked()
		p.mu.Unlock()
	}
}

func (p *pipeline) openRoomLocked() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}

func (p *pipeline) failLocked() {
	if !p.isFailed {
		p.isFailed = true
		close(p.failed)
	}
}

// abort fails what is in flight and sends nothing more. Raft is told through
// the consumer, if anything was in flight.
func (p *pipeline) abort(err error) {
	p.mu.Lock()
	p.failLocked()
	flight := append([]*appendFuture(nil), p.flight...)
	p.mu.Unlock()
	for _, f := range flight {
		if p.c.take(f.id) {
			f.resolve(nil, err)
		}
	}
}

// EndPipeline ends what pipeline there is to a peer. Raft then sends one request
// after the other, up to the end of its log, before it begins a new one.
func (t *Transport) EndPipeline(peer uint64) {
	t.mu.Lock()
	var ended []*pipeline
	for p := range t.pipelines {
		if p.peer == peer {
			ended = append(ended, p)
		}
	}
	t.mu.Unlock()
	for _, p := range ended {
		p.endIdle(raft.ErrPipelineShutdown)
		p.abort(raft.ErrPipelineShutdown)
	}
}

// Close implements raft.AppendPipeline: it cancels all that is in flight. It
// never waits for a reader of Consumer and may be called more than once.
func (p *pipeline) Close() error {
	p.mu.Lock()
	if !p.isClosed {
		p.isClosed = true
		close(p.closed)
	}
	p.mu.Unlock()
	p.c.take(p.id)
	p.abort(raft.ErrPipelineShutdown)
	p.t.mu.Lock()
	delete(p.t.pipelines, p)
	p.t.mu.Unlock()
	p.wg.Wait()
	return nil
}

// Error implements raft.Future.
func (f *appendFuture) Error() error {
	f.p.mu.Lock()
	if f.resolved {
		defer f.p.mu.Unlock()
		return f.err
	}
	if f.done == nil {
		f.done = make(chan struct{})
	}
	done := f.done
	f.p.mu.Unlock()
	<-done
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	return f.err
}

// Start implements raft.AppendFuture.
func (f *appendFuture) Start() time.Time { return f.start }

// Request implements raft.AppendFuture.
func (f *appendFuture) Request() *raft.AppendEntriesRequest { return f.args }

// Response implements raft.AppendFuture.
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }
