package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup (key 13), versions 0-5
//
//	3    many members, by id or by static instance
//	4    flexible
//	5    the reason to leave

func (s *Server) leaveGroup(_ context.Context, x *exchange, req *kmsg.LeaveGroupRequest) {
	coordinate(s, x, req.Group, req, func(_ *kmsg.LeaveGroupRequest, code int16) *kmsg.LeaveGroupResponse {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = code
		return resp
	})
}
