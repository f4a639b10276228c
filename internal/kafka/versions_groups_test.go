package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A group of one member, made by requests of one version each.

// joined makes the client's connection a member of a group that is stable.
func joined(r *rig, name string) (member string, generation int32) {
	c := r.dial()
	j := kmsg.NewPtrJoinGroupRequest()
	j.Group, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis, j.ProtocolType = name, 10_000, 10_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", subscription("s")
	j.Protocols = append(j.Protocols, p)
	resp := ask[*kmsg.JoinGroupResponse](c, j, 3)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = name, resp.MemberID, resp.Generation
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = resp.MemberID, []byte("assigned")
	sync.GroupAssignment = append(sync.GroupAssignment, a)
	ask[*kmsg.SyncGroupResponse](c, sync, 2)
	return resp.MemberID, resp.Generation
}

func subscription(topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = topics
	return m.AppendTo(nil)
}

// withOffset has a group commit an offset from outside.
func withOffset(r *rig, name, topic string, offset int64) {
	ask[*kmsg.OffsetCommitResponse](r.dial(), commitOf(r, 9, name, topic, offset, 0), 9)
}

func commitOf(r *rig, v int16, name, topic string, offset int64, partitions ...int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = name, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	if v >= 10 {
		t.TopicID = topicID(r, topic)
	}
	for _, index := range partitions {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = index, offset, 3, kmsg.StringPtr("note")
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

var groupCases = map[int16]versionCase{
	8: {
		func(r *rig, v int16) kmsg.Request {
			req := commitOf(r, v, "g", "t", 42, 0, 99)
			gone := kmsg.NewOffsetCommitRequestTopic()
			gone.Topic, gone.TopicID = "gone", [16]byte{9}
			gone.Partitions = append(gone.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
			req.Topics = append(req.Topics, gone)
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			ts := resp.(*kmsg.OffsetCommitResponse).Topics
			wantCode(t, "t/0", ts[0].Partitions[0].ErrorCode, nil)
			wantCode(t, "t/99", ts[0].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
			unknown := kerr.UnknownTopicOrPartition
			if v >= 10 {
				unknown = kerr.UnknownTopicID
				if ts[0].TopicID != topicID(r, "t") || ts[1].TopicID != [16]byte{9} {
					t.Error("another topic")
				}
			} else if ts[0].Topic != "t" || ts[1].Topic != "gone" {
				t.Error("another topic")
			}
			wantCode(t, "gone", ts[1].Partitions[0].ErrorCode, unknown)
			f := kmsg.NewPtrOffsetFetchRequest()
			f.Group = "g"
			got := ask[*kmsg.OffsetFetchResponse](r.dial(), f, 7)
			if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 || got.Topics[0].Partitions[0].Offset != 42 {
				t.Errorf("committed %+v", got.Topics)
			}
		},
	},
	9: {
		func(r *rig, v int16) kmsg.Request {
			withOffset(r, "g", "t", 42)
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group = "g"
			rt := kmsg.NewOffsetFetchRequestTopic()
			rt.Topic, rt.Partitions = "t", []int32{0, 1}
			req.Topics = append(req.Topics, rt)
			for _, name := range []string{"g", "h", "g"} {
				g := kmsg.NewOffsetFetchRequestGroup()
				g.Group = name
				gt := kmsg.NewOffsetFetchRequestGroupTopic()
				gt.Topic, gt.TopicID, gt.Partitions = "t", topicID(r, "t"), []int32{0, 1}
				g.Topics = append(g.Topics, gt)
				req.Groups = append(req.Groups, g)
			}
			req.Groups[2].Topics = nil // all
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			f := resp.(*kmsg.OffsetFetchResponse)
			if v < 8 {
				wantCode(t, "group", f.ErrorCode, nil)
				ps := f.Topics[0].Partitions
				if ps[0].Offset != 42 || *ps[0].Metadata != "note" || v >= 5 && ps[0].LeaderEpoch != 3 || ps[1].Offset != -1 || ps[1].ErrorCode != 0 {
					t.Errorf("offsets %+v", ps)
				}
				return
			}
			if len(f.Groups) != 3 || f.Groups[1].Group != "h" {
				t.Fatalf("groups %+v", f.Groups)
			}
			for i, want := range []int64{42, -1, 42} {
				gt := f.Groups[i].Topics[0]
				wantCode(t, f.Groups[i].Group, f.Groups[i].ErrorCode, nil)
				if gt.Partitions[0].Offset != want {
					t.Errorf("group %d: offset %d, want %d", i, gt.Partitions[0].Offset, want)
				}
				if v >= 10 && gt.TopicID != topicID(r, "t") || v < 10 && gt.Topic != "t" {
					t.Errorf("group %d: topic %q %x", i, gt.Topic, gt.TopicID)
				}
			}
			if len(f.Groups[2].Topics[0].Partitions) != 1 {
				t.Errorf("all offsets %+v", f.Groups[2].Topics)
			}
		},
	},
	11: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "g", 10_000, 10_000, "consumer"
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name, p.Metadata = "range", subscription("t")
			req.Protocols = append(req.Protocols, p)
			if v >= 5 {
				req.InstanceID = kmsg.StringPtr("i")
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			j := resp.(*kmsg.JoinGroupResponse)
			if v == 4 {
				wantCode(t, "join", j.ErrorCode, kerr.MemberIDRequired)
				return
			}
			wantCode(t, "join", j.ErrorCode, nil)
			if j.Generation != 1 || *j.Protocol != "range" || j.LeaderID != j.MemberID || len(j.Members) != 1 {
				t.Errorf("joined %+v", j)
			}
			if string(j.Members[0].ProtocolMetadata) != string(subscription("t")) {
				t.Errorf("metadata %q", j.Members[0].ProtocolMetadata)
			}
		},
	},
	12: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Group = "g"
			req.MemberID, req.Generation = joined(r, "g")
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			wantCode(t, "heartbeat", resp.(*kmsg.HeartbeatResponse).ErrorCode, nil)
		},
	},
	13: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrLeaveGroupRequest()
			req.Group = "g"
			req.MemberID, _ = joined(r, "g")
			for _, id := range []string{req.MemberID, "nobody"} {
				m := kmsg.NewLeaveGroupRequestMember()
				m.MemberID = id
				req.Members = append(req.Members, m)
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			l := resp.(*kmsg.LeaveGroupResponse)
			wantCode(t, "leave", l.ErrorCode, nil)
			if v >= 3 {
				wantCode(t, "member", l.Members[0].ErrorCode, nil)
				wantCode(t, "nobody", l.Members[1].ErrorCode, kerr.UnknownMemberID)
			}
		},
	},
	14: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrSyncGroupRequest()
			req.Group = "g"
			req.MemberID, req.Generation = joined(r, "g")
			req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			s := resp.(*kmsg.SyncGroupResponse)
			wantCode(t, "sync", s.ErrorCode, nil)
			if string(s.MemberAssignment) != "assigned" {
				t.Errorf("assignment %q", s.MemberAssignment)
			}
		},
	},
	15: {
		func(r *rig, v int16) kmsg.Request {
			req := kmsg.NewPtrDescribeGroupsRequest()
			joined(r, "g")
			req.Groups = []string{"g", "none"}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			gs := resp.(*kmsg.DescribeGroupsResponse).Groups
			wantCode(t, "g", gs[0].ErrorCode, nil)
			if gs[0].State != "Stable" || gs[0].Protocol != "range" || len(gs[0].Members) != 1 || gs[0].Members[0].ClientHost != "/127.0.0.1" || gs[0].Members[0].ClientID != "raw" {
				t.Errorf("group %+v", gs[0])
			}
			if gs[1].Group != "none" || gs[1].State != "Dead" {
				t.Errorf("no group %+v", gs[1])
			}
			if v >= 6 {
				wantCode(t, "none", gs[1].ErrorCode, kerr.GroupIDNotFound)
			}
		},
	},
	16: {
		func(r *rig, v int16) kmsg.Request {
			joined(r, "g")
			withOffset(r, "h", "t", 1)
			req := kmsg.NewPtrListGroupsRequest()
			if v >= 4 {
				req.StatesFilter = []string{"Stable"}
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			l := resp.(*kmsg.ListGroupsResponse)
			wantCode(t, "list", l.ErrorCode, nil)
			if want := 2; v < 4 && len(l.Groups) != want || v >= 4 && len(l.Groups) != 1 {
				t.Errorf("groups %+v", l.Groups)
			}
			for _, g := range l.Groups {
				if v >= 4 && g.GroupState != "Stable" || v >= 5 && g.GroupType != "classic" {
					t.Errorf("group %+v", g)
				}
			}
		},
	},
	42: {
		func(r *rig, v int16) kmsg.Request {
			joined(r, "g")
			withOffset(r, "h", "t", 1)
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{"g", "h", "none"}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			gs := resp.(*kmsg.DeleteGroupsResponse).Groups
			wantCode(t, "g", gs[0].ErrorCode, kerr.NonEmptyGroup)
			wantCode(t, "h", gs[1].ErrorCode, nil)
			wantCode(t, "none", gs[2].ErrorCode, kerr.GroupIDNotFound)
		},
	},
	47: {
		func(r *rig, v int16) kmsg.Request {
			withOffset(r, "h", "t", 1)
			req := kmsg.NewPtrOffsetDeleteRequest()
			req.Group = "h"
			for _, name := range []string{"t", "gone"} {
				rt := kmsg.NewOffsetDeleteRequestTopic()
				rt.Topic = name
				rt.Partitions = append(rt.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
				req.Topics = append(req.Topics, rt)
			}
			return req
		},
		func(t *testing.T, r *rig, v int16, resp kmsg.Response) {
			d := resp.(*kmsg.OffsetDeleteResponse)
			wantCode(t, "delete", d.ErrorCode, nil)
			wantCode(t, "t", d.Topics[0].Partitions[0].ErrorCode, nil)
			wantCode(t, "gone", d.Topics[1].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
		},
	},
}

// What has no coordinator here is told so in every version, where the version
// has room for it.
func TestNotCoordinator(t *testing.T) {
	codes := func(resp kmsg.Response) []int16 {
		switch r := resp.(type) {
		case *kmsg.OffsetCommitResponse:
			return []int16{r.Topics[0].Partitions[0].ErrorCode}
		case *kmsg.OffsetFetchResponse:
			switch {
			case r.Version >= 8:
				return []int16{r.Groups[0].ErrorCode, r.Groups[1].ErrorCode}
			case r.Version >= 2:
				return []int16{r.ErrorCode}
			}
			return []int16{r.Topics[0].Partitions[0].ErrorCode}
		case *kmsg.JoinGroupResponse:
			return []int16{r.ErrorCode}
		case *kmsg.HeartbeatResponse:
			return []int16{r.ErrorCode}
		case *kmsg.LeaveGroupResponse:
			return []int16{r.ErrorCode}
		case *kmsg.SyncGroupResponse:
			return []int16{r.ErrorCode}
		case *kmsg.DescribeGroupsResponse:
			return []int16{r.Groups[0].ErrorCode, r.Groups[1].ErrorCode}
		case *kmsg.ListGroupsResponse:
			return []int16{r.ErrorCode}
		case *kmsg.DeleteGroupsResponse:
			return []int16{r.Groups[0].ErrorCode}
		case *kmsg.OffsetDeleteResponse:
			return []int16{r.ErrorCode}
		}
		t.Fatalf("%T", resp)
		return nil
	}
	for key, c := range groupCases {
		a := newRig(t, nil).srv.apis.find(key)
		for v := a.min; v <= a.max; v++ {
			r := newRig(t, nil)
			r.back.mustCreate("t", 3)
			r.back.mustCreate("s", 1)
			req := c.request(r, v)
			r.back.memGroups.set(kerr.NotCoordinator)
			for _, code := range codes(ask[kmsg.Response](r.dial(), req, v)) {
				wantCode(t, a.name, code, kerr.NotCoordinator)
			}
		}
	}
}

// A request that its coordinator keeps holds up neither its connection's reader
// nor, once that is closed, the server.
func TestWaitingJoin(t *testing.T) {
	r := newRig(t, nil)
	joined(r, "g")
	c := r.dial()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = "g", 10_000, 10_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", subscription("s")
	join.Protocols = append(join.Protocols, p)
	first := c.send(join, 3) // waits for the other member to join again
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID = "other", "m"
	second := c.send(beat, 3)
	eventually(t, "the second request is with the coordinator", func() bool {
		r.back.memGroups.mu.Lock()
		defer r.back.memGroups.mu.Unlock()
		n := len(r.back.memGroups.requests)
		return n > 0 && r.back.memGroups.requests[n-1].group == "other"
	})
	r.back.memGroups.pass(11_000_000_000) // the other member's time is over
	resp, _ := c.receive(join, first)
	wantCode(t, "join", resp.(*kmsg.JoinGroupResponse).ErrorCode, nil)
	resp, _ = c.receive(beat, second)
	wantCode(t, "heartbeat", resp.(*kmsg.HeartbeatResponse).ErrorCode, kerr.UnknownMemberID)
}

// Clients can read the topics of the system, and nothing else.
func TestInternalTopics(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("__consumer_offsets", 1)
	c := r.dial()
	pr := ask[*kmsg.ProduceResponse](c, produceReq("__consumer_offsets", [16]byte{}, 0, -1, testBatch(10)), 9)
	wantCode(t, "produce", pr.Topics[0].Partitions[0].ErrorCode, kerr.InvalidTopicException)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TopicNames = []string{"__consumer_offsets"}
	wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](c, del, 5).Topics[0].ErrorCode, kerr.InvalidTopicException)
	grow := kmsg.NewPtrCreatePartitionsRequest()
	gt := kmsg.NewCreatePartitionsRequestTopic()
	gt.Topic, gt.Count = "__consumer_offsets", 5
	grow.Topics = append(grow.Topics, gt)
	wantCode(t, "grow", ask[*kmsg.CreatePartitionsResponse](c, grow, 3).Topics[0].ErrorCode, kerr.InvalidTopicException)
	mk := kmsg.NewPtrCreateTopicsRequest()
	mt := kmsg.NewCreateTopicsRequestTopic()
	mt.Topic, mt.NumPartitions, mt.ReplicationFactor = "__transaction_state", 1, 1
	mk.Topics = append(mk.Topics, mt)
	wantCode(t, "create", ask[*kmsg.CreateTopicsResponse](c, mk, 5).Topics[0].ErrorCode, kerr.InvalidTopicException)
	f := ask[*kmsg.FetchResponse](c, fetchReq("__consumer_offsets", [16]byte{}, 0, 0), 11)
	wantCode(t, "fetch", f.Topics[0].Partitions[0].ErrorCode, nil)
}

func TestFindNoCoordinator(t *testing.T) {
	for name, test := range map[string]struct {
		node int32
		kind int8
		want *kerr.Error
	}{
		"no leader":       {0, 0, kerr.CoordinatorNotAvailable},
		"dead leader":     {9, 0, kerr.CoordinatorNotAvailable},
		"transactions":    {1, 1, kerr.TransactionalIDAuthorizationFailed},
		"of another kind": {1, 7, kerr.InvalidRequest},
	} {
		r := newRig(t, nil)
		r.back.memGroups.node = test.node
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorType = "g", test.kind
		resp := ask[*kmsg.FindCoordinatorResponse](r.dial(), req, 2)
		wantCode(t, name, resp.ErrorCode, test.want)
		if resp.ErrorMessage == nil || resp.NodeID != -1 {
			t.Errorf("%s: %+v", name, resp)
		}
	}
}
