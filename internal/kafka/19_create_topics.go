package kafka

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics (key 19), versions 0-7
//
//	1    validate only; error messages
//	4    -1 partitions and -1 replicas mean the defaults (KIP-464)
//	5    flexible; partitions, replicas and configuration in the response
//	7    topic id in the response
//
// Any node takes it. An explicit assignment says the number of partitions and
// replicas, so both must be -1; whether it can be honoured is the backend's
// to say. The answer does not wait for leaders.

const configSourceTopic = 1 // set for the topic

func (s *Server) createTopics(ctx context.Context, x *exchange, req *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
	defer cancel()
	named := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	resp := kmsg.NewPtrCreateTopicsResponse()
	for i := range req.Topics {
		t := &req.Topics[i]
		times := named[t.Topic]
		if times == 0 {
			continue // answered already
		}
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic = t.Topic
		spec, err := s.createSpec(x.version, t)
		spec.ValidateOnly = req.ValidateOnly
		var info TopicInfo
		if times > 1 {
			named[t.Topic] = 0
			err = Errorf(kerr.InvalidRequest, "topic %q is named more than once", t.Topic)
		}
		if err == nil {
			info, err = s.backend.CreateTopic(ctx, spec)
		}
		if err != nil {
			s.unexpected(x, t.Topic, err)
			rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
			rt.NumPartitions, rt.ReplicationFactor = -1, -1
		} else {
			describeCreated(&rt, spec, info)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// adminTimeout is how long an administrative request may take.
func (s *Server) adminTimeout(ms int32) time.Duration {
	if ms <= 0 {
		return s.opts.Limits.ProduceTimeout
	}
	return min(millis(ms), 5*time.Minute)
}

func describeCreated(rt *kmsg.CreateTopicsResponseTopic, spec CreateTopicSpec, info TopicInfo) {
	rt.TopicID = info.ID
	rt.NumPartitions, rt.ReplicationFactor = spec.Partitions, spec.ReplicationFactor
	rt.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
	for _, name := range slices.Sorted(maps.Keys(info.Config)) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = name, kmsg.StringPtr(info.Config[name]), configSourceTopic
		rt.Configs = append(rt.Configs, c)
	}
}

// createSpec checks a topic to create and fills in defaults.
func (s *Server) createSpec(version int16, t *kmsg.CreateTopicsRequestTopic) (CreateTopicSpec, error) {
	spec := CreateTopicSpec{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	if !validTopic(t.Topic) {
		return spec, Errorf(kerr.InvalidTopicException, "topic name %q is not valid: up to 249 letters, digits, dots, dashes and underscores", t.Topic)
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return spec, Errorf(kerr.InvalidConfig, "configuration %q has no value", c.Name)
		}
		if spec.Config == nil {
			spec.Config = make(map[string]string, len(t.Configs))
		}
		spec.Config[c.Name] = *c.Value
	}
	if len(t.ReplicaAssignment) > 0 {
		return spec, explicitAssignment(&spec, t)
	}
	if version >= 4 && spec.Partitions == -1 {
		spec.Partitions = s.opts.DefaultPartitions
	}
	if version >= 4 && spec.ReplicationFactor == -1 {
		spec.ReplicationFactor = s.opts.DefaultRF
	}
	if spec.Partitions < 1 {
		return spec, Errorf(kerr.InvalidPartitions, "%d partitions: there must be at least one", spec.Partitions)
	}
	if spec.ReplicationFactor < 1 && spec.ReplicationFactor != s.opts.DefaultRF {
		return spec, Errorf(kerr.InvalidReplicationFactor, "replication factor %d: it must be at least 1", spec.ReplicationFactor)
	}
	return spec, nil
}

// explicitAssignment checks the replicas that a client chose, and orders them
// by partition.
func explicitAssignment(spec *CreateTopicSpec, t *kmsg.CreateTopicsRequestTopic) error {
	if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
		return Errorf(kerr.InvalidRequest, "partitions and replication factor must be -1 beside an explicit assignment")
	}
	n := len(t.ReplicaAssignment)
	spec.Assignments = make([][]int32, n)
	for _, a := range t.ReplicaAssignment {
		if a.Partition < 0 || int(a.Partition) >= n || spec.Assignments[a.Partition] != nil {
			return Errorf(kerr.InvalidReplicaAssignment, "partition %d: an assignment has each partition from 0 on, once", a.Partition)
		}
		sorted := slices.Sorted(slices.Values(a.Replicas))
		if len(sorted) == 0 || sorted[0] < 0 || len(slices.Compact(sorted)) != len(a.Replicas) {
			return Errorf(kerr.InvalidReplicaAssignment, "partition %d: replicas must be distinct brokers, at least one", a.Partition)
		}
		if len(a.Replicas) != len(t.ReplicaAssignment[0].Replicas) {
			return Errorf(kerr.InvalidReplicaAssignment, "partition %d: all partitions must have as many replicas", a.Partition)
		}
		spec.Assignments[a.Partition] = a.Replicas
	}
	if len(spec.Assignments[0]) > 1<<15-1 {
		return kerr.InvalidReplicaAssignment
	}
	spec.Partitions, spec.ReplicationFactor = int32(n), int16(len(spec.Assignments[0]))
	return nil
}
