package httpgateway

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/kafka"
)

// topics implements the TopicService.
type topics struct{ g *Gateway }

// told is an error of kadm with the node's own words for it.
func told(err error, message string) error {
	if err == nil || message == "" {
		return err
	}
	return &said{err, message}
}

// CreateTopic implements the service.
func (h topics) CreateTopic(ctx context.Context, req *connect.Request[v1.CreateTopicRequest]) (*connect.Response[v1.CreateTopicResponse], error) {
	msg := req.Msg
	if msg.Name == "" || msg.Partitions < 0 || msg.ReplicationFactor < 0 || msg.ReplicationFactor > math.MaxInt16 {
		return nil, refuse(connect.CodeInvalidArgument, "a topic needs a name, and no negative number of partitions or replicas")
	}
	partitions, replicas := msg.Partitions, int16(msg.ReplicationFactor)
	if partitions == 0 {
		partitions = -1
	}
	if replicas == 0 {
		replicas = -1
	}
	configs := make(map[string]*string, len(msg.Configs))
	for name, value := range msg.Configs {
		configs[name] = &value
	}
	create := h.g.admin.CreateTopics
	if msg.ValidateOnly {
		create = h.g.admin.ValidateCreateTopics
	}
	all, err := create(ctx, partitions, replicas, configs, msg.Name)
	if err != nil {
		return nil, err
	}
	made, err := all.On(msg.Name, nil)
	if err := told(cmp.Or(made.Err, err), made.ErrMessage); err != nil {
		return nil, fmt.Errorf("topic %s: %w", msg.Name, err)
	}
	resp := &v1.CreateTopicResponse{Partitions: made.NumPartitions, ReplicationFactor: int32(made.ReplicationFactor)}
	if !msg.ValidateOnly {
		resp.TopicId = uuid.UUID(made.ID).String()
	}
	return connect.NewResponse(resp), nil
}

// ListTopics implements the service.
func (h topics) ListTopics(_ context.Context, req *connect.Request[v1.ListTopicsRequest]) (*connect.Response[v1.ListTopicsResponse], error) {
	resp := &v1.ListTopicsResponse{}
	all := h.g.backend.Topics()
	for i := range all {
		if !all[i].Internal || req.Msg.Internal {
			resp.Topics = append(resp.Topics, summary(&all[i]))
		}
	}
	return connect.NewResponse(resp), nil
}

func summary(t *kafka.TopicInfo) *v1.TopicSummary {
	s := &v1.TopicSummary{Name: t.Name, TopicId: uuid.UUID(t.ID).String(), Partitions: int32(len(t.Partitions)), Internal: t.Internal}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		s.ReplicationFactor = max(s.ReplicationFactor, int32(len(p.Replicas)-p.Leaving))
		if p.Leader < 0 {
			s.Leaderless++
		}
		if len(p.ISR) < len(p.Replicas)-p.Leaving {
			s.UnderReplicated++
		}
	}
	return s
}

// DescribeTopic implements the service.
func (h topics) DescribeTopic(ctx context.Context, req *connect.Request[v1.DescribeTopicRequest]) (*connect.Response[v1.DescribeTopicResponse], error) {
	info, err := h.g.topic(req.Msg.Name)
	if err != nil {
		return nil, err
	}
	resp := &v1.DescribeTopicResponse{Topic: summary(&info)}
	for i := range info.Partitions {
		p := &info.Partitions[i]
		resp.Partitions = append(resp.Partitions, &v1.PartitionDetail{
			Partition: p.Index, Leader: p.Leader, Term: p.Epoch, Replicas: p.Replicas, InSync: p.ISR, Offline: p.Offline,
		})
	}
	described, err := h.g.admin.DescribeTopicConfigs(ctx, info.Name)
	if err != nil {
		return nil, err
	}
	for _, d := range described {
		if err := told(d.Err, d.ErrMessage); err != nil {
			return nil, fmt.Errorf("configurations of topic %s: %w", info.Name, err)
		}
		for _, c := range d.Configs {
			resp.Configs = append(resp.Configs, &v1.TopicConfig{
				Name: c.Key, Value: c.MaybeValue(), IsDefault: c.Source != kmsg.ConfigSourceDynamicTopicConfig,
			})
		}
	}
	return connect.NewResponse(resp), nil
}

