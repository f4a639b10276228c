package replication

import (
	"context"
	"errors"
	"slices"

	"github.com/hashicorp/raft"
)

// A new replica is a learner until it has caught up. What it needs of the past is
// paced, apart from what followers need that lag, so that a move disturbs no
// client: segments at both ends, by Config.MoveRate each, entries of the log where
// they are sent. There is no exception for a partition that is written faster than
// that: its move ends when it is written less, or the rate is raised.

// moveThrottles are a node's, of all its groups.
type moveThrottles struct{ out, in *throttle }

const (
	// history is how many bytes of the log a new replica may be sent as entries;
	// with more, its past comes as segments.
	history = 1 << 20
	// caughtUp is how many entries a follower may be behind and yet be near, and
	// nearBytes how many bytes: what is in flight of a busy partition, one message.
	caughtUp  = 64
	nearBytes = maxAppendEntries << 20
)

// lacksLittle says whether a follower that has the log up to match needs no more
// than a few entries of it.
func (g *Group) lacksLittle(match uint64) bool {
	if match+caughtUp < g.raft.LastIndex() {
		return false
	}
	s, ok := g.store.(sized)
	if !ok {
		return true
	}
	first, err := g.store.FirstIndex()
	return err == nil && match+1 >= first && s.BytesFrom(match+1) <= nearBytes
}

// isLearner says whether a replica is a learner, as far as is known here.
func (g *Group) isLearner(replica uint64) bool {
	_, learners := g.members()
	return slices.Contains(learners, replica)
}

// isNew says whether this replica is no voter, as far as it knows: it is being
// brought up.
func (g *Group) isNew() bool {
	voters, _ := g.members()
	return !slices.Contains(voters, g.replica)
}

// throttleTo is what segments for a follower have to pass.
func (g *Group) throttleTo(follower uint64) *throttle {
	if g.isLearner(follower) {
		return g.host.moves.out
	}
	return g.host.throttle
}

// paceHistory has entries wait that bring a learner nearer. What is written while
// it is nearly there passes, as to any follower. It is called where raft sends to
// this one follower.
func (g *Group) paceHistory(ctx context.Context, follower, last uint64, bytes int) error {
	if last >= g.raft.LastIndex() || !g.isLearner(follower) || g.lacksLittle(last) {
		return nil
	}
	return g.host.moves.out.wait(ctx, bytes)
}

// shorten takes a snapshot, and keeps no more of the log than the voters that are
// up still need: a replica that is added next is sent segments.
func (g *Group) shorten() error {
	s, ok := g.store.(sized)
	if !ok {
		return nil
	}
	if _, bytes := s.Size(); bytes <= history {
		return nil
	}
	lowest := g.raft.LastIndex()
	voters, _ := g.members()
	for _, id := range voters {
		if match, _, ok := g.trans.Progress(id); ok && id != g.replica && g.isNear(id) {
			lowest = min(lowest, match)
		}
	}
	err := g.raft.ReloadConfig(g.reloadable(g.raft.LastIndex() - lowest + min(caughtUp, g.newestWithin(s, history))))
	if err != nil {
		return err
	}
	err = g.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}
