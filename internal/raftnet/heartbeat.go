package raftnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// An idle group says two things now and then: "I lead" (raft's heartbeat) and
// "all up to here is committed" (Transport.TellCommit). Both are an AppendEntries
// without entries, and those of all groups that go to one node within
// Options.HeartbeatWindow share one frame, a beats frame.

// beat is one such AppendEntries. prev, prevTerm and commit are 0 in a heartbeat.
type beat struct {
	dst, src, term         uint64
	prev, prevTerm, commit uint64

	t    *Transport
	resp raft.AppendEntriesResponse
	err  error
	done chan struct{} // nil if nobody waits
	held *hold         // that this repeats; resp and err go to it
}

const (
	beatLen     = 6 * 8
	beatReply   = 1 + 8 + 8 + 8
	maxBeats    = 4096 // in one frame
	beatSuccess = 1    // flags of a reply
	beatNoRetry = 2
	beatMissed  = 4 // raft gave no answer: busy or too late
	beatUnknown = 8 // the replica is not here
)

// beats gathers what goes to one peer.
type beats struct {
	p *peer

	mu      sync.Mutex
	waiting []*beat
	armed   bool // a flush is on its way
}

// add queues a beat; hurry sends it, and what waits with it, at once.
func (q *beats) add(b *beat, hurry bool) {
	q.mu.Lock()
	q.waiting = append(q.waiting, b)
	now := hurry || len(q.waiting) >= maxBeats
	if !now && !q.armed {
		q.armed = true
		time.AfterFunc(q.p.n.opts.HeartbeatWindow, q.flush)
	}
	q.mu.Unlock()
	if now {
		q.flush()
	}
}

func (q *beats) flush() {
	q.mu.Lock()
	all := q.waiting
	q.waiting, q.armed = nil, false
	q.mu.Unlock()
	q.sendAll(all)
}

// sendAll sends beats in as few frames as may be.
func (q *beats) sendAll(all []*beat) {
	for len(all) > 0 {
		n := min(len(all), maxBeats)
		q.send(all[:n])
		all = all[n:]
	}
}

func (q *beats) send(batch []*beat) {
	call := &beatCall{batch}
	c, err := q.p.controlConn()
	if err != nil {
		call.resolve(nil, err)
		return
	}
	f := newFrame(1 + len(batch)*beatLen)
	f.u8(byte(raft.ProtocolVersionMax))
	for _, b := range batch {
		for _, v := range [...]uint64{b.dst, b.src, b.term, b.prev, b.prevTerm, b.commit} {
			f.u64(v)
		}
	}
	id := q.p.n.nextID.Add(1)
	if err := f.finish(kindBeats, 0, id, 0, 0); err != nil {
		panic("BUG: beats do not fit into a frame: " + err.Error())
	}
	if err := c.submit(f, id, call, nil); err != nil {
		call.resolve(nil, err)
	}
}

// beatCall is a beats frame that waits for its reply.
type beatCall struct{ batch []*beat }

func (*beatCall) keeps() bool { return false }

func (bc *beatCall) resolve(payload []byte, err error) {
	if err == nil && len(payload) != 1+len(bc.batch)*beatReply {
		err = errShort
	}
	c := cursor{b: payload}
	version := c.u8()
	for _, b := range bc.batch {
		var resp raft.AppendEntriesResponse
		err := err
		if err == nil {
			flags := c.u8()
			resp = raft.AppendEntriesResponse{RPCHeader: raftHeader(version, b.dst), Term: c.u64(), LastLog: c.u64()}
			commit := c.u64()
			resp.Success, resp.NoRetryBackoff = flags&beatSuccess != 0, flags&beatNoRetry != 0
			switch {
			case flags&beatUnknown != 0:
				err = ErrUnknownReplica
			case flags&beatMissed != 0:
				err = errMissed
			case resp.Term <= b.term:
				b.t.progress.noteBeat(b.dst, b.term, commit)
			}
		}
		b.answered(resp, err)
	}
}

func (b *beat) answered(resp raft.AppendEntriesResponse, err error) {
	if b.held != nil {
		b.held.answered(resp, err)
		return
	}
	b.resp, b.err = resp, err
	if b.done != nil {
		close(b.done)
	}
}

var errMissed = errors.New("raftnet: the replica did not answer the heartbeat")

// heartbeat is an append that says nothing but who leads. It waits while the
// peer is down or does not hold the replica: raft would back off for seconds,
// and a follower that returns is to hear of its leader at once.
func (t *Transport) heartbeat(id raft.ServerID, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	dst, err := parseReplica(id)
	if err != nil {
		return err
	}
	ctx, patient := t.beginAppend(args.Term)
	var unknown unknownPauses
	for {
		p, err := t.awaitPeer(ctx, dst, args.Term, patient)
		if err != nil {
			return err
		}
		b := &beat{t: t, dst: dst, src: t.replica, term: args.Term, done: make(chan struct{})}
		p.beats.add(b, t.hurry.Load() > 0)
		err = b.await(ctx, p.node, t.n.opts.HeartbeatTimeout)
		if (errors.Is(err, ErrBroken) || errors.Is(err, ErrNodeDown)) && patient && ctx.Err() == nil {
			continue
		}
		if errors.Is(err, ErrUnknownReplica) && patient && t.awaitReplica(ctx, dst, args.Term, unknown.pause()) {
			continue
		}
		if err != nil {
			return err
		}
		*resp = b.resp
		again, err := t.hold(ctx, p, b, resp)
		if again || err != nil && patient && ctx.Err() == nil {
			continue
		}
		return err
	}
}

