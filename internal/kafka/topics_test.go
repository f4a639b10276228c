package kafka

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func metadataReq(auto bool, names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = auto
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestMetadataAll(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("a", 1)
	r.back.mustCreate("b", 1)
	none := metadataReq(false)
	all := kmsg.NewPtrMetadataRequest()
	all.Topics = nil
	for v := int16(0); v <= 13; v++ {
		want := 0
		if v == 0 {
			want = 2 // an empty list meant all
		}
		if got := len(ask[*kmsg.MetadataResponse](r.dial(), none, v).Topics); got != want {
			t.Errorf("none at version %d: %d topics", v, got)
		}
		if got := len(ask[*kmsg.MetadataResponse](r.dial(), all, v).Topics); got != 2 {
			t.Errorf("all at version %d: %d topics", v, got)
		}
	}
}

func TestAutoCreate(t *testing.T) {
	for _, c := range []struct {
		name    string
		server  bool
		client  bool
		version int16
		topic   string
		fail    error
		want    *kerr.Error
	}{
		{"both want it", true, true, 9, "x", nil, nil},
		{"the client does not", true, false, 9, "x", nil, kerr.UnknownTopicOrPartition},
		{"an old client does", true, false, 3, "x", nil, nil},
		{"the server does not", false, true, 9, "x", nil, kerr.UnknownTopicOrPartition},
		{"the server does not, old client", false, false, 0, "x", nil, kerr.UnknownTopicOrPartition},
		{"invalid", true, true, 9, "x y", nil, kerr.InvalidTopicException},
		{"empty", true, true, 9, "", nil, kerr.InvalidTopicException},
		{"dots", true, true, 9, "..", nil, kerr.InvalidTopicException},
		{"internal", true, true, 9, "__consumer_offsets", nil, kerr.UnknownTopicOrPartition},
		{"can't now", true, true, 9, "x", Errorf(kerr.RequestTimedOut, "etcd is away"), kerr.LeaderNotAvailable},
		{"can't ever", true, true, 9, "x", kerr.InvalidReplicationFactor, kerr.InvalidReplicationFactor},
		{"unexpected", true, true, 9, "x", errors.New("boom"), kerr.UnknownServerError},
	} {
		r := newRig(t, func(o *Options) { o.AutoCreate = c.server })
		r.back.failWith = c.fail
		got := ask[*kmsg.MetadataResponse](r.dial(), metadataReq(c.client, c.topic), c.version).Topics[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		if _, ok := r.back.Topic(c.topic); ok != (c.want == nil) {
			t.Errorf("%s: topic exists: %v", c.name, ok)
		}
		if c.want == nil && len(got.Partitions) != 2 {
			t.Errorf("%s: %d partitions", c.name, len(got.Partitions))
		}
	}
}

// The first answer about a created topic has its leaders, if they come soon.
func TestAutoCreateWaitsForLeaders(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.CreateWait = time.Minute })
	r.back.leaderOf = func(string, int32) int32 { return -1 }
	c := r.dial()
	req := metadataReq(true, "x")
	c.send(req, 9)
	eventually(t, "topic is created", func() bool { _, ok := r.back.Topic("x"); return ok })
	r.back.setLeader("x", 0, 1, 4)
	r.back.setLeader("x", 1, 1, 4)
	resp, _ := c.receive(req, 1)
	for _, p := range resp.(*kmsg.MetadataResponse).Topics[0].Partitions {
		if p.Leader != 1 || p.ErrorCode != 0 {
			t.Errorf("%+v", p)
		}
	}
}

// If they don't, the answer says so.
func TestAutoCreateWithoutLeaders(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.CreateWait = 20 * time.Millisecond })
	r.back.leaderOf = func(string, int32) int32 { return -1 }
	got := ask[*kmsg.MetadataResponse](r.dial(), metadataReq(true, "x"), 9).Topics[0]
	wantCode(t, "topic", got.ErrorCode, nil)
	for _, p := range got.Partitions {
		wantCode(t, "partition", p.ErrorCode, kerr.LeaderNotAvailable)
	}
}

func TestMetadataByID(t *testing.T) {
	r := newRig(t, nil)
	info := r.back.mustCreate("t", 1)
	req := kmsg.NewPtrMetadataRequest()
	for _, id := range [][16]byte{info.ID, {7}} {
		rt := kmsg.NewMetadataRequestTopic()
		rt.TopicID = id
		req.Topics = append(req.Topics, rt)
	}
	got := ask[*kmsg.MetadataResponse](r.dial(), req, 12).Topics
	if *got[0].Topic != "t" {
		t.Errorf("%+v", got[0])
	}
	wantCode(t, "unknown", got[1].ErrorCode, kerr.UnknownTopicID)
}

