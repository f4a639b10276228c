package node

import (
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// candidacy is what is known of the replicas of a partition that this node leads.
type candidacy struct {
	self     uint64
	order    []uint64 // of the assignment: the preferred leader first
	voters   []uint64 // of the group
	shedding bool     // any other leader is better
	settled  bool     // no leadership moves for order's sake now

	// fit says that a replica is in sync, and its node takes leaderships; since
	// when without a break is what steady compares.
	fit   func(replica uint64) bool
	since func(replica uint64) time.Time
	now   time.Time
	// fresh says that a replica's node was restarted a moment ago: clients may
	// have connections to it still that it has closed.
	fresh func(replica uint64) bool
}

// steady is how long a node must have been fit before leaderships return to it.
const steady = 5 * time.Second

// successor returns the replica that shall lead instead of this node's, 0 for
// none: the first in order that is fit, and has been for a while. One that is on
// its way there is waited for, rather than to move twice. Shedding takes any
// that is fit, at once, and voters beside the assignment's too.
func (c *candidacy) successor() uint64 {
	if c.shedding {
		return c.relief()
	}
	if c.settled {
		return 0
	}
	for _, r := range c.order {
		switch {
		case r == c.self:
			return 0
		case !slices.Contains(c.voters, r) || !c.fit(r):
		case c.now.Sub(c.since(r)) < steady || c.fresh(r):
			return 0
		default:
			return r
		}
	}
	return 0
}

// relief is any other leader, best one whose node was not restarted just now.
func (c *candidacy) relief() (to uint64) {
	for _, list := range [][]uint64{c.order, c.voters} {
		for _, r := range list {
			switch {
			case r == c.self || !slices.Contains(c.voters, r) || !c.fit(r):
			case !c.fresh(r):
				return r
			case to == 0:
				to = r
			}
		}
	}
	return to
}

// takesLeaderships says whether a node is to be given leaderships: it is
// registered and ready, no operator wants it empty, and it answers. While etcd is
// away its last word counts.
func (n *Node) takesLeaderships(v *cluster.View, node int32) bool {
	if node == n.ID() || !n.alive(node) || n.peers.state(node) != cluster.StateReady {
		return false
	}
	if _, wished := v.Wishes[node]; wished {
		return false
	}
	registered, ok := v.Nodes[node]
	if !n.store.Connected() {
		return !ok || registered.State == cluster.StateReady
	}
	return ok && registered.State == cluster.StateReady
}
