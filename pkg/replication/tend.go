package replication

import (
	"time"

	"github.com/hashicorp/raft"
)

// leaderCare is what a leader does for its group besides raft, since raft's own
// timers for it are slow: it steps down without a majority, tells followers what
// was committed last, and goes on where replication got stuck. It belongs to
// failover.run.
type leaderCare struct {
	term     uint64
	last     uint64    // last index at the scan before
	commit   uint64    // commit index at the scan before
	told     uint64    // all followers know that this is committed
	spoke    time.Time // when some were last told
	rises    uint64    // how often a peer had come up at the last nudge
	alone    time.Time // since when no majority was up; zero while there is one
	nudged   time.Time
	nudgeGap time.Duration
	lowest   uint64 // of what followers had at the last nudge
}

const (
	minNudge = 2 * scanInterval
	maxNudge = time.Minute
	// pipelineLag is how many entries a follower may miss for raft's pipeline
	// to bring them; it sends one message for each sign of new entries.
	pipelineLag = maxAppendEntries
)

// tend does a leader's duties, at each regular scan.
func (h *Host) tend(g *Group, now time.Time, allUp bool) {
	c := &g.care
	if term := g.raft.CurrentTerm(); term != c.term {
		*c = leaderCare{term: term, nudgeGap: minNudge}
	}
	if !allUp || !c.alone.IsZero() {
		h.checkMajority(g, now)
	}
	last, commit := g.raft.LastIndex(), g.raft.CommitIndex()
	quiet := last == c.last && commit == c.commit
	c.last, c.commit = last, commit
	if t := g.target.Load(); t != nil && g.reached.Load() != t {
		g.poke()
	}
	if g.trans.FellBack() {
		c.told = 0
	}
	if rises := h.failover.rises.Load(); rises != c.rises {
		c.rises, c.nudgeGap, c.told = rises, minNudge, 0 // what did not help may help now
	}
	if commit == last && c.told == commit {
		g.lag.noteCalm(c.term, now)
	} else {
		g.noteLag(now)
	}
	if quiet && (commit < last || c.told < commit) {
		g.bringUp(now)
	}
}

// noteLag notes which followers keep up.
func (g *Group) noteLag(now time.Time) {
	voters, _ := g.members()
	for _, id := range voters {
		if id == g.replica {
			continue
		}
		if f, ok := g.trans.Follower(id); ok {
			g.lag.note(g.care.term, id, f.Match, g.care.last, now)
		}
	}
}

// checkMajority makes a leader step down that has not had a majority of its
// voters' nodes up for LeaderLease: it can't commit, and its clients should look
// elsewhere.
func (h *Host) checkMajority(g *Group, now time.Time) {
	voters, _ := g.members()
	up := h.reachable(voters, g.replica)
	c := &g.care
	switch {
	case up >= len(voters)/2+1:
		c.alone = time.Time{}
	case c.alone.IsZero():
		c.alone = now
	case now.Sub(c.alone) >= h.cfg.LeaderLease:
		c.alone = time.Time{}
		g.alter(func() {
			g.log.Warn("stepping down: a majority of the replicas can't be reached", "reachable", up, "voters", len(voters))
			if err := g.becomeFollower(g.raft.CurrentTerm() + 1); err != nil {
				g.log.Warn("could not step down", "err", err)
			}
		})
	}
}

// reachable counts the replicas whose nodes are up, the own one among them.
func (h *Host) reachable(replicas []uint64, own uint64) (n int) {
	for _, id := range replicas {
		if node, ok := h.cfg.Resolver.NodeOf(id); id == own || ok && h.net.Alive(node) {
			n++
		}
	}
	return n
}

// bringUp sees to followers when nothing has moved since the scan before: those
// that have everything are told that it is committed, and for those that lack
// something raft is made to send it.
func (g *Group) bringUp(now time.Time) {
	c := &g.care
	voters, learners := g.members()
	lowest := c.last // that a follower has
	told, tell := true, now.Sub(c.spoke) >= minNudge
	var commitTerm uint64
	for id := range both(voters, learners) {
		if id == g.replica {
			continue
		}
		if node, ok := g.host.cfg.Resolver.NodeOf(id); !ok || !g.host.net.Alive(node) {
			told = false
			continue
		}
		f, _ := g.trans.Follower(id) // nothing is known before its first answer
		if f.Commit < c.commit {
			told = false
			if f.Match >= c.commit && tell {
				if commitTerm == 0 {
					commitTerm = g.termOf(c.commit)
				}
				if commitTerm != 0 {
					c.spoke = now
					g.trans.TellCommit(id, c.term, c.commit, commitTerm)
				}
			}
		}
		if f.Match < c.last && !g.isStaging(id) {
			lowest = min(lowest, f.Match)
			if f.Match+pipelineLag < c.last {
				g.trans.EndPipeline(id) // so that raft sends all it has, one message after the other
			}
		}
	}
	if told {
		c.told = c.commit
	}
	if lowest < c.last {
		g.nudge(now, lowest)
	}
}

// nudge makes raft's replication look at what is to be sent, by an empty entry;
// less and less often while it does not help.
func (g *Group) nudge(now time.Time, lowest uint64) {
	c := &g.care
	if lowest > c.lowest {
		c.lowest, c.nudgeGap = lowest, minNudge
	}
	if now.Sub(c.nudged) < c.nudgeGap {
		return
	}
	c.nudged, c.nudgeGap = now, min(2*c.nudgeGap, maxNudge)
	g.host.spawn(func() { g.raft.Barrier(time.Second) })
}

// termOf is the term of a committed entry, 0 if it is not at hand.
func (g *Group) termOf(index uint64) uint64 {
	var l raft.Log
	if index == 0 || g.store.GetLog(index, &l) != nil {
		return 0
	}
	return l.Term
}
