package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup (key 11), versions 0-9
//
//	1    rebalance timeout; before, the session timeout is it
//	4    a new member is first told its id, and joins with it (MEMBER_ID_REQUIRED)
//	5    static members
//	6    flexible
//	7    protocol type in the response
//	8    the reason to join
//	9    the leader may be told to skip the assignment
//
// Answered when the rebalance has all its members, or its time is over.

func (s *Server) joinGroup(_ context.Context, x *exchange, req *kmsg.JoinGroupRequest) {
	coordinate(s, x, req.Group, req, func(req *kmsg.JoinGroupRequest, code int16) *kmsg.JoinGroupResponse {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.ErrorCode, resp.MemberID = code, req.MemberID
		if x.version < 7 {
			resp.Protocol = new(string)
		}
		return resp
	})
}
