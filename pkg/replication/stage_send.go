package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/raftnet"
)

var (
	// errSuperseded makes raft begin again with a newer snapshot, whose segments
	// are staged already.
	errSuperseded = errors.New("segments were sent, but the manifest was superseded meanwhile: sending the newer one")
	errLetGo      = errors.New("the leader lets go of the segments that it pinned, and begins again with its newest manifest")
	errIdle       = errors.New("the follower fetched nothing for too long")
)

const (
	// stageIdle is how long a follower may fetch nothing: it may have to read and
	// fsync what it has.
	stageIdle = 2 * time.Minute
	// stageLinger is how long the log is kept after segments were staged, for the
	// follower to go on with it; and how long raft has to come back with the newest
	// manifest, with the place kept for that, if it was superseded meanwhile.
	stageLinger = 5 * time.Second
)

// sending says whether a follower is being sent segments, or was just now.
func (g *Group) sending(now time.Time) bool {
	return g.staging.Load() > 0 || now.UnixNano() < g.lingers.Load()
}

// stageAt has a follower fetch what the newest manifest names, and then has raft's
// manifest sent, if it is still the newest. It runs on the leader, in raft's
// goroutine for that follower.
func (g *Group) stageAt(ctx context.Context, peer uint64, manifest []byte, send func() error) error {
	stager, ok := g.cfg.StateMachine.(Stager)
	if !ok {
		return send()
	}
	node, ok := g.host.cfg.Resolver.NodeOf(peer)
	if !ok {
		return fmt.Errorf("replica %d is on no known node", peer)
	}
	place := stagePlace{g.replica, peer}
	metrics := g.host.stageMetrics
	metrics.waiting.Inc()
	err := g.host.places.take(ctx, place)
	metrics.waiting.Dec()
	if err != nil {
		return err
	}
	metrics.sending.Inc()
	g.staging.Add(1)
	s := &stageSender{g: g, stager: stager, peer: peer, node: node, throttle: g.throttleTo(peer)}
	last, err := s.rounds(ctx)
	linger := time.Duration(0)
	switch {
	case err != nil:
		err = fmt.Errorf("stage snapshot at replica %d: %w", peer, err)
	case bytes.Equal(last, manifest):
		err = send()
	default: // raft comes back soon
		err, linger = errSuperseded, stageLinger
	}
	if err == nil || linger > 0 {
		g.lingers.Store(time.Now().Add(stageLinger).UnixNano())
	}
	g.staging.Add(-1)
	metrics.sending.Dec()
	g.host.places.leave(place, linger)
	return err
}

// stageSender sends one follower what it needs.
type stageSender struct {
	g      *Group
	stager Stager
	peer   uint64
	node   int32

	throttle *throttle // of the node, or faster
	sent     int64     // bytes, in all rounds
}

// rounds stages one manifest after another, each the newest, until none newer
// has come meanwhile; it returns the last.
func (s *stageSender) rounds(ctx context.Context) ([]byte, error) {
	began, rounds := time.Now(), 0
	var before time.Duration // how long the last round took
	for {
		manifest, end, err := s.g.newestManifest()
		if err != nil {
			return nil, err
		}
		at, sent := time.Now(), s.sent
		err = s.round(ctx, manifest, end)
		if errors.Is(err, errLetGo) {
			s.g.log.Info("let go of pinned segments, sending goes on with the newest manifest", "peer", s.peer, "sent_bytes", s.sent)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stage segments at replica %d, %d bytes sent: %w", s.peer, s.sent, err)
		}
		rounds++
		newest, _, err := s.g.newestManifest()
		if err != nil {
			return nil, err
		}
		if bytes.Equal(newest, manifest) {
			if s.sent > 0 {
				s.g.log.Info("segments sent", "peer", s.peer, "node", s.node, "sent_bytes", s.sent,
					"rounds", rounds, "for", time.Since(began).Round(time.Millisecond))
			}
			return manifest, nil
		}
		if rounds > 1 {
			s.keepUp(s.sent-sent, before)
		}
		before = time.Since(at)
	}
}

