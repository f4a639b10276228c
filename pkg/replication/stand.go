package replication

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// stand makes this replica a candidate now, in a term above all that are known.
func (g *Group) stand(term uint64) {
	state, own := g.raft.State(), g.raft.CurrentTerm()
	if state == raft.Leader {
		return
	}
	if state == raft.Candidate || term > own {
		if err := g.becomeFollower(max(term, own+1)); err != nil {
			g.log.Debug("could not unstick a candidate", "err", err)
			return
		}
	}
	if lost := g.leadership.Load(); lost.leader != 0 {
		g.log.Info("the leader is lost: standing for election", "leader", lost.leader, "term", lost.term)
	}
	_, err := g.trans.Deliver(&raft.TimeoutNowRequest{RPCHeader: g.header()})
	if err != nil {
		g.log.Debug("could not stand for election", "err", err)
	}
}

// becomeFollower gives raft a vote request of a higher term: whatever it was,
// it is a follower of that term then. The empty log wins no vote.
func (g *Group) becomeFollower(term uint64) error {
	_, err := g.trans.Deliver(&raft.RequestVoteRequest{RPCHeader: g.header(), Term: term, LeadershipTransfer: true})
	return err
}

func (g *Group) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(g.replica)), Addr: []byte(serverAddr(g.replica))}
}

// logEnd is the term and index of the last entry.
func (g *Group) logEnd() (term, index uint64) {
	index = g.raft.LastIndex()
	var l raft.Log
	if err := g.store.GetLog(index, &l); err == nil {
		return l.Term, index
	}
	// It was released behind a snapshot.
	if list, err := g.snapshots.List(); err == nil && len(list) > 0 && list[0].Index >= index {
		return list[0].Term, index
	}
	return 0, index
}

// electable is what failover keeps with a group.
type electable struct {
	disowned atomic.Pointer[disowned]
	standing atomic.Bool // it is about to stand, or to step down
}

// disowned is a leadership that has ended by what its node says, unless the
// leader is heard from afterwards.
type disowned struct {
	of    leadership
	at    time.Time
	pause time.Duration // before it counts
}

// doubt is the pause for a leader to make itself heard after all.
const doubt = 30 * time.Millisecond

// alter runs f, which changes raft's state by force, unless another is at it.
func (g *Group) alter(f func()) {
	if g.standing.CompareAndSwap(false, true) {
		g.host.spawn(func() {
			defer g.standing.Store(false)
			f()
		})
	}
}

// answerOrphan tells a follower that knows of no leader that this replica is it,
// in its term, unless the follower has seen a later one: then it is no more.
func (g *Group) answerOrphan(follower, term uint64) {
	voters, learners := g.members()
	status := g.Status()
	if !status.Leading || g.raft.State() != raft.Leader || !slices.Contains(voters, follower) && !slices.Contains(learners, follower) {
		return
	}
	if term > status.Term {
		g.alter(func() {
			g.log.Info("stepping down: a follower has seen a later term", "follower", follower, "term", term)
			_ = g.becomeFollower(term) // if it did not work the follower will report again
		})
		return
	}
	g.trans.Appeared(follower)
	g.trans.TellLeader(follower, status.Term)
}

// checkStatus has run look again if it has missed a change.
func (g *Group) checkStatus() {
	status := g.status.Load()
	leading := g.raft.State() == raft.Leader
	_, id := g.raft.LeaderWithID()
	if leading != status.Leading || !leading && replicaOf(id) != status.Leader && replicaOf(id) != g.replica {
		select {
		case g.observed <- raft.Observation{}:
		default:
		}
	}
}
