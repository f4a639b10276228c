package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup
//
//	0    one member
//	3    many, each by member id, by instance id or by both (KIP-345)

func (m *Machine) leaveGroup(w waiter, req *kmsg.LeaveGroupRequest) {
	resp := kmsg.NewPtrLeaveGroupResponse()
	g := m.groups[req.Group]
	switch {
	case req.Group == "":
		resp.ErrorCode = kerr.InvalidGroupID.Code
	case g != nil && g.state == dead:
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
	case w.version < 3:
		resp.ErrorCode = code(m.leave(g, []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}})[0])
	default:
		for i, err := range m.leave(g, req.Members) {
			one := kmsg.NewLeaveGroupResponseMember()
			one.MemberID, one.InstanceID, one.ErrorCode = req.Members[i].MemberID, req.Members[i].InstanceID, code(err)
			resp.Members = append(resp.Members, one)
		}
	}
	m.reply(w, resp)
}

// leave removes members together, so that there is one rebalance, and returns an
// outcome for each.
func (m *Machine) leave(g *group, who []kmsg.LeaveGroupRequestMember) []*kerr.Error {
	outcomes := make([]*kerr.Error, len(who))
	gone := make(map[*member]bool)
	pending := false
	for i, l := range who {
		var x *member
		if x, outcomes[i] = leaver(g, l); outcomes[i] != nil {
			continue
		}
		switch {
		case x == nil:
			m.forgetPending(g, l.MemberID)
			pending = true
		case gone[x]: // named twice
			outcomes[i] = kerr.UnknownMemberID
		default:
			gone[x] = true
		}
	}
	if len(gone) > 0 {
		m.remove(g, func(x *member) bool { return gone[x] })
	}
	if len(gone) > 0 || pending && g.state == preparing {
		m.removed(g)
	}
	if pending {
		m.closeUnused(g)
	}
	return outcomes
}

// leaver finds who is to leave; nil without an error for a member id that was
// given out and has not joined.
func leaver(g *group, l kmsg.LeaveGroupRequestMember) (*member, *kerr.Error) {
	switch {
	case g == nil:
		return nil, kerr.UnknownMemberID
	case l.MemberID == "" && l.InstanceID != nil: // an administrator
		if x := g.static[*l.InstanceID]; x != nil {
			return x, nil
		}
		return nil, kerr.UnknownMemberID
	case g.pending[l.MemberID] != nil:
		return nil, nil
	}
	if err := g.validate(l.MemberID, l.InstanceID); err != nil {
		return nil, err
	}
	return g.members[l.MemberID], nil
}
