package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups (key 42), versions 0-2
//
//	2    flexible
//
// Only a group without members is deleted, with all its offsets.

func (s *Server) deleteGroups(_ context.Context, x *exchange, req *kmsg.DeleteGroupsRequest) {
	all := newGather(len(req.Groups), func(groups []kmsg.DeleteGroupsResponseGroup) {
		resp := kmsg.NewPtrDeleteGroupsResponse()
		resp.Groups = groups
		x.reply(resp)
	})
	for i, name := range req.Groups {
		one := *req
		one.Groups = []string{name}
		s.coordinateWith(x, name, &one, func(resp kmsg.Response, err error) {
			g := kmsg.NewDeleteGroupsResponseGroup()
			g.Group = name
			if err != nil {
				g.ErrorCode = codeOf(err)
			} else if groups := resp.(*kmsg.DeleteGroupsResponse).Groups; len(groups) == 1 {
				g = groups[0]
			}
			all.settle(i, g)
		})
	}
}
