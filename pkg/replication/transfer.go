package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// holdPatience bounds how long proposals wait for a transfer to begin: for
	// what is in flight, and for the follower to have all of it.
	holdPatience = 300 * time.Millisecond
	// transferPatience bounds a transfer that has begun: while it lasts raft takes
	// no entries.
	transferPatience = time.Second
	matchPoll        = time.Millisecond
)

// ErrNotCaughtUp says that a replica can't take the leadership over now.
var ErrNotCaughtUp = errors.New("the replica does not have all that the leader has")

// errLeaving says that a transfer is under way already.
var errLeaving = errors.New("the leadership is being handed over already")

// Transfer hands the leadership to another replica, and returns when it was
// handed over or can't be. If the other one is not elected soon, this one steps
// down all the same, and the replicas elect whom they can.
//
// Nothing is proposed from the moment at which the other one is about to have all
// that there is: the entries of a transfer under way are neither refused nor
// in doubt, they wait. The other one must have them all before it is told to
// stand, since votes do not wait for entries (raftnet, Ordering): with a shorter
// log it would not be elected.
func (g *Group) Transfer(to uint64) error {
	if !g.leaving.CompareAndSwap(false, true) {
		return errLeaving
	}
	defer g.leaving.Store(false)
	if !g.isNear(to) {
		return ErrNotCaughtUp
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(g.host.ctx, holdPatience)
	defer cancel()
	if g.cfg.Hold != nil {
		defer g.cfg.Hold(ctx)()
	}
	held := time.Since(began)
	if err := g.awaitMatch(ctx, to); err != nil {
		return err
	}
	matched := time.Since(began)
	future := g.raft.LeadershipTransferToServer(serverID(to), serverAddr(to))
	late := time.AfterFunc(transferPatience, func() {
		if g.raft.State() == raft.Leader {
			g.log.Warn("leadership transfer takes too long: stepping down", "to", to)
			_ = g.becomeFollower(g.raft.CurrentTerm() + 1) // raft's own timer would end the transfer too
		}
	})
	defer late.Stop()
	err := future.Error()
	g.log.Debug("leadership transfer", "to", to, "held_after", held, "matched_after", matched, "ended_after", time.Since(began), "err", err)
	return err
}

// awaitMatch waits until a follower has all that the log holds.
func (g *Group) awaitMatch(ctx context.Context, follower uint64) error {
	poll := time.NewTicker(matchPoll)
	defer poll.Stop()
	for {
		match, _, ok := g.trans.Progress(follower)
		if ok && match >= g.raft.LastIndex() {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: it has %d of %d entries", ErrNotCaughtUp, match, g.raft.LastIndex())
		}
	}
}