// Without any broker in the backend's list the listener's own address is told.
func TestAdvertisedFallback(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Listeners[0].Advertised = "example.org:9092" })
	r.back.brokers = nil
	got := ask[*kmsg.MetadataResponse](r.dial(), metadataReq(false), 9)
	if len(got.Brokers) != 1 || got.Brokers[0].Host != "example.org" || got.Brokers[0].Port != 9092 || got.ControllerID != 1 {
		t.Errorf("%+v", got)
	}
}

func TestCreateTopicsChecks(t *testing.T) {
	assignment := func(parts ...[]int32) (as []kmsg.CreateTopicsRequestTopicReplicaAssignment) {
		for i, replicas := range parts {
			a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
			a.Partition, a.Replicas = int32(i), replicas
			as = append(as, a)
		}
		return as
	}
	type topic = kmsg.CreateTopicsRequestTopic
	for _, c := range []struct {
		name    string
		version int16
		change  func(*topic)
		want    *kerr.Error
		parts   int
	}{
		{"plain", 7, func(q *topic) { q.NumPartitions, q.ReplicationFactor = 3, 1 }, nil, 3},
		{"defaults", 7, func(q *topic) {}, nil, 2},
		{"defaults too early", 3, func(q *topic) {}, kerr.InvalidPartitions, 0},
		{"no partitions", 7, func(q *topic) { q.NumPartitions = 0 }, kerr.InvalidPartitions, 0},
		{"no replicas", 7, func(q *topic) { q.ReplicationFactor = 0 }, kerr.InvalidReplicationFactor, 0},
		{"assignment", 7, func(q *topic) { q.ReplicaAssignment = assignment([]int32{1, 2}, []int32{2, 1}) }, nil, 2},
		{"assignment and count", 7, func(q *topic) { q.NumPartitions = 2; q.ReplicaAssignment = assignment([]int32{1}) }, kerr.InvalidRequest, 0},
		{"replica twice", 7, func(q *topic) { q.ReplicaAssignment = assignment([]int32{1, 1}) }, kerr.InvalidReplicaAssignment, 0},
		{"uneven", 7, func(q *topic) { q.ReplicaAssignment = assignment([]int32{1}, []int32{1, 2}) }, kerr.InvalidReplicaAssignment, 0},
		{"no replica", 7, func(q *topic) { q.ReplicaAssignment = assignment([]int32{}) }, kerr.InvalidReplicaAssignment, 0},
		{"gap", 7, func(q *topic) {
			q.ReplicaAssignment = assignment([]int32{1}, []int32{1})
			q.ReplicaAssignment[1].Partition = 2
		}, kerr.InvalidReplicaAssignment, 0},
		{"bad configuration", 7, func(q *topic) {
			q.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "bad", Value: kmsg.StringPtr("1")}}
		}, kerr.InvalidConfig, 0},
		{"no value", 7, func(q *topic) { q.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "x"}} }, kerr.InvalidConfig, 0},
	} {
		for _, validate := range []bool{true, false} {
			r := newRig(t, nil)
			req := kmsg.NewPtrCreateTopicsRequest()
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "x", -1, -1
			c.change(&rt)
			req.Topics, req.ValidateOnly = append(req.Topics, rt), validate
			got := ask[*kmsg.CreateTopicsResponse](r.dial(), req, c.version).Topics[0]
			wantCode(t, c.name, got.ErrorCode, c.want)
			if (got.ErrorMessage != nil) != (c.want != nil) {
				t.Errorf("%s: message %v", c.name, got.ErrorMessage)
			}
			info, exists := r.back.Topic("x")
			if exists != (c.want == nil && !validate) || len(info.Partitions) != c.parts && exists {
				t.Errorf("%s: exists %v with %d partitions", c.name, exists, len(info.Partitions))
			}
		}
	}
}

func TestTransactionsAreRefused(t *testing.T) {
	c := newRig(t, nil).dial()
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID = kmsg.StringPtr("tx")
	for v := int16(0); v <= 5; v++ {
		wantCode(t, "init", ask[*kmsg.InitProducerIDResponse](c, init, v).ErrorCode, kerr.TransactionalIDAuthorizationFailed)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorType, find.CoordinatorKey, find.CoordinatorKeys = 1, "tx", []string{"tx"}
	wantCode(t, "find", ask[*kmsg.FindCoordinatorResponse](c, find, 3).ErrorCode, kerr.TransactionalIDAuthorizationFailed)
	wantCode(t, "find", ask[*kmsg.FindCoordinatorResponse](c, find, 6).Coordinators[0].ErrorCode, kerr.TransactionalIDAuthorizationFailed)
}