// AlterTopicConfig implements the service.
func (h topics) AlterTopicConfig(ctx context.Context, req *connect.Request[v1.AlterTopicConfigRequest]) (*connect.Response[v1.AlterTopicConfigResponse], error) {
	msg := req.Msg
	if _, err := h.g.topic(msg.Name); err != nil {
		return nil, err
	}
	var changes []kadm.AlterConfig
	for _, name := range slices.Sorted(maps.Keys(msg.Set)) {
		value := msg.Set[name]
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	for _, name := range msg.Reset_ {
		if _, both := msg.Set[name]; both {
			return nil, refuse(connect.CodeInvalidArgument, "%q is to be set and to be reset", name)
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	if len(changes) == 0 {
		return nil, refuse(connect.CodeInvalidArgument, "there is nothing in set or reset")
	}
	alter := h.g.admin.AlterTopicConfigs
	if msg.ValidateOnly {
		alter = h.g.admin.ValidateAlterTopicConfigs
	}
	altered, err := alter(ctx, changes, msg.Name)
	if err != nil {
		return nil, err
	}
	for _, a := range altered {
		if err := told(a.Err, a.ErrMessage); err != nil {
			return nil, fmt.Errorf("topic %s: %w", msg.Name, err)
		}
	}
	return connect.NewResponse(&v1.AlterTopicConfigResponse{}), nil
}

// AddPartitions implements the service.
func (h topics) AddPartitions(ctx context.Context, req *connect.Request[v1.AddPartitionsRequest]) (*connect.Response[v1.AddPartitionsResponse], error) {
	msg := req.Msg
	if _, err := h.g.topic(msg.Name); err != nil {
		return nil, err
	}
	if msg.Total < 1 {
		return nil, refuse(connect.CodeInvalidArgument, "total is %d: name the number of partitions that the topic has afterwards", msg.Total)
	}
	update := h.g.admin.UpdatePartitions
	if msg.ValidateOnly {
		update = h.g.admin.ValidateUpdatePartitions
	}
	updated, err := update(ctx, int(msg.Total), msg.Name)
	if err != nil {
		return nil, err
	}
	for _, u := range updated {
		if err := told(u.Err, u.ErrMessage); err != nil {
			return nil, fmt.Errorf("topic %s: %w", msg.Name, err)
		}
	}
	return connect.NewResponse(&v1.AddPartitionsResponse{}), nil
}

// DeleteTopic implements the service.
func (h topics) DeleteTopic(ctx context.Context, req *connect.Request[v1.DeleteTopicRequest]) (*connect.Response[v1.DeleteTopicResponse], error) {
	if _, err := h.g.topic(req.Msg.Name); err != nil {
		return nil, err
	}
	deleted, err := h.g.admin.DeleteTopic(ctx, req.Msg.Name)
	if err := told(cmp.Or(deleted.Err, err), deleted.ErrMessage); err != nil {
		return nil, fmt.Errorf("topic %s: %w", req.Msg.Name, err)
	}
	return connect.NewResponse(&v1.DeleteTopicResponse{}), nil
}

// DeleteRecords implements the service.
func (h topics) DeleteRecords(ctx context.Context, req *connect.Request[v1.DeleteRecordsRequest]) (*connect.Response[v1.DeleteRecordsResponse], error) {
	info, err := h.g.topic(req.Msg.Topic)
	if err != nil {
		return nil, err
	}
	if len(req.Msg.Before) == 0 {
		return nil, refuse(connect.CodeInvalidArgument, "before is empty: name an offset for each partition that is meant")
	}
	offsets := make(kadm.Offsets)
	for p, before := range req.Msg.Before {
		if p < 0 || int(p) >= len(info.Partitions) {
			return nil, refuse(connect.CodeNotFound, "topic %q has no partition %d, it has %d", info.Name, p, len(info.Partitions))
		}
		if before < -1 {
			return nil, refuse(connect.CodeInvalidArgument, "partition %d: offset %d; -1 is all that is there", p, before)
		}
		offsets.AddOffset(info.Name, p, before, -1)
	}
	deleted, err := h.g.admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	resp := &v1.DeleteRecordsResponse{Starts: make(map[int32]int64)}
	for p := range req.Msg.Before {
		d, ok := deleted.Lookup(info.Name, p)
		if !ok {
			return nil, refuse(connect.CodeUnavailable, "topic %s, partition %d: no node has answered; ask again", info.Name, p)
		}
		if d.Err != nil {
			return nil, fmt.Errorf("topic %s, partition %d: %w", info.Name, p, d.Err)
		}
		resp.Starts[p] = d.LowWatermark
	}
	return connect.NewResponse(resp), nil
}