func (b *beat) await(ctx context.Context, node int32, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("%w: node %d, after %s", ErrTimeout, node, limit)
	}
}

// awaitPeer returns the peer that holds a replica. If wait is set it waits
// until this node is healthy and the peer is up.
func (t *Transport) awaitPeer(ctx context.Context, dst, term uint64, wait bool) (to *peer, err error) {
	err = t.await(ctx, dst, term, wait, func(p *peer) (changed <-chan struct{}, err error) {
		to = p
		_, changed, err = p.ready(0)
		return changed, err
	})
	return to, err
}

// TellCommit tells a follower that what it has is committed: all up to an entry
// that is committed here, while this replica leads in term. With it a leader
// that falls silent need not repeat itself (raft would, each CommitTimeout and
// group by group). It is not waited for, and may get lost.
func (t *Transport) TellCommit(peer, term, index, indexTerm uint64) {
	p, err := t.n.peerOf(peer)
	if err != nil || t.n.healthGate() != nil {
		return
	}
	p.beats.add(&beat{t: t, dst: peer, src: t.replica, term: term, prev: index, prevTerm: indexTerm, commit: index}, false)
}

// TellLeader tells a follower that this replica leads in term, at the latest at
// the next FlushBeats. It is
// not waited for, and may get lost.
func (t *Transport) TellLeader(peer, term uint64) {
	p, err := t.n.peerOf(peer)
	if err != nil || t.n.healthGate() != nil {
		return
	}
	p.beats.add(&beat{t: t, dst: peer, src: t.replica, term: term}, false)
}

// SetCommitted sets what answers to beats give as the replica's commit index.
func (t *Transport) SetCommitted(f func() uint64) { t.committed.Store(&f) }

// beatAnswers is the reply to a beats frame in the making.
type beatAnswers struct {
	c    *conn
	head header

	mu     sync.Mutex
	reply  []byte // one record each
	left   int
	sent   bool
	cutOff *time.Timer
}

// beatPatience is how long a beats frame waits for the slowest raft.
const beatPatience = 400 * time.Millisecond

// beats hands each beat of a frame to its group.
func (s *server) beats(h header, payload []byte) {
	if len(payload) < 1 || (len(payload)-1)%beatLen != 0 || len(payload) == 1 || (len(payload)-1)/beatLen > maxBeats {
		s.n.metrics.drop("bad request")
		s.refuse(h, codeBadRequest, "malformed heartbeats")
		return
	}
	n := (len(payload) - 1) / beatLen
	a := &beatAnswers{c: s.c, head: h, reply: make([]byte, 1+n*beatReply), left: n}
	a.reply[0] = payload[0]
	for i := range n {
		a.reply[1+i*beatReply] = beatMissed
	}
	c := cursor{b: payload[1:]}
	for i := range n {
		dst, src := c.u64(), c.u64()
		cmd := &raft.AppendEntriesRequest{
			RPCHeader: raftHeader(payload[0], src), Term: c.u64(), PrevLogEntry: c.u64(), PrevLogTerm: c.u64(), LeaderCommitIndex: c.u64(),
		}
		t, ok := s.n.groups.Load(dst)
		if !ok {
			a.answer(i, raft.RPCResponse{Error: ErrUnknownReplica}, 0)
		} else if t.(*Transport).receiveBeat(a, i, cmd) != 0 {
			a.answer(i, raft.RPCResponse{Error: ErrBusy}, 0)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.sent {
		a.cutOff = time.AfterFunc(beatPatience, a.giveUp)
	}
}

// answer notes what raft answered to one beat, and its commit index then; the
// last one sends the reply.
func (a *beatAnswers) answer(i int, resp raft.RPCResponse, commit uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sent {
		return
	}
	if r, ok := resp.Response.(*raft.AppendEntriesResponse); ok && resp.Error == nil {
		var flags byte
		if r.Success {
			flags |= beatSuccess
		}
		if r.NoRetryBackoff {
			flags |= beatNoRetry
		}
		rec := append(a.reply[1+i*beatReply:][:0], flags)
		for _, v := range [...]uint64{r.Term, r.LastLog, commit} {
			rec = binary.BigEndian.AppendUint64(rec, v)
		}
	}
	if resp.Error == ErrUnknownReplica {
		a.reply[1+i*beatReply] = beatUnknown
	}
	if a.left--; a.left == 0 {
		a.sendLocked()
	}
}

func (a *beatAnswers) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.sent {
		a.sendLocked()
	}
}

func (a *beatAnswers) sendLocked() {
	a.sent = true
	if a.cutOff != nil {
		a.cutOff.Stop()
	}
	if a.head.flags&flagOneWay != 0 {
		return
	}
	if f, err := simpleFrame(kindBeats, flagReply, a.head.id, 0, 0, a.reply); err == nil {
		a.c.reply(f)
	}
}

// FlushBeats sends what TellLeader and TellCommit have queued for a node.
func (n *Net) FlushBeats(node int32) {
	if p, ok := n.knownPeer(node); ok {
		p.beats.flush()
	}
}
