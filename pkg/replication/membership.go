package replication

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Target is the membership that a group shall reach. Targets are ordered by
// (Epoch, Generation); a group that has reached a pair ignores lower ones, so
// that a leader with an old view can't undo a move.
type Target struct {
	Epoch, Generation int64
	Replicas          []uint64 // in preference order
	// Former are the members from before the change, as far as is known: the
	// others are new, and not one is removed for one that is down again.
	Former []uint64
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

// stepTimeout bounds the wait of one membership change in raft's queue.
const stepTimeout = 10 * time.Second

// SetTarget tells what the membership shall be. Every replica is told; only
// the leader acts.
func (g *Group) SetTarget(t Target) {
	g.target.Store(&t)
	g.poke()
}

// poke has the group look at its membership.
func (g *Group) poke() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// moveMembership takes at most one step towards the target, and asks for the next.
func (g *Group) moveMembership(ctx context.Context) {
	target := g.target.Load()
	status := g.Status()
	if target == nil || g.cfg.Membership == nil || !status.Leading {
		return
	}
	if !target.after(g.cfg.Membership.Reached()) {
		g.reached.Store(target)
		return
	}
	// What the group has reached is known for sure once all of earlier terms was
	// applied: else a target that it has left behind would be taken for a new one.
	if g.appliedIn != status.Term {
		if err := g.await(g.raft.Barrier(stepTimeout)); err != nil {
			return
		}
		if now := g.Status(); !now.Leading || now.Term != status.Term {
			return
		}
		g.appliedIn = status.Term
		g.poke()
		return
	}
	future := g.raft.GetConfiguration()
	if future.Error() != nil {
		return
	}
	step := nextStep(future.Configuration(), target, g.replica, g.isCaughtUp)
	if step.kind == stepWait {
		return // tend pokes
	}
	if err := g.take(step, target); err != nil {
		if ctx.Err() == nil {
			g.log.Warn("membership step failed, trying again", "step", step.kind, "of", step.replica, "err", err)
		}
		return
	}
	g.log.Info("membership step done", "step", step.kind, "of", step.replica, "epoch", target.Epoch, "generation", target.Generation)
	g.poke()
}

func (g *Group) take(s step, target *Target) error {
	id, addr := serverID(s.replica), serverAddr(s.replica)
	switch s.kind {
	case stepAdd:
		if err := g.shorten(); err != nil {
			g.log.Warn("no snapshot before a replica is added: it may be sent more of the log than of segments", "err", err)
		}
		return g.await(g.raft.AddNonvoter(id, addr, 0, stepTimeout))
	case stepPromote:
		return g.await(g.raft.AddVoter(id, addr, 0, stepTimeout))
	case stepRemove:
		term := g.status.Load().Term
		err := g.await(g.raft.RemoveServer(id, 0, stepTimeout))
		if err == nil {
			g.trans.Forget(s.replica, term)
			g.rounds.forget(s.replica)
		}
		return err
	case stepTransfer:
		return g.Transfer(s.replica)
	case stepRecord:
		return g.await(g.Propose(g.cfg.Membership.EncodeReached(target.Epoch, target.Generation)))
	}
	return nil
}

// await waits for raft's answer, or for the end of the group: raft leaves what is on
// its way to the state machine unanswered when it shuts down, and the goroutine
// that asked then stays.
func (g *Group) await(future raft.Future) error {
	answer := make(chan error, 1)
	go func() { answer <- future.Error() }()
	select {
	case err := <-answer:
		return err
	case <-g.life.Done():
		return raft.ErrRaftShutdown
	}
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

// nextStep is the one change that comes next on the way from a configuration to
// the wanted replicas; fit says which replicas answer and have caught up.
//
//   - Learners that nobody wants any more, of a target that was given up, go first.
//   - A learner becomes a voter when it is fit and the voters have a majority of
//     fit ones with it.
//   - A voter goes only when all the wanted ones are voters, and when a majority
//     of those that stay is fit. One that is not fit goes before one that is; one
//     that is goes only while all the new ones are: a move never leaves fewer live
//     replicas than there would be without it.
//   - The leader itself goes last: it hands over to a wanted one, which removes it.
func nextStep(now raft.Configuration, target *Target, self uint64, fit func(uint64) bool) step {
	want := target.Replicas
	m := membership{want: want, former: target.Former, fit: fit}
	for _, s := range now.Servers {
		if id := replicaOf(s.ID); s.Suffrage == raft.Voter {
			m.voters = append(m.voters, id)
		} else {
			m.learners = append(m.learners, id)
		}
	}
	for _, id := range m.learners {
		if !slices.Contains(want, id) {
			return step{stepRemove, id}
		}
	}
	if s, all := m.complete(); !all {
		return s
	}
	if id, some := m.leaver(self); some {
		if id == 0 {
			return step{kind: stepWait}
		}
		return step{stepRemove, id}
	}
	if slices.Contains(want, self) {
		return step{kind: stepRecord}
	}
	for _, id := range want {
		if fit(id) {
			return step{stepTransfer, id}
		}
	}
	return step{kind: stepWait}
}

// membership is a configuration on its way to the wanted replicas.
type membership struct {
	voters, learners, want, former []uint64
	fit                            func(uint64) bool
}

// complete is the next step to have all the wanted ones as voters.
func (m *membership) complete() (next step, all bool) {
	all, next = true, step{kind: stepWait}
	for _, id := range m.want {
		switch {
		case slices.Contains(m.voters, id):
			continue
		case !slices.Contains(m.learners, id):
			return step{stepAdd, id}, false
		case next.kind == stepWait && m.fit(id) && m.majority(append(slices.Clone(m.voters), id)):
			next = step{stepPromote, id}
		}
		all = false
	}
	return next, all
}

// leaver is the voter that goes next, 0 while none may; some says that there are
// such voters beside self.
func (m *membership) leaver(self uint64) (id uint64, some bool) {
	for _, dead := range []bool{true, false} {
		for i, id := range m.voters {
			if id == self || slices.Contains(m.want, id) {
				continue
			}
			some = true
			if m.fit(id) != dead && (dead || m.newAreFit()) && m.majority(slices.Delete(slices.Clone(m.voters), i, i+1)) {
				return id, true
			}
		}
	}
	return 0, some
}

// newAreFit says whether all the wanted ones are fit that have come with this change.
func (m *membership) newAreFit() bool {
	return len(m.former) == 0 || !slices.ContainsFunc(m.want, func(id uint64) bool {
		return !slices.Contains(m.former, id) && !m.fit(id)
	})
}

// majority says whether most of the voters are fit.
func (m *membership) majority(voters []uint64) bool {
	n := 0
	for _, id := range voters {
		if m.fit(id) {
			n++
		}
	}
	return n >= len(voters)/2+1
}

// Members returns the voters and learners of the newest configuration that
// this replica knows, committed or not.
func (g *Group) Members() (voters, learners []uint64) {
	voters, learners = g.members()
	return slices.Clone(voters), slices.Clone(learners)
}

// members are the replicas of one of raft's configurations.
type members struct {
	of               *raft.Server // the first of raft's slice, which raft never changes
	voters, learners []uint64
}

// members is Members, not to be changed. It is asked often.
func (g *Group) members() (voters, learners []uint64) {
	future := g.raft.GetConfiguration()
	if future.Error() != nil || len(future.Configuration().Servers) == 0 {
		return nil, nil
	}
	servers := future.Configuration().Servers
	if m := g.newest.Load(); m != nil && m.of == &servers[0] {
		return m.voters, m.learners
	}
	m := &members{of: &servers[0]}
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			m.voters = append(m.voters, replicaOf(s.ID))
		} else {
			m.learners = append(m.learners, replicaOf(s.ID))
		}
	}
	g.newest.Store(m)
	return m.voters, m.learners
}

// both is one after the other.
func both(a, b []uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, list := range [...][]uint64{a, b} {
			for _, v := range list {
				if !yield(v) {
					return
				}
			}
		}
	}
}
