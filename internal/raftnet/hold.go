package raftnet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft wakes a goroutine for each follower of each group every few seconds to send
// a heartbeat, at a time of its own. While all is well that goroutine is kept in
// its call: the call is held for Options.HeartbeatHold, and the peer's tick, which
// runs anyway, repeats the beats of all held calls every Options.HeartbeatRepeat,
// in a few frames and without waking any of them. A call returns with its last
// answer; at once when an answer is not a plain success, when the call's term or
// peer is over, and, after a fresh exchange, when somebody is in a hurry: whoever
// verifies that this replica leads must not be told of an older answer.

// holdTurns spread the repetitions: each held beat is repeated in one of them.
const holdTurns = 8

// hold is a held heartbeat.
type hold struct {
	beat
	in    *holds
	until time.Time     // an answer after this returns
	over  chan struct{} // closed when the call is to return: resp and err are its result

	// Guarded by holds.mu.
	flying bool // a repetition is not answered yet
	left   bool // it is not held any more
}

// holds are the held heartbeats to one peer.
type holds struct {
	p *peer

	mu    sync.Mutex
	turns [holdTurns]map[*hold]struct{}
	last  int64 // the turn that was last repeated, counted from 1970
}

// hold keeps a heartbeat that was just answered with resp, until its call should
// return. again says that the heartbeat is to be sent anew instead.
func (t *Transport) hold(ctx context.Context, p *peer, of *beat, resp *raft.AppendEntriesResponse) (again bool, err error) {
	rush := t.rushed()
	if p.n.opts.HeartbeatHold <= 0 || t.hurry.Load() > 0 || !resp.Success || resp.Term > of.term || ctx.Err() != nil {
		return false, nil
	}
	news, gone := t.signal(of.dst, of.term)
	if gone {
		return false, nil
	}
	h := &hold{
		beat: beat{t: t, dst: of.dst, src: of.src, term: of.term}, in: &p.holds,
		until: time.Now().Add(p.n.opts.HeartbeatHold), over: make(chan struct{}),
	}
	h.beat.held = h
	p.holds.add(h)
	select {
	case <-h.over:
		*resp = h.resp
		return false, h.err
	case <-rush:
	case <-news:
	case <-p.ctx.Done():
	case <-ctx.Done():
		p.holds.remove(h)
		return false, context.Cause(ctx)
	}
	p.holds.remove(h)
	return true, nil
}

func (q *holds) add(h *hold) {
	q.mu.Lock()
	defer q.mu.Unlock()
	turn := &q.turns[h.src%holdTurns]
	if *turn == nil {
		*turn = make(map[*hold]struct{})
	}
	(*turn)[h] = struct{}{}
}

func (q *holds) remove(h *hold) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeLocked(h)
}

func (q *holds) removeLocked(h *hold) {
	h.left = true
	delete(q.turns[h.src%holdTurns], h)
}

// tick repeats the beats whose turn has come since the last tick.
func (q *holds) tick(now time.Time) {
	every := q.p.n.opts.HeartbeatRepeat
	if q.p.n.opts.HeartbeatHold <= 0 || every <= 0 {
		return
	}
	turn := now.UnixNano() / max(int64(every)/holdTurns, 1)
	var (
		due  []*beat
		dead []*hold
	)
	gate := q.p.n.healthGate()
	q.mu.Lock()
	for i := max(q.last+1, turn-holdTurns+1); i <= turn; i++ {
		for h := range q.turns[i%holdTurns] {
			switch {
			case gate != nil:
				h.err = ErrUnhealthy
			case h.flying:
				h.err = fmt.Errorf("%w: node %d, after %s", ErrTimeout, q.p.node, every)
			default:
				h.flying = true
				due = append(due, &h.beat)
				continue
			}
			q.removeLocked(h)
			dead = append(dead, h)
		}
	}
	q.last = turn
	q.mu.Unlock()
	for _, h := range dead {
		close(h.over)
	}
	q.p.beats.sendAll(due)
}

// answered takes the outcome of a repetition.
func (h *hold) answered(resp raft.AppendEntriesResponse, err error) {
	h.in.mu.Lock()
	if h.left {
		h.in.mu.Unlock()
		return
	}
	h.flying = false
	if err == nil && resp.Success && resp.Term <= h.term && time.Now().Before(h.until) {
		h.in.mu.Unlock()
		return
	}
	h.resp, h.err = resp, err
	h.in.removeLocked(h)
	h.in.mu.Unlock()
	close(h.over)
}

// rushed returns a channel that is closed when somebody gets into a hurry.
func (t *Transport) rushed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rush == nil {
		t.rush = make(chan struct{})
	}
	return t.rush
}

// Hurry makes heartbeats that begin before release is called leave without
// waiting for others to share a frame, and those that are held be sent anew.
func (t *Transport) Hurry() (release func()) {
	t.hurry.Add(1)
	t.mu.Lock()
	if t.rush != nil {
		close(t.rush)
		t.rush = nil
	}
	t.mu.Unlock()
	return func() { t.hurry.Add(-1) }
}
