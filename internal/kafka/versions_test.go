package kafka

import (
	"bytes"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// versionCase asks one API at one version and checks the answer.
type versionCase struct {
	request func(r *rig, v int16) kmsg.Request
	check   func(t *testing.T, r *rig, v int16, resp kmsg.Response)
}

func wantCode(t *testing.T, what string, got int16, want *kerr.Error) {
	t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		t.Errorf("%s: %s, want %s", what, nameOf(got), nameOf(code))
	}
}

func topicID(r *rig, name string) [16]byte {
	info, _ := r.back.Topic(name)
	return info.ID
}

func init() { maps.Copy(versionCases, groupCases) }

var versionCases = map[int16]versionCase{
	0: {
		func(r *rig, v int16) kmsg.Request {
			req := produceReq("t", topicID(r, "t"), 0, -1, testBatch(10))
			p := req.Topics[0].Partitions[0]
			p.Partition = 1 // led by node 2
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			p := resp.(*kmsg.ProduceResponse)
			good, moved := p.Topics[0].Partitions[0], p.Topics[0].Partitions[1]
			if v < 3 {
				wantCode(t, "old", good.ErrorCode, kerr.UnsupportedVersion)
				return
			}
			wantCode(t, "good", good.ErrorCode, nil)
			wantCode(t, "moved", moved.ErrorCode, kerr.NotLeaderForPartition)
			if v >= 13 && p.Topics[0].TopicID != topicID(r, "t") || v < 13 && p.Topics[0].Topic != "t" {
				t.Error("another topic")
			}
			checkHint(t, v >= 10, moved.CurrentLeader.LeaderID, moved.CurrentLeader.LeaderEpoch, len(p.Brokers))
		},
	},
	1: {
		func(r *rig, v int16) kmsg.Request { return fetchReq("t", topicID(r, "t"), 0, 0, 1) },
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			f := resp.(*kmsg.FetchResponse)
			good, moved := f.Topics[0].Partitions[0], f.Topics[0].Partitions[1]
			if v < 4 {
				wantCode(t, "old", good.ErrorCode, kerr.UnsupportedVersion)
				return
			}
			wantCode(t, "good", good.ErrorCode, nil)
			wantCode(t, "moved", moved.ErrorCode, kerr.NotLeaderForPartition)
			o, _ := r.back.part("t", 0).Offsets()
			if good.HighWatermark != o.HighWatermark || good.LastStableOffset != o.HighWatermark || f.SessionID != 0 {
				t.Errorf("offsets %+v", good)
			}
			var want []byte
			for _, b := range r.back.part("t", 0).batches {
				want = append(want, b.bytes...)
			}
			if !bytes.Equal(good.RecordBatches, want) || len(want) == 0 {
				t.Errorf("%d bytes of records, want %d", len(good.RecordBatches), len(want))
			}
			checkHint(t, v >= 16, moved.CurrentLeader.LeaderID, moved.CurrentLeader.LeaderEpoch, len(f.Brokers))
		},
	},
	2: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrListOffsetsRequest()
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = "t"
			for i, at := range []int64{timeLatest, 1} {
				p := kmsg.NewListOffsetsRequestTopicPartition()
				p.Partition, p.Timestamp, p.MaxNumOffsets = int32(i), at, 1
				rt.Partitions = append(rt.Partitions, p)
			}
			req.Topics, req.ReplicaID = append(req.Topics, rt), -1
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ps := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions
			wantCode(t, "latest", ps[0].ErrorCode, nil)
			wantCode(t, "moved", ps[1].ErrorCode, kerr.NotLeaderForPartition)
			o, _ := r.back.part("t", 0).Offsets()
			if v == 0 && (len(ps[0].OldStyleOffsets) != 1 || ps[0].OldStyleOffsets[0] != o.HighWatermark) ||
				v > 0 && ps[0].Offset != o.HighWatermark || v >= 4 && ps[0].LeaderEpoch != 3 {
				t.Errorf("latest %+v", ps[0])
			}
		},
	},
	3: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			for _, name := range []string{"t", "bad name", "fresh", "t"} {
				rt := kmsg.NewMetadataRequestTopic()
				rt.Topic = &name
				req.Topics = append(req.Topics, rt)
			}
			req.AllowAutoTopicCreation = true
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			m := resp.(*kmsg.MetadataResponse)
			if len(m.Topics) != 3 || len(m.Brokers) != 2 {
				t.Fatalf("%d topics, %d brokers", len(m.Topics), len(m.Brokers))
			}
			wantCode(t, "t", m.Topics[0].ErrorCode, nil)
			wantCode(t, "bad", m.Topics[1].ErrorCode, kerr.InvalidTopicException)
			wantCode(t, "fresh", m.Topics[2].ErrorCode, kerr.UnknownTopicOrPartition)
			ps := m.Topics[0].Partitions
			if len(ps) != 3 || ps[0].Leader != 1 || ps[1].Leader != 2 || ps[2].Leader != -1 || ps[2].ErrorCode != kerr.LeaderNotAvailable.Code {
				t.Errorf("partitions %+v", ps)
			}
			if v >= 1 && m.ControllerID != 1 || v >= 2 && *m.ClusterID != "mem-cluster" || v >= 10 && m.Topics[0].TopicID != topicID(r, "t") {
				t.Errorf("cluster %+v", m)
			}
		},
	},
	10: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
			r.back.memGroups.node = 2
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			f := resp.(*kmsg.FindCoordinatorResponse)
			if v < 4 {
				wantCode(t, "group", f.ErrorCode, nil)
				if f.NodeID != 2 || f.Host != "other" || f.Port != 9093 {
					t.Errorf("coordinator %+v", f)
				}
			} else if len(f.Coordinators) != 2 || f.Coordinators[1].Key != "h" || f.Coordinators[1].Host != "other" || f.Coordinators[1].ErrorCode != 0 {
				t.Errorf("coordinators %+v", f.Coordinators)
			}
		},
	},
	18: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = "some-client", "1.2.3"
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			a := resp.(*kmsg.ApiVersionsResponse)
			wantCode(t, "api versions", a.ErrorCode, nil)
			if len(a.ApiKeys) != len(r.srv.apis.rows) {
				t.Errorf("%d keys", len(a.ApiKeys))
			}
		},
	},
	19: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrCreateTopicsRequest()
			for _, name := range []string{"new", "t", "twice", "twice", "no/slash"} {
				rt := kmsg.NewCreateTopicsRequestTopic()
				rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 4, 1
				c := kmsg.NewCreateTopicsRequestTopicConfig()
				c.Name, c.Value = "retention.ms", kmsg.StringPtr("1000")
				rt.Configs = append(rt.Configs, c)
				req.Topics = append(req.Topics, rt)
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ts := resp.(*kmsg.CreateTopicsResponse).Topics
			if len(ts) != 4 {
				t.Fatalf("%d topics", len(ts))
			}
			wantCode(t, "new", ts[0].ErrorCode, nil)
			wantCode(t, "t", ts[1].ErrorCode, kerr.TopicAlreadyExists)
			wantCode(t, "twice", ts[2].ErrorCode, kerr.InvalidRequest)
			wantCode(t, "no/slash", ts[3].ErrorCode, kerr.InvalidTopicException)
			if v >= 5 && (ts[0].NumPartitions != 4 || len(ts[0].Configs) < 20) || v >= 7 && ts[0].TopicID != topicID(r, "new") || v >= 1 && ts[1].ErrorMessage == nil {
				t.Errorf("created %+v", ts[0])
			}
		},
	},
	20: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames = []string{"t", "none"}
			for _, id := range [][16]byte{topicID(r, "t"), {9, 9}} {
				rt := kmsg.NewDeleteTopicsRequestTopic()
				rt.TopicID = id
				req.Topics = append(req.Topics, rt)
			}
			if v < 6 {
				req.Topics = nil
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ts := resp.(*kmsg.DeleteTopicsResponse).Topics
			unknown := kerr.UnknownTopicOrPartition
			if v >= 6 {
				unknown = kerr.UnknownTopicID
			}
			wantCode(t, "t", ts[0].ErrorCode, nil)
			wantCode(t, "none", ts[1].ErrorCode, unknown)
			if _, ok := r.back.Topic("t"); ok || *ts[0].Topic != "t" {
				t.Error("topic is still there")
			}
		},
	},
	22: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.ProducerID, req.ProducerEpoch = 5, 7
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			p := resp.(*kmsg.InitProducerIDResponse)
			wantCode(t, "init", p.ErrorCode, nil)
			if p.ProducerID != 1001 || p.ProducerEpoch != 0 {
				t.Errorf("producer %d epoch %d", p.ProducerID, p.ProducerEpoch)
			}
		},
	},
	23: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = "t"
			for _, current := range []int32{3, 2, 4} {
				p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
				p.CurrentLeaderEpoch, p.LeaderEpoch = current, 3
				rt.Partitions = append(rt.Partitions, p)
			}
			req.Topics = append(req.Topics, rt)
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ps := resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions
			wantCode(t, "current", ps[0].ErrorCode, nil)
			wantCode(t, "behind", ps[1].ErrorCode, kerr.FencedLeaderEpoch)
			wantCode(t, "ahead", ps[2].ErrorCode, kerr.UnknownLeaderEpoch)
			if ps[0].LeaderEpoch != 3 || ps[0].EndOffset != 1 {
				t.Errorf("%+v", ps[0])
			}
		},
	},
	32: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDescribeConfigsRequest()
			for _, name := range []string{"t", "none"} {
				rr := kmsg.NewDescribeConfigsRequestResource()
				rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, name
				req.Resources = append(req.Resources, rr)
			}
			req.IncludeSynonyms, req.IncludeDocumentation = true, true
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			rs := resp.(*kmsg.DescribeConfigsResponse).Resources
			wantCode(t, "t", rs[0].ErrorCode, nil)
			wantCode(t, "none", rs[1].ErrorCode, kerr.UnknownTopicOrPartition)
			checkDescribed(t, v, rs[0].Configs)
		},
	},
	37: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrCreatePartitionsRequest()
			for _, name := range []string{"t", "small", "none"} {
				rt := kmsg.NewCreatePartitionsRequestTopic()
				rt.Topic, rt.Count = name, 5
				req.Topics = append(req.Topics, rt)
			}
			req.Topics[1].Topic, req.Topics[1].Count = "s", 1
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ts := resp.(*kmsg.CreatePartitionsResponse).Topics
			wantCode(t, "t", ts[0].ErrorCode, nil)
			wantCode(t, "s", ts[1].ErrorCode, kerr.InvalidPartitions)
			wantCode(t, "none", ts[2].ErrorCode, kerr.UnknownTopicOrPartition)
			if info, _ := r.back.Topic("t"); len(info.Partitions) != 5 {
				t.Errorf("%d partitions", len(info.Partitions))
			}
		},
	},
	60: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDescribeClusterRequest()
			req.EndpointType, req.IncludeFencedBrokers, req.IncludeClusterAuthorizedOperations = 1, true, true
			r.back.absent = []Broker{{ID: 3, Host: "gone", Port: 9094}}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			c := resp.(*kmsg.DescribeClusterResponse)
			wantCode(t, "cluster", c.ErrorCode, nil)
			if c.ClusterID != "mem-cluster" || len(c.Brokers) != 2+int(v/2) || c.ControllerID != 1 || *c.Brokers[0].Rack != "a" || c.Brokers[1].Rack != nil {
				t.Errorf("%+v", c)
			}
			if c.ClusterAuthorizedOperations != clusterOperations || v >= 2 && !c.Brokers[2].IsFenced {
				t.Errorf("%+v", c)
			}
		},
	},
}

