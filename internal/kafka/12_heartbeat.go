package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat (key 12), versions 0-4
//
//	3    static members
//	4    flexible

func (s *Server) heartbeat(_ context.Context, x *exchange, req *kmsg.HeartbeatRequest) {
	coordinate(s, x, req.Group, req, func(_ *kmsg.HeartbeatRequest, code int16) *kmsg.HeartbeatResponse {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = code
		return resp
	})
}
