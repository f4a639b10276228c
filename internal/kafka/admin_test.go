package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The words of refusals are those that people search for.
func TestAdminWords(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 3)
	c := r.dial()
	want := func(what string, code int16, msg *string, ke *kerr.Error, words string) {
		t.Helper()
		wantCode(t, what, code, ke)
		if msg == nil || *msg != words {
			got := "nothing"
			if msg != nil {
				got = *msg
			}
			t.Errorf("%s: %s", what, got)
		}
	}
	create := func(ke *kerr.Error, words string, change func(*kmsg.CreateTopicsRequestTopic)) {
		t.Helper()
		req := kmsg.NewPtrCreateTopicsRequest()
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "x", 1, 1
		change(&rt)
		req.Topics, req.ValidateOnly = append(req.Topics, rt), true
		got := ask[*kmsg.CreateTopicsResponse](c, req, 7).Topics[0]
		want("create", got.ErrorCode, got.ErrorMessage, ke, words)
	}
	type topic = kmsg.CreateTopicsRequestTopic
	assign := func(partition int32, replicas ...int32) kmsg.CreateTopicsRequestTopicReplicaAssignment {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = partition, replicas
		return a
	}
	by := func(as ...kmsg.CreateTopicsRequestTopicReplicaAssignment) func(*topic) {
		return func(q *topic) { q.NumPartitions, q.ReplicationFactor, q.ReplicaAssignment = -1, -1, as }
	}
	create(kerr.TopicAlreadyExists, "Topic 't' already exists.", func(q *topic) { q.Topic = "t" })
	create(kerr.InvalidTopicException, "Topic name is invalid: the empty string is not allowed", func(q *topic) { q.Topic = "" })
	create(kerr.InvalidTopicException, "Topic name is invalid: '.' or '..' is not allowed", func(q *topic) { q.Topic = ".." })
	create(kerr.InvalidTopicException, "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", func(q *topic) { q.Topic = "a b" })
	long := strings.Repeat("x", 250)
	create(kerr.InvalidTopicException, "Topic name is invalid: the length of '"+long+"' is longer than the max allowed length 249", func(q *topic) { q.Topic = long })
	create(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.", func(q *topic) { q.NumPartitions = 0 })
	create(kerr.InvalidReplicationFactor, "Replication factor was set to an invalid non-positive value.", func(q *topic) { q.ReplicationFactor = -2 })
	create(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition 0", by(assign(0, 1), assign(0, 1)))
	create(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence", by(assign(1, 1)))
	create(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker 1 more than once.", by(assign(0, 1, 1)))
	create(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.", by(assign(0)))
	create(kerr.InvalidReplicaAssignment, "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with previous partitions, which have 1 replica(s).", by(assign(0, 1), assign(1, 1, 2)))
	create(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.", func(q *topic) { by(assign(0, 1))(q); q.ReplicationFactor = 1 })
	create(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.", func(q *topic) { by(assign(0, 1))(q); q.NumPartitions = 1 })
	create(kerr.InvalidConfig, "Unknown topic config name: nope", func(q *topic) {
		q.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "nope", Value: kmsg.StringPtr("1")}}
	})
	create(kerr.InvalidConfig, "Null value not supported for topic configs: retention.ms", func(q *topic) {
		q.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms"}}
	})

	grow := func(ke *kerr.Error, words string, count int32, assigned ...[]int32) {
		t.Helper()
		req := kmsg.NewPtrCreatePartitionsRequest()
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = "t", count
		for _, replicas := range assigned {
			a := kmsg.NewCreatePartitionsRequestTopicAssignment()
			a.Replicas = replicas
			rt.Assignment = append(rt.Assignment, a)
		}
		req.Topics = append(req.Topics, rt)
		got := ask[*kmsg.CreatePartitionsResponse](c, req, 3).Topics[0]
		want("grow", got.ErrorCode, got.ErrorMessage, ke, words)
	}
	grow(kerr.InvalidPartitions, "Topic already has 3 partition(s).", 3)
	grow(kerr.InvalidPartitions, "Topic currently has 3 partitions, which is higher than the requested 2.", 2)
	grow(kerr.InvalidReplicaAssignment, "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.", 5, []int32{1})

	alter := func(kind kmsg.ConfigResourceType, name string, ke *kerr.Error, words string, configs ...kmsg.IncrementalAlterConfigsRequestResourceConfig) {
		t.Helper()
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName, rr.Configs = kind, name, configs
		req.Resources = append(req.Resources, rr)
		got := ask[*kmsg.IncrementalAlterConfigsResponse](c, req, 1).Resources[0]
		want("alter", got.ErrorCode, got.ErrorMessage, ke, words)
	}
	type op = kmsg.IncrementalAlterConfigsRequestResourceConfig
	one := kmsg.StringPtr("1")
	const onTopic, onBroker = kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	alter(onTopic, "t", kerr.InvalidRequest, "Null value not supported for : retention.ms", op{Name: "retention.ms"})
	alter(onTopic, "t", kerr.InvalidRequest, "Error due to duplicate config keys: retention.ms", op{Name: "retention.ms", Value: one}, op{Name: "retention.ms", Op: 1})
	alter(onTopic, "t", kerr.InvalidConfig, "Can't APPEND to key retention.ms because its type is not LIST.", op{Name: "retention.ms", Op: 2, Value: one})
	alter(onTopic, "t", kerr.InvalidRequest, "Unknown operation type 9 for configuration retention.ms", op{Name: "retention.ms", Op: 9, Value: one})
	alter(onTopic, "none", kerr.UnknownTopicOrPartition, "The topic 'none' does not exist.", op{Name: "retention.ms", Value: one})
	alter(onBroker, "x", kerr.InvalidRequest, "Broker id must be an integer, but it is: x", op{Name: "num.partitions", Value: one})
	alter(onBroker, "7", kerr.InvalidRequest, "Unexpected broker id, expected 1 or empty string, but received 7", op{Name: "num.partitions", Value: one})
	alter(kmsg.ConfigResourceTypeBrokerLogger, "1", kerr.InvalidRequest, "Log levels can't be read or changed while the node runs: there are no broker loggers", op{Name: "root", Value: one})
}

// Elections that nobody needs are left out of an answer about all partitions,
// and unclean ones are refused.
func TestElections(t *testing.T) {
	r := newRig(t, nil)
	r.back.brokers = append(r.back.brokers, Broker{ID: 2, Host: "other", Port: 9093})
	r.back.mustCreate("a", 2)
	r.back.mustCreate("b", 2)
	r.back.setLeader("b", 1, 2, 4)
	r.back.setLeader("a", 1, 7, 4) // not live
	c := r.dial()
	req := kmsg.NewPtrElectLeadersRequest()
	req.Topics = nil
	got := ask[*kmsg.ElectLeadersResponse](c, req, 2)
	if len(got.Topics) != 2 || len(got.Topics[0].Partitions) != 1 || len(got.Topics[1].Partitions) != 1 {
		t.Errorf("%+v", got.Topics)
	}
	req.ElectionType = electUnclean
	got = ask[*kmsg.ElectLeadersResponse](c, req, 2)
	if len(got.Topics) != 1 || got.Topics[0].Topic != "a" {
		t.Fatalf("%+v", got.Topics)
	}
	p := got.Topics[0].Partitions[0]
	wantCode(t, "unclean", p.ErrorCode, kerr.EligibleLeadersNotAvailable)
	if p.ErrorMessage == nil || !strings.Contains(*p.ErrorMessage, "not supported") {
		t.Errorf("%v", p.ErrorMessage)
	}
	req.ElectionType = 5
	wantCode(t, "unknown", ask[*kmsg.ElectLeadersResponse](c, req, 2).ErrorCode, kerr.InvalidRequest)
}

// Only what is asked for is described, and nothing that is unknown.
func TestDescribeNamedConfigs(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	req := kmsg.NewPtrDescribeConfigsRequest()
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName, rr.ConfigNames = kmsg.ConfigResourceTypeTopic, "t", []string{"segment.ms", "nope", "retention.ms"}
	req.Resources = append(req.Resources, rr)
	got := ask[*kmsg.DescribeConfigsResponse](r.dial(), req, 4).Resources[0]
	if len(got.Configs) != 2 || got.Configs[0].Name != "retention.ms" || got.Configs[1].Name != "segment.ms" || got.Configs[0].ConfigSynonyms != nil || got.Configs[0].Documentation != nil {
		t.Errorf("%+v", got.Configs)
	}
}