// keepUp gives the next rounds twice the rate at which the group is written, if
// that is more than their share of the node's: a follower that is in sync is sent
// all of it too. grown is what was written in a time, and sent in the round after.
func (s *stageSender) keepUp(grown int64, in time.Duration) {
	rate := s.throttle.rate
	if s.throttle == s.g.host.moves.out {
		if rate > 0 && in > 0 && float64(grown)/in.Seconds() > float64(rate)/2 {
			s.g.log.Warn("a partition is written nearly as fast as a new replica of it may be filled: raise --rebalance-rate, or the move will not end while it lasts",
				"peer", s.peer, "bytes_per_second", int64(float64(grown)/in.Seconds()), "rebalance_rate", rate)
		}
		return
	}
	if rate = s.g.host.throttle.rate; rate <= 0 || in <= 0 {
		return
	}
	want := int64(2 * float64(grown) / in.Seconds())
	if want*int64(max(1, s.g.host.places.busy())) > rate {
		s.throttle = newThrottle(want)
	} else {
		s.throttle = s.g.host.throttle
	}
}

// round stages one manifest.
func (s *stageSender) round(ctx context.Context, manifest []byte, end position) error {
	g := s.g
	term := g.raft.CurrentTerm()
	if g.raft.State() != raft.Leader {
		return raft.ErrNotLeader
	}
	src, err := s.stager.Source(manifest)
	if err != nil {
		return fmt.Errorf("open files for a follower: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &round{sender: s, throttle: s.throttle, ctx: ctx, cancel: cancel, src: src, began: time.Now()}
	r.idle = time.AfterFunc(stageIdle, func() { cancel(errIdle) })
	defer r.idle.Stop()
	token := g.host.sources.add(r)
	msg := stageMessage{replica: s.peer, token: token, term: term, end: end, manifest: manifest}
	_, err = g.host.net.Call(ctx, s.node, raftnet.Bulk, byte(kindStage), msg.encode())
	g.host.sources.remove(token)
	cause := context.Cause(ctx)
	err = errors.Join(err, r.close())
	if cause != nil {
		return cause
	}
	if err == nil {
		g.host.stageMetrics.rounds.Inc()
	}
	return err
}

// round is one manifest on its way to a follower. Its pins last as long.
type round struct {
	sender   *stageSender
	throttle *throttle
	ctx      context.Context // ends with the round; fetches wait on it
	cancel   context.CancelCauseFunc
	idle     *time.Timer
	began    time.Time

	mu   sync.Mutex // held while src is read
	src  Source     // nil when closed
	told time.Time
}

// read answers one fetch, when the throttle lets it pass.
func (r *round) read(file, off int64, n int) ([]byte, error) {
	s := r.sender
	r.idle.Reset(stageIdle)
	if err := r.throttle.wait(r.ctx, n); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.src == nil {
		return nil, errLetGo
	}
	if why := r.overdue(time.Now()); why != nil {
		r.cancel(why)
		return nil, why
	}
	buf := make([]byte, n)
	if got, err := r.src.ReadAt(file, buf, off); got < n {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	s.sent += int64(n)
	s.g.host.stageMetrics.sent.Add(float64(n))
	r.tell(time.Now())
	return buf, nil
}

func (r *round) tell(now time.Time) {
	if r.told.IsZero() {
		r.sender.g.log.Info("sending segments to a follower that is too far behind", "peer", r.sender.peer, "node", r.sender.node)
		r.told = now
	}
	if now.Sub(r.told) >= progressEvery {
		r.sender.g.log.Info("sending segments", "peer", r.sender.peer, "node", r.sender.node, "sent_bytes", r.sender.sent)
		r.told = now
	}
}

// overdue says why the pins have to be let go: they are old, or hold too much
// that the log has no more use for.
func (r *round) overdue(now time.Time) error {
	cfg := &r.sender.g.host.cfg
	if now.Sub(r.began) > cfg.CatchUpPinTime || r.src.Held() > cfg.CatchUpPinBytes {
		return errLetGo
	}
	return nil
}

func (r *round) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	src := r.src
	r.src = nil
	return src.Close()
}

func (g *Group) newestManifest() (manifest []byte, end position, err error) {
	list, err := g.snapshots.List()
	if err != nil {
		return nil, end, err
	}
	if len(list) == 0 {
		return nil, end, errors.New("no manifest")
	}
	meta, r, err := g.snapshots.Open(list[0].ID)
	if err != nil {
		return nil, end, err
	}
	defer r.Close()
	manifest, err = io.ReadAll(r)
	return manifest, position{meta.Index, meta.Term}, err
}