// checkHint checks a KIP-951 leader hint.
func checkHint(t *testing.T, want bool, leader, epoch int32, nodes int) {
	t.Helper()
	if want && (leader != 2 || epoch != 8 || nodes != 1) || !want && (leader != -1 || nodes != 0) {
		t.Errorf("hint: leader %d, epoch %d, %d nodes", leader, epoch, nodes)
	}
}

// Every advertised version of every API is asked over a connection; the
// answer has the expected content, and is byte for byte what kmsg makes of it.
func TestEveryVersion(t *testing.T) {
	table := newRig(t, nil).srv.apis.rows
	for _, a := range table {
		c, ok := versionCases[a.key]
		if !ok {
			t.Errorf("%s is advertised and not tested", a.name)
			continue
		}
		for v := a.min; v <= a.max; v++ {
			r := newRig(t, nil)
			r.back.brokers = append(r.back.brokers, Broker{ID: 2, Host: "other", Port: 9093})
			r.back.mustCreate("t", 3)
			r.back.mustCreate("s", 1)
			r.back.setLeader("t", 1, 2, 8)
			r.back.setLeader("t", 2, 7, 8) // not live
			r.back.part("t", 0).Append(testBatch(100), func(AppendResult) {})
			client := r.dial()
			req := c.request(r, v)
			resp, body := client.receive(req, client.send(req, v))
			t.Run(a.name, func(t *testing.T) {
				c.check(t, r, v, resp)
				resp.SetVersion(v)
				if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
					t.Errorf("version %d:\n%x\nkmsg has\n%x", v, body, again)
				}
				if t.Failed() {
					t.Errorf("... at version %d", v)
				}
			})
		}
	}
}

func TestUnknownApiVersions(t *testing.T) {
	c := newRig(t, nil).dial()
	c.write(append([]byte{0, 0, 0, 14, 0, 18, 0, 99, 0, 0, 0, 7}, 0, 0, 9, 9, 9, 9))
	correlation, body := c.frame()
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(body); err != nil || correlation != 7 {
		t.Fatal(correlation, err)
	}
	wantCode(t, "version 99", resp.ErrorCode, kerr.UnsupportedVersion)
	if len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MaxVersion != 4 {
		t.Errorf("%+v", resp.ApiKeys)
	}
	// The connection goes on.
	ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 0)
}

func TestApiVersionsClientSoftware(t *testing.T) {
	for _, bad := range []string{"", "has space", "-dash", "dot."} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = bad, "1"
		resp := ask[*kmsg.ApiVersionsResponse](newRig(t, nil).dial(), req, 3)
		wantCode(t, bad, resp.ErrorCode, kerr.InvalidRequest)
	}
}
