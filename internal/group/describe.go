package group

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups
//
//	4    instance ids
//	6    GROUP_ID_NOT_FOUND for a group that is not there (KIP-1043): before, it is Dead
//
// ListGroups
//
//	4    a filter by state, case-insensitive (KIP-518)
//	5    a filter by type (KIP-848)

// groupType is the type of all groups of this package.
const groupType = "classic"

func (m *Machine) describe(w waiter, req *kmsg.DescribeGroupsRequest) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, name := range req.Groups {
		one := kmsg.NewDescribeGroupsResponseGroup()
		one.Group = name
		if g := m.groups[name]; g != nil {
			g.describe(&one)
		} else {
			one.State = dead.String()
			if w.version >= 6 {
				msg := fmt.Sprintf("Group %s not found.", name)
				one.ErrorCode, one.ErrorMessage = kerr.GroupIDNotFound.Code, &msg
			}
		}
		resp.Groups = append(resp.Groups, one)
	}
	m.reply(w, resp)
}

func (g *group) describe(one *kmsg.DescribeGroupsResponseGroup) {
	one.State, one.ProtocolType = g.state.String(), g.kind
	if g.state == stable {
		one.Protocol = *g.protocol
	}
	for _, x := range g.order {
		y := kmsg.NewDescribeGroupsResponseGroupMember()
		y.MemberID, y.InstanceID, y.ClientID, y.ClientHost = x.id, x.instance, x.client.ID, x.client.Host
		y.MemberAssignment, y.ProtocolMetadata = assigned(x), []byte{}
		if g.state == stable {
			y.ProtocolMetadata = x.metadata(*g.protocol)
		}
		one.Members = append(one.Members, y)
	}
}

func (m *Machine) list(w waiter, req *kmsg.ListGroupsRequest) {
	wanted := func(filter []string, s string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, s) })
	}
	resp := kmsg.NewPtrListGroupsResponse()
	for _, g := range m.sorted() {
		if !wanted(req.StatesFilter, g.state.String()) || !wanted(req.TypesFilter, groupType) {
			continue
		}
		one := kmsg.NewListGroupsResponseGroup()
		one.Group, one.ProtocolType, one.GroupState, one.GroupType = g.name, g.kind, g.state.String(), groupType
		resp.Groups = append(resp.Groups, one)
	}
	m.reply(w, resp)
}
