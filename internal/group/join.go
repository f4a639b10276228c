package group

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup
//
//	0    the rebalance timeout is the session timeout
//	4    a new member is first told its id, and joins with it (KIP-394)
//	5    static members (KIP-345)
//	9    a static leader may be told to skip the assignment (KIP-814)

const (
	// freshTimeout is how long a new member may wait in a JoinGroup: its client
	// can't be heard meanwhile, and may have given up and come anew.
	freshTimeout = 5 * time.Minute

	// maxName bounds group, member, instance and protocol names: the records
	// and the older versions give their length 16 bits.
	maxName = math.MaxInt16 - 256

	// maxIDPrefix bounds what of a client id or instance id goes into a member id.
	maxIDPrefix = 255
)

func (m *Machine) joinGroup(w waiter, c Client, req *kmsg.JoinGroupRequest) {
	if err := m.checkJoin(c, req); err != nil {
		m.refuseJoin(w, err, req.MemberID)
		return
	}
	g := m.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			m.refuseJoin(w, kerr.UnknownMemberID, req.MemberID)
			return
		}
		g = m.open(req.Group)
		defer m.closeUnused(g)
	}
	ps := protocolsOf(req)
	switch {
	case g.state == dead:
		m.refuseJoin(w, kerr.CoordinatorNotAvailable, req.MemberID)
	case !m.hasRoom(g, req.MemberID):
		m.turnAway(g, req.MemberID)
		m.refuseJoin(w, kerr.GroupMaxSizeReached, "")
	case !g.supports(req.ProtocolType, ps):
		m.refuseJoin(w, kerr.InconsistentGroupProtocol, req.MemberID)
	case req.MemberID == "":
		m.joinNew(g, w, c, req, ps)
	default:
		m.rejoin(g, w, c, req, ps)
	}
}

func (m *Machine) refuseJoin(w waiter, err *kerr.Error, id string) {
	m.fx.Replies = append(m.fx.Replies, joinError(err, id).reply(w))
}

// checkJoin checks what does not depend on the group.
func (m *Machine) checkJoin(c Client, req *kmsg.JoinGroupRequest) *kerr.Error {
	session := millis(req.SessionTimeoutMillis)
	switch {
	case req.Group == "" || len(req.Group) > maxName:
		return kerr.InvalidGroupID
	case session < m.cfg.MinSessionTimeout || session > m.cfg.MaxSessionTimeout:
		return kerr.InvalidSessionTimeout
	case len(req.ProtocolType) > maxName || len(c.ID) > maxName || len(c.Host) > maxName ||
		req.InstanceID != nil && len(*req.InstanceID) > maxName:
		return kerr.InvalidRequest
	}
	for _, p := range req.Protocols {
		if len(p.Name) > maxName {
			return kerr.InvalidRequest
		}
	}
	return nil
}

// hasRoom says whether the group takes another member. During a rebalance those
// count that have joined: the last to come of an oversized group stay outside.
func (m *Machine) hasRoom(g *group, id string) bool {
	x := g.members[id]
	switch g.state {
	case preparing:
		return x != nil && x.joining() || g.joining < m.cfg.MaxSize
	case completing, stable:
		return x != nil || len(g.order) < m.cfg.MaxSize
	}
	return true
}

// turnAway removes a member, or an id, for which there is no room.
func (m *Machine) turnAway(g *group, id string) {
	if g.members[id] == nil && g.pending[id] == nil {
		return
	}
	m.forgetPending(g, id)
	m.remove(g, func(x *member) bool { return x.id == id })
	m.completeIfJoined(g)
}

// joinNew takes in a member that has no id yet.
func (m *Machine) joinNew(g *group, w waiter, c Client, req *kmsg.JoinGroupRequest, ps []protocol) {
	if req.InstanceID != nil {
		id := m.newID(*req.InstanceID)
		if old := g.static[*req.InstanceID]; old != nil {
			m.replaceStatic(g, old, id, w, c, req, ps)
		} else {
			m.admit(g, id, w, c, req, ps)
		}
		return
	}
	id := m.newID(c.ID)
	if w.version < 4 {
		m.admit(g, id, w, c, req, ps)
		return
	}
	t := &timer{}
	t.fire = func() { m.expirePending(g, id) }
	m.timers.set(t, m.now.Add(millis(req.SessionTimeoutMillis)))
	g.pending[id] = t
	m.refuseJoin(w, kerr.MemberIDRequired, id)
}

// newID makes a member id.
func (m *Machine) newID(prefix string) string {
	return m.cfg.NewMemberID(prefix[:min(len(prefix), maxIDPrefix)])
}

// rejoin takes in a member that has an id.
func (m *Machine) rejoin(g *group, w waiter, c Client, req *kmsg.JoinGroupRequest, ps []protocol) {
	if g.pending[req.MemberID] != nil && req.InstanceID == nil {
		m.forgetPending(g, req.MemberID)
		m.admit(g, req.MemberID, w, c, req, ps)
		return
	}
	if err := g.validate(req.MemberID, req.InstanceID); err != nil {
		m.refuseJoin(w, err, req.MemberID)
		return
	}
	x := g.members[req.MemberID]
	// In a generation that the member knows nothing new about, it is told that
	// generation again: its answer may have been lost. A leader that joins
	// again in a stable group wants a rebalance, for topics may have changed.
	settled := g.state == completing || g.state == stable && x != g.leader
	if settled && x.offers(ps) {
		m.touch(x)
		m.fx.Replies = append(m.fx.Replies, g.answer(x).reply(w))
		return
	}
	m.update(g, x, req, ps)
	m.park(g, x, w)
	m.rebalance(g)
}

// admit adds a new member, which leads to a rebalance.
func (m *Machine) admit(g *group, id string, w waiter, c Client, req *kmsg.JoinGroupRequest, ps []protocol) {
	x := m.newMember(g, id, req.InstanceID, c)
	x.fresh = true
	x.rebalanceTimeout, x.sessionTimeout, x.protocols = rebalanceTimeoutOf(req), millis(req.SessionTimeoutMillis), ps
	g.newcomers = true
	g.add(x, req.ProtocolType)
	m.park(g, x, w)
	m.timers.set(&x.session, m.now.Add(freshTimeout))
	m.rebalance(g)
}

func (m *Machine) newMember(g *group, id string, instance *string, c Client) *member {
	x := &member{id: id, instance: instance, client: c}
	x.session.fire = func() { m.expireMember(g, x) }
	return x
}

// update replaces what a member offers.
func (m *Machine) update(g *group, x *member, req *kmsg.JoinGroupRequest, ps []protocol) {
	g.vote(x, -1)
	x.protocols = ps
	g.vote(x, +1)
	x.rebalanceTimeout, x.sessionTimeout = rebalanceTimeoutOf(req), millis(req.SessionTimeoutMillis)
}

// park keeps a JoinGroup until the rebalance, or the write, is over.
func (m *Machine) park(g *group, x *member, w waiter) {
	if !x.joining() {
		g.joining++
	}
	x.joins = append(x.joins, w)
}

func rebalanceTimeoutOf(req *kmsg.JoinGroupRequest) time.Duration {
	if req.Version == 0 {
		return millis(req.SessionTimeoutMillis)
	}
	return millis(req.RebalanceTimeoutMillis)
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }
