package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup (key 14), versions 0-5
//
//	3    static members
//	4    flexible
//	5    protocol type and name, checked and told
//
// Answered when the leader's assignment is committed.

func (s *Server) syncGroup(_ context.Context, x *exchange, req *kmsg.SyncGroupRequest) {
	coordinate(s, x, req.Group, req, func(_ *kmsg.SyncGroupRequest, code int16) *kmsg.SyncGroupResponse {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = code
		return resp
	})
}
