package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A rebalance has two phases. While it is prepared, members join; it is complete
// when all have, or when the rebalance timeout has passed: the others are then
// removed. Now the generation's members and protocol are known and all are
// answered. Then each one's SyncGroup must come within the rebalance timeout,
// and the leader's brings the assignment (sync.go).

// joinRetry is the least time after which a rebalance that nobody has joined is
// looked at again.
const joinRetry = time.Second

// rebalance begins a rebalance. If one is being prepared already, somebody has
// joined or gone, which may complete it.
func (m *Machine) rebalance(g *group) {
	if g.state == preparing {
		m.completeIfJoined(g)
	} else {
		m.prepare(g)
	}
}

// prepare begins a rebalance in any state but preparing and dead.
func (m *Machine) prepare(g *group) {
	if g.state == completing {
		m.dropAssignments(g, kerr.RebalanceInProgress)
	}
	m.endSyncPhase(g)
	m.stats.Rebalances++
	if g.state == empty || g.state == stable {
		g.began = m.now
	}
	g.initial = g.state == empty
	g.become(preparing, m.now)
	switch {
	case g.initial && m.cfg.InitialRebalanceDelay > 0:
		g.newcomers = false
		g.delay = m.cfg.InitialRebalanceDelay
		g.left = max(g.rebalanceTimeout()-g.delay, 0)
		m.timers.set(&g.join, m.now.Add(g.delay))
	case g.initial || g.allJoined():
		m.completeJoin(g)
	default:
		m.timers.set(&g.join, m.now.Add(g.rebalanceTimeout()))
	}
}

// completeIfJoined ends the first phase early if everybody has joined.
func (m *Machine) completeIfJoined(g *group) {
	if g.state == preparing && !g.initial && g.allJoined() {
		m.completeJoin(g)
	}
}

// joinPhaseOver is when the first phase has lasted long enough. That of an empty
// group is extended as long as members come.
func (m *Machine) joinPhaseOver(g *group) {
	if !g.initial || !g.newcomers || g.left == 0 {
		m.completeJoin(g)
		return
	}
	g.newcomers = false
	next := min(m.cfg.InitialRebalanceDelay, g.left)
	g.left = max(g.left-g.delay, 0)
	g.delay = next
	m.timers.set(&g.join, m.now.Add(next))
}

// completeJoin ends the first phase. Static members that have not come back stay
// until their session is over.
func (m *Machine) completeJoin(g *group) {
	m.timers.stop(&g.join)
	m.remove(g, func(x *member) bool { return !x.joining() && x.instance == nil })
	if len(g.order) > 0 && !g.electJoined() {
		m.timers.set(&g.join, m.now.Add(max(g.rebalanceTimeout(), joinRetry)))
		return
	}
	g.advance(m.now)
	if g.state == empty {
		m.writeMetadata(g, nil, func(error) {}) // if it fails: the members would return at the next recovery, and time out
		return
	}
	for _, x := range g.order {
		m.answerJoins(g, x, g.answer(x))
		x.fresh, x.unsynced = false, true
	}
	g.unsynced = len(g.order)
	m.timers.set(&g.sync, m.now.Add(g.rebalanceTimeout()))
}

// syncPhaseOver removes the members whose SyncGroup has not come.
func (m *Machine) syncPhaseOver(g *group) {
	m.remove(g, func(x *member) bool { return x.unsynced })
	m.prepare(g)
}

// endSyncPhase waits for no SyncGroup any more.
func (m *Machine) endSyncPhase(g *group) {
	m.timers.stop(&g.sync)
	for _, x := range g.order {
		x.unsynced = false
	}
	g.unsynced = 0
}

// heardSync notes that a member's SyncGroup came.
func (m *Machine) heardSync(g *group, x *member) {
	if !x.unsynced {
		return
	}
	x.unsynced = false
	if g.unsynced--; g.unsynced == 0 {
		m.timers.stop(&g.sync)
	}
}

// remove takes members out of the group, and nothing else: what follows from it
// is the caller's. Their parked requests are answered with UNKNOWN_MEMBER_ID, so
// that a client that is still there joins anew.
func (m *Machine) remove(g *group, gone func(*member) bool) {
	left := g.order[:0]
	for _, x := range g.order {
		if !gone(x) {
			left = append(left, x)
			continue
		}
		m.answerJoins(g, x, joinError(kerr.UnknownMemberID, ""))
		m.answerSyncs(x, synced{err: kerr.UnknownMemberID})
		m.heardSync(g, x)
		m.timers.stop(&x.session)
		g.vote(x, -1)
		delete(g.members, x.id)
		if x.instance != nil {
			delete(g.static, *x.instance)
		}
	}
	clear(g.order[len(left):])
	g.stats.Members -= len(g.order) - len(left)
	g.order = left
	if g.leader != nil && g.members[g.leader.id] != g.leader {
		g.leader = nil
		if len(left) > 0 {
			g.leader = left[0]
		}
	}
}

// removed is what follows when members have gone.
func (m *Machine) removed(g *group) {
	switch g.state {
	case completing, stable:
		m.prepare(g)
	case preparing:
		m.completeIfJoined(g)
	}
}

// expireMember ends a session. A member that waits for us is not expected to
// send anything.
func (m *Machine) expireMember(g *group, x *member) {
	if x.waits() {
		m.touch(x)
		return
	}
	m.stats.ExpiredMembers++
	m.remove(g, func(y *member) bool { return y == x })
	m.removed(g)
}

// expirePending forgets a member id whose client has not come back with it.
func (m *Machine) expirePending(g *group, id string) {
	m.forgetPending(g, id)
	m.completeIfJoined(g)
	m.closeUnused(g)
}

func (m *Machine) forgetPending(g *group, id string) {
	if t := g.pending[id]; t != nil {
		m.timers.stop(t)
		delete(g.pending, id)
	}
}

// touch begins a member's session anew.
func (m *Machine) touch(x *member) {
	x.unheard = false
	m.timers.set(&x.session, m.now.Add(x.sessionTimeout))
}

// answerJoins answers a member's parked JoinGroups, if there are any.
func (m *Machine) answerJoins(g *group, x *member, j joined) {
	if !x.joining() {
		return
	}
	for _, w := range x.joins {
		m.fx.Replies = append(m.fx.Replies, j.reply(w))
	}
	x.joins = nil
	g.joining--
	m.touch(x)
}

// answerSyncs answers a member's parked SyncGroups, if there are any.
func (m *Machine) answerSyncs(x *member, s synced) {
	if len(x.syncs) == 0 {
		return
	}
	for _, w := range x.syncs {
		m.fx.Replies = append(m.fx.Replies, s.reply(w))
	}
	x.syncs = nil
	m.touch(x)
}

// dropAssignments gives up the assignment of a generation that has not become
// stable, and tells those who wait for it.
func (m *Machine) dropAssignments(g *group, err *kerr.Error) {
	for _, x := range g.order {
		x.assignment = nil
		m.answerSyncs(x, synced{err: err})
	}
}
