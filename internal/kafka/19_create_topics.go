package kafka

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/config"
)

// CreateTopics (key 19), versions 0-7
//
//	1    validate only; error messages
//	4    -1 partitions and -1 replicas mean the defaults (KIP-464); taken below
//	     too, as Kafka does
//	5    flexible; partitions, replicas and configuration in the response
//	     (KIP-525)
//	7    topic id in the response
//
// Any node takes it. An explicit assignment says the number of partitions and
// replicas, so both must be -1. The answer waits for leaders, as Kafka's does, but
// not long: clients ask for Metadata once it is there, and some keep for seconds
// what that says.

func (s *Server) createTopics(ctx context.Context, x *exchange, req *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
	defer cancel()
	named := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	resp := kmsg.NewPtrCreateTopicsResponse()
	var specs []CreateTopicSpec
	var at []int // their places in the response
	for i := range req.Topics {
		t := &req.Topics[i]
		times := named[t.Topic]
		if times == 0 {
			continue // answered already
		}
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Topic, -1, -1
		spec, err := s.createSpec(t)
		if times > 1 {
			named[t.Topic] = 0
			err = Errorf(kerr.InvalidRequest, "Duplicate topic name.")
		}
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, rt)
		if err == nil {
			spec.ValidateOnly = req.ValidateOnly
			specs, at = append(specs, spec), append(at, len(resp.Topics)-1)
		}
	}
	if len(specs) == 0 {
		return resp
	}
	created := make(map[string]error, len(specs))
	for i, made := range s.backend.CreateTopics(ctx, specs) {
		created[specs[i].Name] = made.Err
		rt := &resp.Topics[at[i]]
		if made.Err != nil {
			s.unexpected(x, rt.Topic, made.Err)
			rt.ErrorCode, rt.ErrorMessage = codeOf(made.Err), messageOf(made.Err)
			continue
		}
		rt.TopicID, rt.NumPartitions, rt.ReplicationFactor = made.Info.ID, specs[i].Partitions, made.ReplicationFactor
		if x.version >= 5 {
			rt.Configs = createdConfigs(made.Configs)
		}
	}
	if !req.ValidateOnly {
		s.awaitLeaders(ctx, x, created)
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

func createdConfigs(entries []config.Entry) []kmsg.CreateTopicsResponseTopicConfig {
	configs := make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(entries))
	for i := range entries {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = entries[i].Def.Name, &entries[i].Value, int8(entries[i].Source)
		configs = append(configs, c)
	}
	return configs
}

// createSpec checks a topic to create and fills in defaults.
func (s *Server) createSpec(t *kmsg.CreateTopicsRequestTopic) (CreateTopicSpec, error) {
	spec := CreateTopicSpec{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	if err := checkTopicName(t.Topic); err != nil {
		return spec, err
	}
	if InternalTopic(t.Topic) {
		return spec, errInternalTopic(t.Topic)
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return spec, Errorf(kerr.InvalidConfig, "Null value not supported for topic configs: %s", c.Name)
		}
		if spec.Config == nil {
			spec.Config = make(map[string]string, len(t.Configs))
		}
		spec.Config[c.Name] = *c.Value
	}
	if len(t.ReplicaAssignment) > 0 {
		return spec, explicitAssignment(&spec, t)
	}
	defaults := s.backend.Defaults()
	switch {
	case spec.Partitions == -1:
		spec.Partitions = defaults.Partitions
	case spec.Partitions < 1:
		return spec, Errorf(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	switch {
	case spec.ReplicationFactor == -1:
		spec.ReplicationFactor = defaults.ReplicationFactor
	case spec.ReplicationFactor < 1:
		return spec, Errorf(kerr.InvalidReplicationFactor, "Replication factor was set to an invalid non-positive value.")
	}
	return spec, nil
}

// explicitAssignment checks the replicas that a client chose, and orders them
// by partition.
func explicitAssignment(spec *CreateTopicSpec, t *kmsg.CreateTopicsRequestTopic) error {
	if t.ReplicationFactor != -1 {
		return Errorf(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if t.NumPartitions != -1 {
		return Errorf(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	n := len(t.ReplicaAssignment)
	spec.Assignments = make([][]int32, n)
	for _, a := range t.ReplicaAssignment {
		if a.Partition < 0 || int(a.Partition) >= n {
			return Errorf(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
		if spec.Assignments[a.Partition] != nil {
			return Errorf(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if err := checkReplicas(a.Replicas); err != nil {
			return err
		}
		if want := len(t.ReplicaAssignment[0].Replicas); len(a.Replicas) != want {
			return inconsistent(len(a.Replicas), want)
		}
		spec.Assignments[a.Partition] = a.Replicas
	}
	spec.Partitions, spec.ReplicationFactor = int32(n), int16(len(spec.Assignments[0]))
	return nil
}

// checkReplicas refuses replicas of a partition that make no sense by themselves.
func checkReplicas(replicas []int32) error {
	sorted := slices.Sorted(slices.Values(replicas))
	switch {
	case len(sorted) == 0:
		return Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	case len(sorted) > 1<<15-1:
		return Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes %d replicas.", len(sorted))
	case sorted[0] < 0:
		return Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", sorted[0])
	}
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", sorted[i])
		}
	}
	return nil
}

func inconsistent(have, want int) error {
	return Errorf(kerr.InvalidReplicaAssignment,
		"The manual partition assignment includes a partition with %d replica(s), but this is not consistent with previous partitions, which have %d replica(s).", have, want)
}

// checkTopicName allows what Kafka allows.
func checkTopicName(name string) error {
	switch {
	case name == "":
		return Errorf(kerr.InvalidTopicException, "Topic name is invalid: the empty string is not allowed")
	case name == "." || name == "..":
		return Errorf(kerr.InvalidTopicException, "Topic name is invalid: '.' or '..' is not allowed")
	case len(name) > 249:
		return Errorf(kerr.InvalidTopicException, "Topic name is invalid: the length of '%s' is longer than the max allowed length 249", name)
	case !validTopic(name):
		return Errorf(kerr.InvalidTopicException, "Topic name is invalid: '%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
	}
	return nil
}
