package group

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup
//
//	3    static members (KIP-345)
//	5    says which protocol the client believes in
//
// In a completing group it waits for the leader's, whose assignment is stored
// before anybody is told. In a stable group it is answered at once.

func (m *Machine) syncGroup(w waiter, req *kmsg.SyncGroupRequest) {
	g := m.groups[req.Group]
	if err := checkSync(g, req); err != nil {
		m.fx.Replies = append(m.fx.Replies, synced{err: err}.reply(w))
		return
	}
	x := g.members[req.MemberID]
	m.heardSync(g, x)
	if g.state == stable {
		m.touch(x)
		m.fx.Replies = append(m.fx.Replies, g.assignment(x).reply(w))
		return
	}
	x.syncs = append(x.syncs, w)
	if x == g.leader && !g.storing {
		m.storeAssignment(g, req)
	}
}

func checkSync(g *group, req *kmsg.SyncGroupRequest) *kerr.Error {
	switch {
	case req.Group == "":
		return kerr.InvalidGroupID
	case req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil):
		return kerr.InconsistentGroupProtocol
	case g == nil || g.state == empty:
		return kerr.UnknownMemberID
	case g.state == dead:
		return kerr.CoordinatorNotAvailable
	}
	if err := g.validate(req.MemberID, req.InstanceID); err != nil {
		return err
	}
	switch {
	case req.Generation != g.generation:
		return kerr.IllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.kind,
		req.Protocol != nil && g.protocol != nil && *req.Protocol != *g.protocol:
		return kerr.InconsistentGroupProtocol
	case g.state == preparing:
		return kerr.RebalanceInProgress
	}
	return nil
}

// assignment is what a member of a stable group is told.
func (g *group) assignment(x *member) synced {
	return synced{kind: g.kindOrNil(), name: g.protocol, assignment: assigned(x)}
}

// assigned is a member's assignment: never nil, as the response can't be null.
func assigned(x *member) []byte {
	if x.assignment == nil {
		return []byte{}
	}
	return x.assignment
}

// storeAssignment sends the leader's assignment to the log. Members that it
// leaves out get an empty one.
func (m *Machine) storeAssignment(g *group, req *kmsg.SyncGroupRequest) {
	shares := make(map[string][]byte, len(req.GroupAssignment))
	for _, a := range req.GroupAssignment {
		if g.members[a.MemberID] != nil {
			shares[a.MemberID] = bytes.Clone(a.MemberAssignment)
		}
	}
	generation := g.generation
	g.storing = true
	m.writeMetadata(g, func(x *member) []byte { return shares[x.id] }, func(err error) {
		if g.state != completing || g.generation != generation {
			return // a new rebalance has begun, and everybody was told
		}
		if err != nil {
			m.dropAssignments(g, metadataRefusal(err))
			m.prepare(g)
			return
		}
		g.become(stable, m.now)
		m.fx.Rebalanced = append(m.fx.Rebalanced, m.now.Sub(g.began))
		for _, x := range g.order {
			x.assignment = shares[x.id]
			m.answerSyncs(x, g.assignment(x))
		}
	})
}
