package kafka

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/config"
)

// checkDescribed checks the configurations of a topic that has set nothing.
func checkDescribed(t *testing.T, v int16, configs []kmsg.DescribeConfigsResponseResourceConfig) {
	t.Helper()
	at := slices.IndexFunc(configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool { return c.Name == "retention.ms" })
	if len(configs) != len(config.TopicNames()) || at < 0 {
		t.Fatalf("%d configurations", len(configs))
	}
	c := configs[at]
	if *c.Value != "604800000" || c.ReadOnly || c.IsSensitive || v == 0 && !c.IsDefault || v > 0 && c.Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("%+v", c)
	}
	if v >= 1 && (len(c.ConfigSynonyms) != 1 || c.ConfigSynonyms[0].Name != "log.retention.hours" || *c.ConfigSynonyms[0].Value != "168") {
		t.Errorf("synonyms %+v", c.ConfigSynonyms)
	}
	if v >= 3 && (c.ConfigType != kmsg.ConfigTypeLong || c.Documentation == nil) {
		t.Errorf("%+v", c)
	}
}

// each asks of partitions 0, 1 (led by node 2) and 9 (not there) of topic t.
func partitionsOf[P any](make func(index int32) P) []P {
	return []P{make(0), make(1), make(9)}
}

func init() {
	for key, c := range adminCases {
		versionCases[key] = c
	}
}

