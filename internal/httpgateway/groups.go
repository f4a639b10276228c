package httpgateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kadm"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

// groups implements the GroupService.
type groups struct{ g *Gateway }

// ListGroups implements the service.
func (h groups) ListGroups(ctx context.Context, _ *connect.Request[v1.ListGroupsRequest]) (*connect.Response[v1.ListGroupsResponse], error) {
	listed, err := settled(ctx, func() (kadm.ListedGroups, error) { return h.g.admin.ListGroups(ctx) })
	if err != nil {
		return nil, err
	}
	resp := &v1.ListGroupsResponse{}
	for _, l := range listed.Sorted() {
		resp.Groups = append(resp.Groups, &v1.GroupSummary{Group: l.Group, State: l.State, ProtocolType: l.ProtocolType, Coordinator: l.Coordinator})
	}
	return connect.NewResponse(resp), nil
}

// DescribeGroup implements the service.
func (h groups) DescribeGroup(ctx context.Context, req *connect.Request[v1.DescribeGroupRequest]) (*connect.Response[v1.DescribeGroupResponse], error) {
	name := req.Msg.Group
	if name == "" {
		return nil, errNoGroup()
	}
	d, err := settled(ctx, func() (kadm.DescribedGroup, error) {
		described, err := h.g.admin.DescribeGroups(ctx, name)
		if err != nil {
			return kadm.DescribedGroup{}, err
		}
		d, err := described.On(name, nil)
		return d, told(cmp.Or(d.Err, err), d.ErrMessage)
	})
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", name, err)
	}
	if d.State == "Dead" {
		return nil, refuse(connect.CodeNotFound, "there is no group %.250q; GroupService.ListGroups shows those there are", name)
	}
	resp := &v1.DescribeGroupResponse{
		Group:    &v1.GroupSummary{Group: name, State: d.State, ProtocolType: d.ProtocolType, Coordinator: d.Coordinator.NodeID},
		Protocol: d.Protocol,
	}
	for _, m := range d.Members {
		one := &v1.GroupMember{MemberId: m.MemberID, ClientId: m.ClientID, ClientHost: m.ClientHost}
		if m.InstanceID != nil {
			one.InstanceId = *m.InstanceID
		}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				one.Assigned = append(one.Assigned, &v1.GroupAssignment{Topic: t.Topic, Partitions: t.Partitions})
			}
		}
		resp.Members = append(resp.Members, one)
	}
	if resp.Offsets, err = h.offsets(ctx, name); err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func errNoGroup() error { return refuse(connect.CodeInvalidArgument, "the group has no name") }

// offsets are what a group has committed, and how far behind that is.
func (h groups) offsets(ctx context.Context, group string) ([]*v1.GroupOffset, error) {
	committed, err := settled(ctx, func() (kadm.OffsetResponses, error) { return h.g.admin.FetchOffsets(ctx, group) })
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", group, err)
	}
	var ends kadm.ListedOffsets
	if len(committed) > 0 {
		// Without them it is said that they are not known.
		ends, _ = h.g.admin.ListEndOffsets(ctx, committed.Offsets().TopicsSet().Topics()...)
	}
	var all []*v1.GroupOffset
	committed.Each(func(c kadm.OffsetResponse) {
		one := &v1.GroupOffset{Topic: c.Topic, Partition: c.Partition, Committed: c.At, End: -1, Lag: -1}
		if end, ok := ends.Lookup(c.Topic, c.Partition); ok && end.Err == nil {
			one.End, one.Lag = end.Offset, max(0, end.Offset-c.At)
		}
		all = append(all, one)
	})
	slices.SortFunc(all, func(a, b *v1.GroupOffset) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	return all, nil
}

// CommitOffsets implements the service.
func (h groups) CommitOffsets(ctx context.Context, req *connect.Request[v1.CommitOffsetsRequest]) (*connect.Response[v1.CommitOffsetsResponse], error) {
	msg := req.Msg
	if msg.Group == "" {
		return nil, errNoGroup()
	}
	info, err := h.g.topic(msg.Topic)
	if err != nil {
		return nil, err
	}
	if len(msg.Offsets) == 0 {
		return nil, refuse(connect.CodeInvalidArgument, "there are no offsets")
	}
	for p := range msg.Offsets {
		if p < 0 || int(p) >= len(info.Partitions) {
			return nil, refuse(connect.CodeNotFound, "topic %q has no partition %d, it has %d", info.Name, p, len(info.Partitions))
		}
	}
	if err := checkOffsets(msg.Offsets); err != nil {
		return nil, err
	}
	if err := h.g.commit(ctx, msg.Group, msg.Topic, msg.Offsets); err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.CommitOffsetsResponse{}), nil
}

// ResetGroup implements the service.
func (h groups) ResetGroup(ctx context.Context, req *connect.Request[v1.ResetGroupRequest]) (*connect.Response[v1.ResetGroupResponse], error) {
	msg := req.Msg
	if msg.Group == "" {
		return nil, errNoGroup()
	}
	var to *v1.Position
	switch t := msg.To.(type) {
	case *v1.ResetGroupRequest_Edge:
		to = &v1.Position{From: &v1.Position_Edge{Edge: t.Edge}}
	case *v1.ResetGroupRequest_Time:
		to = &v1.Position{From: &v1.Position_Time{Time: t.Time}}
	case *v1.ResetGroupRequest_Offset:
		to = &v1.Position{From: &v1.Position_Offset{Offset: t.Offset}}
	default:
		return nil, refuse(connect.CodeInvalidArgument, "say where to: edge, time or offset")
	}
	at, err := h.g.resolve(ctx, msg.Topic, msg.Partitions, to)
	if err != nil {
		return nil, err
	}
	ends, err := h.g.ends(ctx, msg.Topic, at)
	if err != nil {
		return nil, err
	}
	for p, offset := range at {
		if offset > ends[p] {
			return nil, refuse(connect.CodeOutOfRange, "partition %d ends at %d: offset %d is behind that", p, ends[p], offset)
		}
	}
	if !msg.ValidateOnly {
		if err := h.g.commit(ctx, msg.Group, msg.Topic, at); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&v1.ResetGroupResponse{Offsets: at}), nil
}

// DeleteGroup implements the service.
func (h groups) DeleteGroup(ctx context.Context, req *connect.Request[v1.DeleteGroupRequest]) (*connect.Response[v1.DeleteGroupResponse], error) {
	if req.Msg.Group == "" {
		return nil, errNoGroup()
	}
	_, err := settled(ctx, func() (kadm.DeleteGroupResponse, error) {
		deleted, err := h.g.admin.DeleteGroup(ctx, req.Msg.Group)
		return deleted, cmp.Or(deleted.Err, err)
	})
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", req.Msg.Group, err)
	}
	return connect.NewResponse(&v1.DeleteGroupResponse{}), nil
}
