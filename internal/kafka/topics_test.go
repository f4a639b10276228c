package kafka

import (
	"errors"
	"fmt"
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

// The request that has a topic created does not tell of it, as in Kafka; the next
// one does.
func TestAutoCreate(t *testing.T) {
	for _, c := range []struct {
		name    string
		server  bool
		client  bool
		version int16
		topic   string
		want    *kerr.Error
		made    bool
	}{
		{"both want it", true, true, 9, "x", kerr.UnknownTopicOrPartition, true},
		{"the client does not", true, false, 9, "x", kerr.UnknownTopicOrPartition, false},
		{"an old client does", true, false, 3, "x", kerr.UnknownTopicOrPartition, true},
		{"the server does not", false, true, 9, "x", kerr.UnknownTopicOrPartition, false},
		{"the server does not, old client", false, false, 0, "x", kerr.UnknownTopicOrPartition, false},
		{"invalid", true, true, 9, "x y", kerr.InvalidTopicException, false},
		{"empty", true, true, 9, "", kerr.InvalidTopicException, false},
		{"dots", true, true, 9, "..", kerr.InvalidTopicException, false},
		{"internal", true, true, 9, "__consumer_offsets", kerr.UnknownTopicOrPartition, false},
	} {
		r := newRig(t, nil)
		r.back.setDefaults(Defaults{AutoCreate: c.server, Partitions: 2, ReplicationFactor: 1})
		client := r.dial()
		got := ask[*kmsg.MetadataResponse](client, metadataReq(c.client, c.topic), c.version).Topics[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		if len(got.Partitions) > 0 {
			t.Errorf("%s: told of %d partitions", c.name, len(got.Partitions))
		}
		if !c.made {
			if _, ok := r.back.Topic(c.topic); ok {
				t.Errorf("%s: the topic exists", c.name)
			}
			continue
		}
		eventually(t, c.name, func() bool { _, ok := r.back.Topic(c.topic); return ok })
		again := ask[*kmsg.MetadataResponse](client, metadataReq(c.client, c.topic), c.version).Topics[0]
		wantCode(t, c.name, again.ErrorCode, nil)
		if len(again.Partitions) != 2 {
			t.Errorf("%s: %d partitions", c.name, len(again.Partitions))
		}
	}
}

// A client that asks for a topic while it is being created waits for it, or is
// told why there is none.
func TestAutoCreateUnderWay(t *testing.T) {
	for _, c := range []struct {
		name string
		fail error
		want *kerr.Error
	}{
		{"created", nil, nil},
		{"can't now", Errorf(kerr.RequestTimedOut, "etcd is away"), kerr.LeaderNotAvailable},
		{"can't ever", kerr.InvalidReplicationFactor, kerr.InvalidReplicationFactor},
		{"unexpected", errors.New("boom"), kerr.UnknownServerError},
	} {
		r := newRig(t, func(o *Options) { o.Limits.CreateWait = time.Minute })
		release := r.back.holdCreations()
		one, other := r.dial(), r.dial()
		wantCode(t, c.name, ask[*kmsg.MetadataResponse](one, metadataReq(true, "x"), 9).Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
		req := metadataReq(true, "x")
		other.send(req, 9)
		r.back.fail(c.fail)
		release()
		resp, _ := other.receive(req, 1)
		got := resp.(*kmsg.MetadataResponse).Topics[0]
		if c.fail != nil && got.ErrorCode == kerr.UnknownTopicOrPartition.Code {
			continue // it came when the first one had failed, and began another
		}
		wantCode(t, c.name, got.ErrorCode, c.want)
		for _, p := range got.Partitions {
			if p.Leader != 1 || p.ErrorCode != 0 {
				t.Errorf("%s: %+v", c.name, p)
			}
		}
	}
}

// If the leaders don't come, the answer says so.
func TestAutoCreateWithoutLeaders(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.CreateWait = 20 * time.Millisecond })
	r.back.leaderOf = func(string, int32) int32 { return -1 }
	client := r.dial()
	ask[*kmsg.MetadataResponse](client, metadataReq(true, "x"), 9)
	eventually(t, "topic is created", func() bool { _, ok := r.back.Topic("x"); return ok })
	got := ask[*kmsg.MetadataResponse](client, metadataReq(true, "x"), 9).Topics[0]
	wantCode(t, "topic", got.ErrorCode, nil)
	for _, p := range got.Partitions {
		wantCode(t, "partition", p.ErrorCode, kerr.LeaderNotAvailable)
	}
}

// A topic that was deleted does not come back in the answer to who looks whether
// it is gone, though a client of old times has it created by that.
func TestDeletedTopicIsNotTold(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("x", 1)
	client := r.dial()
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TopicNames = []string{"x"}
	wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](client, gone, 1).Topics[0].ErrorCode, nil)
	got := ask[*kmsg.MetadataResponse](client, metadataReq(true, "x"), 1).Topics[0]
	wantCode(t, "metadata", got.ErrorCode, kerr.UnknownTopicOrPartition)
	if len(got.Partitions) > 0 {
		t.Errorf("%d partitions", len(got.Partitions))
	}
}

