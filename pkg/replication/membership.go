package replication

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// Target is the membership that a group shall reach. Targets are ordered by
// (Epoch, Generation); a group that has reached a pair ignores lower ones, so
// that a leader with an old view can't undo a move.
type Target struct {
	Epoch, Generation int64
	Replicas          []uint64 // in preference order
}

func (t *Target) after(epoch, generation int64) bool {
	return t.Epoch > epoch || t.Epoch == epoch && t.Generation > generation
}

// Membership is the state machine's part in changing its group's members.
type Membership interface {
	// Reached returns the pair that the group has reached, from replicated state.
	Reached() (epoch, generation int64)
	// EncodeReached makes the entry that records a pair as reached.
	EncodeReached(epoch, generation int64) (data, ext []byte)
}

const (
	// caughtUp is how many entries a learner may be behind to be promoted.
	caughtUp = 64
	// stepTimeout bounds the wait of one membership change in raft's queue.
	stepTimeout = 10 * time.Second
)

// SetTarget tells what the membership shall be. Every replica is told; only
// the leader acts.
func (g *Group) SetTarget(t Target) {
	g.target.Store(&t)
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// moveMembership takes at most one step towards the target.
func (g *Group) moveMembership(ctx context.Context) {
	target := g.target.Load()
	if target == nil || g.cfg.Membership == nil || !g.status.Load().Leading {
		return
	}
	if !target.after(g.cfg.Membership.Reached()) {
		return
	}
	future := g.raft.GetConfiguration()
	if future.Error() != nil {
		return
	}
	step := nextStep(future.Configuration(), target.Replicas, g.replica, g.isCaughtUp)
	if step.kind == stepWait {
		return
	}
	if err := g.take(step, target); err != nil && ctx.Err() == nil {
		g.log.Warn("membership step failed, trying again", "step", step.kind, "of", step.replica, "err", err)
		return
	}
	g.log.Info("membership step done", "step", step.kind, "of", step.replica, "epoch", target.Epoch, "generation", target.Generation)
}

func (g *Group) isCaughtUp(replica uint64) bool {
	match, contact, ok := g.trans.Progress(replica)
	return ok && time.Since(contact) < 5*time.Second && match+caughtUp >= g.raft.LastIndex()
}

func (g *Group) take(s step, target *Target) error {
	id, addr := serverID(s.replica), serverAddr(s.replica)
	switch s.kind {
	case stepAdd:
		return g.raft.AddNonvoter(id, addr, 0, stepTimeout).Error()
	case stepPromote:
		return g.raft.AddVoter(id, addr, 0, stepTimeout).Error()
	case stepRemove:
		return g.raft.RemoveServer(id, 0, stepTimeout).Error()
	case stepTransfer:
		return g.Transfer(s.replica)
	case stepRecord:
		return g.Propose(g.cfg.Membership.EncodeReached(target.Epoch, target.Generation)).Error()
	}
	return nil
}

type stepKind string

const (
	stepWait     stepKind = "wait"     // for a learner to catch up
	stepAdd      stepKind = "add"      // as a learner
	stepPromote  stepKind = "promote"  // to a voter
	stepTransfer stepKind = "transfer" // the leadership, away from a replica that goes
	stepRemove   stepKind = "remove"
	stepRecord   stepKind = "record" // the target was reached
)

type step struct {
	kind    stepKind
	replica uint64
}

// nextStep is the one change that comes next on the way from a configuration
// to the wanted replicas. It never removes before all wanted ones are voters.
func nextStep(now raft.Configuration, want []uint64, self uint64, caughtUp func(uint64) bool) step {
	suffrage := make(map[uint64]raft.ServerSuffrage, len(now.Servers))
	for _, s := range now.Servers {
		suffrage[replicaOf(s.ID)] = s.Suffrage
	}
	wanted := make(map[uint64]bool, len(want))
	waiting := false
	for _, id := range want {
		wanted[id] = true
		if s, in := suffrage[id]; !in {
			return step{stepAdd, id}
		} else if s != raft.Voter && caughtUp(id) {
			return step{stepPromote, id}
		} else if s != raft.Voter {
			waiting = true
		}
	}
	if waiting {
		return step{kind: stepWait}
	}
	for _, s := range now.Servers {
		if id := replicaOf(s.ID); !wanted[id] && id != self {
			return step{stepRemove, id}
		}
	}
	if !wanted[self] {
		for _, id := range want {
			if caughtUp(id) {
				return step{stepTransfer, id}
			}
		}
		return step{kind: stepWait}
	}
	return step{kind: stepRecord}
}

// Members returns the voters and learners of the newest configuration that
// this replica knows, committed or not.
func (g *Group) Members() (voters, learners []uint64) {
	future := g.raft.GetConfiguration()
	if future.Error() != nil {
		return nil, nil
	}
	for _, s := range future.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters = append(voters, replicaOf(s.ID))
		} else {
			learners = append(learners, replicaOf(s.ID))
		}
	}
	return voters, learners
}

// InSync returns the voters that are within lag entries of the leader's log and
// were heard from lately. Only the leader knows; others return nil.
func (g *Group) InSync(lag uint64) []uint64 {
	if !g.status.Load().Leading {
		return nil
	}
	voters, _ := g.Members()
	last := g.raft.LastIndex()
	in := make([]uint64, 0, len(voters))
	for _, id := range voters {
		if id == g.replica {
			in = append(in, id)
			continue
		}
		match, contact, ok := g.trans.Progress(id)
		if ok && match+lag >= last && time.Since(contact) < 5*time.Second {
			in = append(in, id)
		}
	}
	return in
}