var adminCases = map[int16]versionCase{
	21: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDeleteRecordsRequest()
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic = "t"
			rt.Partitions = partitionsOf(func(i int32) kmsg.DeleteRecordsRequestTopicPartition {
				p := kmsg.NewDeleteRecordsRequestTopicPartition()
				p.Partition, p.Offset = i, -1
				return p
			})
			beyond, before := rt.Partitions[0], rt.Partitions[0]
			beyond.Offset, before.Offset = 2, -2
			rt.Partitions = append(rt.Partitions, beyond, before)
			req.Topics, req.TimeoutMillis = append(req.Topics, rt), 1000
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ps := resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions
			for i, want := range []*kerr.Error{nil, kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.OffsetOutOfRange, kerr.OffsetOutOfRange} {
				wantCode(t, "delete", ps[i].ErrorCode, want)
				if low := ps[i].LowWatermark; want == nil && low != 1 || want != nil && low != -1 {
					t.Errorf("partition %d: low watermark %d", ps[i].Partition, low)
				}
			}
		},
	},
	33: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrAlterConfigsRequest()
			for _, name := range []string{"t", "none", "s", "s"} {
				rr := kmsg.NewAlterConfigsRequestResource()
				rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, name
				c := kmsg.NewAlterConfigsRequestResourceConfig()
				c.Name, c.Value = "retention.ms", kmsg.StringPtr("1000")
				rr.Configs = append(rr.Configs, c)
				req.Resources = append(req.Resources, rr)
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			rs := resp.(*kmsg.AlterConfigsResponse).Resources
			for i, want := range []*kerr.Error{nil, kerr.UnknownTopicOrPartition, kerr.InvalidRequest, kerr.InvalidRequest} {
				wantCode(t, "alter", rs[i].ErrorCode, want)
			}
			if info, _ := r.back.Topic("t"); info.Config["retention.ms"] != "1000" {
				t.Errorf("%v", info.Config)
			}
		},
	},
	35: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDescribeLogDirsRequest()
			rt := kmsg.NewDescribeLogDirsRequestTopic()
			rt.Topic, rt.Partitions = "t", []int32{0, 2, 9}
			req.Topics = append(req.Topics, rt)
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			d := resp.(*kmsg.DescribeLogDirsResponse).Dirs[0]
			if len(d.Topics) != 1 || len(d.Topics[0].Partitions) != 2 || d.Topics[0].Partitions[1].Size != 7 || v >= 4 && (d.TotalBytes != 1000 || d.UsableBytes != 400) {
				t.Errorf("%+v", d)
			}
		},
	},
	43: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrElectLeadersRequest()
			rt := kmsg.NewElectLeadersRequestTopic()
			rt.Topic, rt.Partitions = "t", []int32{0, 1, 9}
			req.Topics, req.TimeoutMillis = append(req.Topics, rt), 1000
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ps := resp.(*kmsg.ElectLeadersResponse).Topics[0].Partitions
			wantCode(t, "leads already", ps[0].ErrorCode, kerr.ElectionNotNeeded)
			wantCode(t, "led by node 2", ps[1].ErrorCode, nil)
			wantCode(t, "not there", ps[2].ErrorCode, kerr.UnknownTopicOrPartition)
			if want := []TopicPartition{{"t", 1}}; !slices.Equal(r.back.electedNow(), want) {
				t.Errorf("elected %v", r.back.electedNow())
			}
		},
	},
	44: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			for _, name := range []string{"t", "none"} {
				rr := kmsg.NewIncrementalAlterConfigsRequestResource()
				rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, name
				c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				c.Name, c.Op, c.Value = "cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, kmsg.StringPtr("compact")
				rr.Configs = append(rr.Configs, c)
				req.Resources = append(req.Resources, rr)
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			rs := resp.(*kmsg.IncrementalAlterConfigsResponse).Resources
			wantCode(t, "t", rs[0].ErrorCode, nil)
			wantCode(t, "none", rs[1].ErrorCode, kerr.UnknownTopicOrPartition)
			if info, _ := r.back.Topic("t"); info.Config["cleanup.policy"] != "delete,compact" {
				t.Errorf("%v", info.Config)
			}
		},
	},
	45: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
			rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
			rt.Topic = "t"
			rt.Partitions = partitionsOf(func(i int32) kmsg.AlterPartitionAssignmentsRequestTopicPartition {
				p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
				p.Partition, p.Replicas = i, []int32{2}
				return p
			})
			rt.Partitions[1].Replicas = nil
			more := rt.Partitions[0]
			more.Partition, more.Replicas = 2, []int32{1, 2}
			rt.Partitions = append(rt.Partitions, more)
			req.Topics, req.AllowReplicationFactorChange = append(req.Topics, rt), false
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ps := resp.(*kmsg.AlterPartitionAssignmentsResponse).Topics[0].Partitions
			resize := kerr.InvalidReplicationFactor
			if v == 0 {
				resize = nil
			}
			for i, want := range []*kerr.Error{nil, kerr.NoReassignmentInProgress, kerr.UnknownTopicOrPartition, resize} {
				wantCode(t, "reassign", ps[i].ErrorCode, want)
			}
		},
	},
	46: {
		func(r *rig, v int16) kmsg.Request {
			r.back.moving = []Moving{
				{TopicPartition{"s", 0}, []int32{1, 2}, []int32{2}, []int32{1}}, {TopicPartition{"t", 2}, []int32{3, 1}, []int32{3}, []int32{1}},
			}
			req := kmsg.NewPtrListPartitionReassignmentsRequest()
			rt := kmsg.NewListPartitionReassignmentsRequestTopic()
			rt.Topic, rt.Partitions = "t", []int32{0, 2}
			req.Topics = append(req.Topics, rt)
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ts := resp.(*kmsg.ListPartitionReassignmentsResponse).Topics
			if len(ts) != 1 || len(ts[0].Partitions) != 1 || !slices.Equal(ts[0].Partitions[0].Replicas, []int32{3, 1}) || !slices.Equal(ts[0].Partitions[0].RemovingReplicas, []int32{1}) {
				t.Errorf("%+v", ts)
			}
		},
	},
	61: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDescribeProducersRequest()
			rt := kmsg.NewDescribeProducersRequestTopic()
			rt.Topic, rt.Partitions = "t", []int32{0, 1, 9}
			req.Topics = append(req.Topics, rt)
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ps := resp.(*kmsg.DescribeProducersResponse).Topics[0].Partitions
			for i, want := range []*kerr.Error{nil, kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition} {
				wantCode(t, "producers", ps[i].ErrorCode, want)
			}
			if a := ps[0].ActiveProducers; len(a) != 1 || a[0].ProducerID != 9 || a[0].LastSequence != 41 || a[0].CurrentTxnStartOffset != -1 {
				t.Errorf("%+v", a)
			}
		},
	},
}