// Creations are bounded, and end with the server.
func TestAutoCreateBounds(t *testing.T) {
	r := newRig(t, nil)
	release := r.back.holdCreations()
	var names []string
	for i := range maxAutoCreate + 20 {
		names = append(names, fmt.Sprint("x", i))
	}
	client := r.dial()
	for _, topic := range ask[*kmsg.MetadataResponse](client, metadataReq(true, names...), 9).Topics {
		wantCode(t, *topic.Topic, topic.ErrorCode, kerr.UnknownTopicOrPartition)
	}
	release()
	eventually(t, "topics are created", func() bool { return len(r.back.Topics()) == maxAutoCreate })
	r.back.holdCreations() // for ever
	ask[*kmsg.MetadataResponse](client, metadataReq(true, "y"), 9)
}

// Creating topics and partitions is answered when their leaders are there, or
// when that takes long; what is only validated has none.
func TestCreateWaitsForLeaders(t *testing.T) {
	create := kmsg.NewPtrCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = "x", 1, 1
	create.Topics = append(create.Topics, one)
	grow := kmsg.NewPtrCreatePartitionsRequest()
	two := kmsg.NewCreatePartitionsRequestTopic()
	two.Topic, two.Count = "x", 2
	grow.Topics = append(grow.Topics, two)

	r := newRig(t, func(o *Options) { o.Limits.CreateWait = time.Minute })
	r.back.leaderOf = func(string, int32) int32 { return -1 }
	c := r.dial()
	create.ValidateOnly = true
	wantCode(t, "validate", ask[*kmsg.CreateTopicsResponse](c, create, 5).Topics[0].ErrorCode, nil)
	create.ValidateOnly = false
	for i, req := range []kmsg.Request{create, grow} {
		c.send(req, 2)
		eventually(t, "partition is created", func() bool {
			info, _ := r.back.Topic("x")
			return len(info.Partitions) == i+1
		})
		answered := make(chan struct{})
		go func() { defer close(answered); c.receive(req, int32(i+2)) }()
		select {
		case <-answered:
			t.Errorf("request %d is answered before there is a leader", i)
		case <-time.After(20 * time.Millisecond):
		}
		r.back.setLeader("x", int32(i), 1, 4)
		<-answered
	}

	r = newRig(t, func(o *Options) { o.Limits.CreateWait = 20 * time.Millisecond })
	r.back.leaderOf = func(string, int32) int32 { return -1 }
	wantCode(t, "no leader", ask[*kmsg.CreateTopicsResponse](r.dial(), create, 5).Topics[0].ErrorCode, nil)
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
		{"defaults, early", 3, func(q *topic) {}, nil, 2},
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
