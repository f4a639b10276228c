package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups (key 15), versions 0-6
//
//	3    authorized operations: not told
//	4    static members
//	5    flexible
//	6    error messages; a group that does not exist is GROUP_ID_NOT_FOUND, before
//	     it is Dead

func (s *Server) describeGroups(_ context.Context, x *exchange, req *kmsg.DescribeGroupsRequest) {
	names := distinct(req.Groups, func(name string) string { return name })
	all := newGather(len(names), func(groups []kmsg.DescribeGroupsResponseGroup) {
		resp := kmsg.NewPtrDescribeGroupsResponse()
		resp.Groups = groups
		x.reply(resp)
	})
	for i, name := range names {
		one := *req
		one.Groups = []string{name}
		s.coordinateWith(x, name, &one, func(resp kmsg.Response, err error) {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group = name
			if err != nil {
				g.ErrorCode, g.ErrorMessage = codeOf(err), messageOf(err)
			} else if groups := resp.(*kmsg.DescribeGroupsResponse).Groups; len(groups) == 1 {
				g = groups[0]
			}
			all.settle(i, g)
		})
	}
}
