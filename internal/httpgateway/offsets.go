package httpgateway

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kadm"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

// resolve says where the partitions of a request begin.
func (g *Gateway) resolve(ctx context.Context, topic string, partitions []int32, at *v1.Position) (map[int32]int64, error) {
	info, err := g.topic(topic)
	if err != nil {
		return nil, err
	}
	if len(partitions) == 0 {
		for i := range info.Partitions {
			partitions = append(partitions, int32(i))
		}
	}
	if len(partitions) > maxRead {
		return nil, refuse(connect.CodeInvalidArgument, "%d partitions: name at most %d", len(partitions), maxRead)
	}
	wanted := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		if p < 0 || int(p) >= len(info.Partitions) {
			return nil, refuse(connect.CodeNotFound, "topic %q has no partition %d, it has %d", topic, p, len(info.Partitions))
		}
		wanted[p] = -1
	}
	switch from := at.GetFrom().(type) {
	case nil:
		return wanted, g.fill(ctx, topic, wanted, v1.Edge_EDGE_START)
	case *v1.Position_Edge:
		return wanted, g.fill(ctx, topic, wanted, from.Edge)
	case *v1.Position_Offset:
		for p := range wanted {
			wanted[p] = from.Offset
		}
		return wanted, checkOffsets(wanted)
	case *v1.Position_Offsets:
		for p, offset := range from.Offsets.GetOffsets() {
			if _, ok := wanted[p]; !ok {
				return nil, refuse(connect.CodeInvalidArgument, "there is an offset for partition %d, which is not to be read", p)
			}
			wanted[p] = offset
		}
		if err := checkOffsets(from.Offsets.GetOffsets()); err != nil {
			return nil, err
		}
		return wanted, g.fill(ctx, topic, wanted, v1.Edge_EDGE_START)
	case *v1.Position_Time:
		if from.Time.CheckValid() != nil {
			return nil, refuse(connect.CodeInvalidArgument, "the time makes no sense")
		}
		listed, err := g.admin.ListOffsetsAfterMilli(ctx, from.Time.AsTime().UnixMilli(), topic)
		return wanted, g.put(wanted, topic, listed, err)
	case *v1.Position_Group:
		return wanted, g.ofGroup(ctx, topic, wanted, from.Group)
	}
	return nil, refuse(connect.CodeInvalidArgument, "the position makes no sense")
}

func checkOffsets(at map[int32]int64) error {
	for p, offset := range at {
		if offset < 0 {
			return refuse(connect.CodeInvalidArgument, "partition %d: offset %d is negative", p, offset)
		}
	}
	return nil
}

// ofGroup fills in what a group has committed.
func (g *Gateway) ofGroup(ctx context.Context, topic string, wanted map[int32]int64, group *v1.GroupPosition) error {
	if group.GetGroup() == "" {
		return refuse(connect.CodeInvalidArgument, "the group has no name")
	}
	committed, err := settled(ctx, func() (kadm.OffsetResponses, error) {
		return g.admin.FetchOffsetsForTopics(ctx, group.Group, topic)
	})
	if err != nil {
		return fmt.Errorf("group %s: %w", group.Group, err)
	}
	for p := range wanted {
		if c, ok := committed.Lookup(topic, p); ok {
			if c.Err != nil {
				return fmt.Errorf("group %s, partition %d: %w", group.Group, p, c.Err)
			}
			wanted[p] = c.At
		}
	}
	return g.fill(ctx, topic, wanted, group.Otherwise)
}

// fill gives partitions without an offset that of an edge.
func (g *Gateway) fill(ctx context.Context, topic string, wanted map[int32]int64, edge v1.Edge) error {
	missing := make(map[int32]int64)
	for p, offset := range wanted {
		if offset < 0 {
			missing[p] = -1
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := g.admin.ListStartOffsets
	switch edge {
	case v1.Edge_EDGE_END:
		list = g.admin.ListEndOffsets
	case v1.Edge_EDGE_UNSPECIFIED, v1.Edge_EDGE_START:
	default:
		return refuse(connect.CodeInvalidArgument, "edge %d is not known", edge)
	}
	listed, err := list(ctx, topic)
	if err := g.put(missing, topic, listed, err); err != nil {
		return err
	}
	for p, offset := range missing {
		wanted[p] = offset
	}
	return nil
}

// put takes the offsets that are wanted out of those that were listed.
func (g *Gateway) put(wanted map[int32]int64, topic string, listed kadm.ListedOffsets, err error) error {
	if err != nil {
		return err
	}
	for p := range wanted {
		o, ok := listed.Lookup(topic, p)
		switch {
		case !ok:
			return refuse(connect.CodeUnavailable, "topic %s, partition %d: no node tells its offsets now; ask again", topic, p)
		case o.Err != nil:
			return fmt.Errorf("topic %s, partition %d: %w", topic, p, o.Err)
		}
		wanted[p] = o.Offset
	}
	return nil
}

// ends are where partitions end now.
func (g *Gateway) ends(ctx context.Context, topic string, of map[int32]int64) (map[int32]int64, error) {
	ends := make(map[int32]int64, len(of))
	for p := range of {
		ends[p] = -1
	}
	return ends, g.fill(ctx, topic, ends, v1.Edge_EDGE_END)
}

// commit commits a group's offsets in a topic.
func (g *Gateway) commit(ctx context.Context, group, topic string, at map[int32]int64) error {
	offsets := make(kadm.Offsets)
	for p, offset := range at {
		offsets.AddOffset(topic, p, offset, -1)
	}
	_, err := settled(ctx, func() (kadm.OffsetResponses, error) {
		committed, err := g.admin.CommitOffsets(ctx, group, offsets)
		if err == nil {
			err = committed.Error()
		}
		return committed, err
	})
	if err != nil {
		return fmt.Errorf("commit offsets of group %s: %w", group, err)
	}
	return nil
}

// ListOffsets implements the service.
func (h records) ListOffsets(ctx context.Context, req *connect.Request[v1.ListOffsetsRequest]) (*connect.Response[v1.ListOffsetsResponse], error) {
	topic := req.Msg.Topic
	info, err := h.g.topic(topic)
	if err != nil {
		return nil, err
	}
	starts, err := h.g.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := h.g.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	var after kadm.ListedOffsets
	if req.Msg.Time != nil {
		if req.Msg.Time.CheckValid() != nil {
			return nil, refuse(connect.CodeInvalidArgument, "the time makes no sense")
		}
		if after, err = h.g.admin.ListOffsetsAfterMilli(ctx, req.Msg.Time.AsTime().UnixMilli(), topic); err != nil {
			return nil, err
		}
	}
	resp := &v1.ListOffsetsResponse{}
	for i := range info.Partitions {
		one := &v1.PartitionOffsets{Partition: int32(i), Start: -1, End: -1}
		start, ok1 := starts.Lookup(topic, int32(i))
		end, ok2 := ends.Lookup(topic, int32(i))
		switch {
		case !ok1 || !ok2:
			one.Error = "no node tells its offsets now"
		case start.Err != nil:
			one.Error = start.Err.Error()
		case end.Err != nil:
			one.Error = end.Err.Error()
		default:
			one.Start, one.End = start.Offset, end.Offset
			// Without a record that is young enough the end is listed.
			if at, ok := after.Lookup(topic, int32(i)); ok && at.Err == nil && at.Timestamp >= 0 {
				one.AtTime = &at.Offset
			}
		}
		resp.Partitions = append(resp.Partitions, one)
	}
	return connect.NewResponse(resp), nil
}
