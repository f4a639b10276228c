package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// replaceStatic lets a client that has no member id take the place of the static
// member with its instance id (KIP-345). The member gets a new id, and whoever
// still uses the old one is fenced. In a stable group whose protocol stays the
// same nothing is rebalanced: the new id is stored, and the client gets the
// assignment that the old one had.
func (m *Machine) replaceStatic(g *group, x *member, id string, w waiter, c Client, req *kmsg.JoinGroupRequest, ps []protocol) {
	before := x.id
	m.answerJoins(g, x, joinError(kerr.FencedInstanceID, before))
	m.answerSyncs(x, synced{err: kerr.FencedInstanceID})
	delete(g.members, before)
	g.members[id] = x
	x.id, x.client, x.fresh = id, c, false
	m.update(g, x, req, ps)
	m.touch(x)
	m.park(g, x, w)
	switch {
	case g.state == preparing:
		m.completeIfJoined(g)
	case g.state == stable && g.protocol != nil && g.elect() == *g.protocol:
		m.storeReplaced(g, x, before, w)
	default:
		// While it is completing, the leader may already be at work with the old
		// id: the new one would get no assignment.
		m.prepare(g)
	}
}

// storeReplaced stores the new id of a static member before telling it.
func (m *Machine) storeReplaced(g *group, x *member, before string, w waiter) {
	leader := g.leader.id
	if x == g.leader {
		leader = before
	}
	id, generation := x.id, g.generation
	m.writeMetadata(g, assigned, func(err error) {
		// In a rebalance that has begun meanwhile it takes part, or has.
		if g.state != stable || g.generation != generation || x.id != id || g.members[id] != x {
			return
		}
		switch j := g.answer(x); {
		case err != nil:
			// The client joins once more and gets yet another id. The old id in
			// the log does no harm: it is fenced here, and after a recovery the
			// next client with this instance id takes its place.
			m.answerJoins(g, x, joinError(metadataRefusal(err), ""))
		case w.version >= 9:
			j.skip = x == g.leader
			m.answerJoins(g, x, j)
		default:
			// It must not believe that it leads, for it would assign.
			j.leader, j.members = leader, nil
			m.answerJoins(g, x, j)
		}
	})
}
