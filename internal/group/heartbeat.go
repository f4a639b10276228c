package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat, versions 0-4
//
// Its answer is how a member learns that it has to join a rebalance.

func (m *Machine) heartbeat(w waiter, req *kmsg.HeartbeatRequest) {
	// Response and effects in one allocation: most of what a coordinator does
	// is this.
	x := &struct {
		resp kmsg.HeartbeatResponse
		one  [1]Reply
	}{}
	x.resp.Version = w.version
	x.resp.ErrorCode = code(m.beat(req))
	x.one[0] = Reply{w.ref, &x.resp}
	m.fx.Replies = x.one[:]
}

func (m *Machine) beat(req *kmsg.HeartbeatRequest) *kerr.Error {
	if req.Group == "" {
		return kerr.InvalidGroupID
	}
	g := m.groups[req.Group]
	if g == nil {
		return kerr.UnknownMemberID
	}
	if g.state == dead {
		return kerr.CoordinatorNotAvailable
	}
	if err := g.validate(req.MemberID, req.InstanceID); err != nil {
		return err
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration
	}
	m.touch(g.members[req.MemberID])
	if g.state == preparing {
		return kerr.RebalanceInProgress
	}
	return nil
}
