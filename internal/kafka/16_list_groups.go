package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups (key 16), versions 0-5
//
//	3    flexible
//	4    states: asked for and told
//	5    types: asked for and told; all are "classic"
//
// A node lists the groups that it coordinates: clients ask all nodes. While some
// are being loaded the answer is COORDINATOR_LOAD_IN_PROGRESS with the others.

func (s *Server) listGroups(_ context.Context, x *exchange, req *kmsg.ListGroupsRequest) {
	s.backend.ListGroups(x.groupClient(), req, func(groups []kmsg.ListGroupsResponseGroup, err error) {
		if err != nil {
			s.partitionFailed(x, "", err)
		}
		resp := kmsg.NewPtrListGroupsResponse()
		resp.ErrorCode, resp.Groups = codeOf(err), groups
		x.reply(resp)
	})
}
