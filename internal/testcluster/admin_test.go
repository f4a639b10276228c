package testcluster

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// detail is a topic's first partition as a client sees it.
func detail(t *testing.T, adm *kadm.Client, topic string) kadm.PartitionDetail {
	t.Helper()
	details, err := adm.ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return details[topic].Partitions[0]
}

// Records that were deleted stay so: the new leader begins where the old one
// did, and the log start never goes back.
func TestDeleteRecordsSurvivesFailover(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	adm := kadm.NewClient(client)
	ctx := t.Context()
	if _, err := adm.CreateTopic(ctx, 1, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	del := func(offset int64) kadm.DeleteRecordsResponse {
		var at kadm.Offsets
		at.Add(kadm.Offset{Topic: "t", Partition: 0, At: offset})
		rs, err := adm.DeleteRecords(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := rs.Lookup("t", 0)
		return r
	}
	if r := del(7); r.Err != nil || r.LowWatermark != 7 {
		t.Fatalf("%+v", r)
	}
	if r := del(3); r.Err != nil || r.LowWatermark != 7 {
		t.Errorf("the log start goes back: %+v", r)
	}
	if r := del(21); !errors.Is(r.Err, kerr.OffsetOutOfRange) {
		t.Errorf("beyond the end: %+v", r)
	}
	old := detail(t, adm, "t").Leader
	c.Stop(old)
	testetcd.Eventually(t, "another leader", func() bool { p := detail(t, adm, "t"); return p.Leader >= 0 && p.Leader != old })
	start := func() int64 {
		offsets, err := adm.ListStartOffsets(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		return offsets["t"][0].Offset
	}
	if got := start(); got != 7 {
		t.Errorf("the new leader begins at %d", got)
	}
	if r := del(-1); r.Err != nil || r.LowWatermark != 20 {
		t.Errorf("%+v", r)
	}
	c.Restart(old)
	c.Stop(detail(t, adm, "t").Leader)
	testetcd.Eventually(t, "a leader", func() bool { return detail(t, adm, "t").Leader >= 0 })
	if got := start(); got != 20 {
		t.Errorf("the third leader begins at %d", got)
	}
	// A topic that is compacted only keeps its records.
	if err := set(ctx, adm, "t", "cleanup.policy", "compact"); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the policy to count", func() bool {
		return errors.Is(del(20).Err, kerr.PolicyViolation) || errors.Is(del(-1).Err, kerr.PolicyViolation)
	})
}

// A reassignment ends with the wanted replicas in the wanted order, another
// number of them too; the balancer leaves it there.
func TestReassignment(t *testing.T) {
	c := Start(t, 4, nil)
	m := c.metadata(t)
	client := c.Client()
	adm := kadm.NewClient(client)
	ctx := t.Context()
	tp := cluster.TopicPartition{Topic: "t"}
	rs, err := client.Request(ctx, assigned("t", []int32{1, 2, 3}))
	if err != nil || rs.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode != 0 {
		t.Fatal(rs, err)
	}
	m.await("the placement", func(v *cluster.View) bool { return len(v.Assignments[tp].Replicas) == 3 })
	m.settled(tp)
	if got := detail(t, adm, "t").Replicas; !slices.Equal(got, []int32{1, 2, 3}) {
		t.Errorf("placed on %v", got)
	}
	all := c.writers("t", 1, 1<<10, 5*time.Millisecond)
	fresh(t, "before the move", all)
	reassign := func(replicas ...int32) error {
		var req kadm.AlterPartitionAssignmentsReq
		req.Assign("t", 0, replicas)
		rs, err := adm.AlterPartitionAssignments(ctx, req)
		if err != nil {
			return err
		}
		if r := rs["t"][0]; r.Err != nil {
			return fmt.Errorf("%w: %s", r.Err, r.ErrMessage)
		}
		return nil
	}
	if err := reassign(4, 2, 9); !errors.Is(err, kerr.InvalidReplicaAssignment) {
		t.Error("an unknown node:", err)
	}
	if err := reassign(); !errors.Is(err, kerr.NoReassignmentInProgress) {
		t.Error("nothing to cancel:", err)
	}
	for _, want := range [][]int32{{4, 2, 3}, {2, 4}, {1, 3, 4, 2}} {
		if err := reassign(want...); err != nil {
			t.Fatal(want, err)
		}
		testetcd.Eventually(t, "the reassignment to be done", func() bool {
			var s kadm.TopicsSet
			s.Add("t", 0)
			list, err := adm.ListPartitionReassignments(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			return len(list) == 0
		})
		m.settled(tp)
		testetcd.Eventually(t, "metadata to tell so", func() bool { return slices.Equal(detail(t, adm, "t").Replicas, want) })
	}
	fresh(t, "after the moves", all)
	c.finish(t, all)
}

// assigned asks for a topic on given nodes.
func assigned(topic string, replicas ...[]int32) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, -1, -1
	for i, nodes := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), nodes
		rt.ReplicaAssignment = append(rt.ReplicaAssignment, a)
	}
	req.Topics = append(req.Topics, rt)
	req.TimeoutMillis = 10_000
	return req
}

// Replicas that a client has chosen are where it wants them, new partitions' too.
func TestManualAssignment(t *testing.T) {
	c := Start(t, 3, nil)
	m := c.metadata(t)
	client := c.Client()
	ctx := t.Context()
	create := func(req *kmsg.CreateTopicsRequest) kmsg.CreateTopicsResponseTopic {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Topics[0]
	}
	if r := create(assigned("bad", []int32{1, 7})); r.ErrorCode != kerr.InvalidReplicaAssignment.Code ||
		*r.ErrorMessage != "The manual partition assignment includes broker 7, but no such broker is registered." {
		t.Errorf("%d %s", r.ErrorCode, *r.ErrorMessage)
	}
	if r := create(assigned("t", []int32{3, 1}, []int32{2, 3}, []int32{3, 2})); r.ErrorCode != 0 || r.NumPartitions != 3 || r.ReplicationFactor != 2 {
		t.Fatalf("%+v", r)
	}
	grow := kmsg.NewPtrCreatePartitionsRequest()
	gt := kmsg.NewCreatePartitionsRequestTopic()
	gt.Topic, gt.Count = "t", 5
	for _, nodes := range [][]int32{{1, 3}, {1, 2}} {
		a := kmsg.NewCreatePartitionsRequestTopicAssignment()
		a.Replicas = nodes
		gt.Assignment = append(gt.Assignment, a)
	}
	grow.Topics, grow.TimeoutMillis = append(grow.Topics, gt), 10_000
	if resp, err := grow.RequestWith(ctx, client); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	for i, want := range [][]int32{{3, 1}, {2, 3}, {3, 2}, {1, 3}, {1, 2}} {
		tp := cluster.TopicPartition{Topic: "t", Partition: int32(i)}
		a := m.await("the placement", func(v *cluster.View) bool { return len(v.Assignments[tp].Replicas) > 0 }).Assignments[tp]
		for j, r := range a.Replicas {
			if r.Node != want[j] {
				t.Errorf("partition %d: %v, want nodes %v", i, a.Replicas, want)
			}
		}
	}
}

// The preferred leader leads again once it is asked for, although the balancer
// is switched off; nothing is elected that leads already.
func TestElectPreferredLeaders(t *testing.T) {
	c := Start(t, 3, nil)
	m := c.metadata(t)
	client := c.Client()
	adm := kadm.NewClient(client)
	ctx := t.Context()
	if resp, err := assigned("t", []int32{1, 2, 3}).RequestWith(ctx, client); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	m.await("the placement", func(v *cluster.View) bool {
		return len(v.Assignments[cluster.TopicPartition{Topic: "t"}].Replicas) == 3
	})
	testetcd.Eventually(t, "node 1 to lead", func() bool { return detail(t, adm, "t").Leader == 1 })
	elect := func(how kadm.ElectLeadersHow) error {
		var s kadm.TopicsSet
		s.Add("t", 0)
		rs, err := adm.ElectLeaders(ctx, how, s)
		if err != nil {
			t.Fatal(err)
		}
		return rs["t"][0].Err
	}
	if err := elect(kadm.ElectPreferredReplica); !errors.Is(err, kerr.ElectionNotNeeded) {
		t.Error(err)
	}
	if err := elect(kadm.ElectLiveReplica); !errors.Is(err, kerr.ElectionNotNeeded) {
		t.Error(err)
	}
	if err := m.store.SetRebalance(ctx, true); err != nil {
		t.Fatal(err)
	}
	c.Stop(1)
	testetcd.Eventually(t, "another leader", func() bool { l := detail(t, adm, "t").Leader; return l == 2 || l == 3 })
	if err := elect(kadm.ElectPreferredReplica); !errors.Is(err, kerr.PreferredLeaderNotAvailable) {
		t.Error(err)
	}
	c.Restart(1)
	testetcd.Eventually(t, "the election", func() bool {
		err := elect(kadm.ElectPreferredReplica)
		if err != nil && !errors.Is(err, kerr.PreferredLeaderNotAvailable) && !errors.Is(err, kerr.RequestTimedOut) && !errors.Is(err, kerr.ElectionNotNeeded) {
			t.Fatal(err)
		}
		return err == nil || errors.Is(err, kerr.ElectionNotNeeded)
	})
	testetcd.Eventually(t, "node 1 to lead", func() bool { return detail(t, adm, "t").Leader == 1 })
}

// led waits until all partitions of a topic have leaders.
func led(t *testing.T, adm *kadm.Client, topic string) {
	t.Helper()
	testetcd.Eventually(t, "the partitions to be led", func() bool {
		ts, err := adm.ListTopics(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ts[topic].Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
		return len(ts[topic].Partitions) > 0
	})
}

// Nodes tell of their own replicas and of the producers that they know.
func TestDescribeLogDirsAndProducers(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	adm := kadm.NewClient(client)
	ctx := t.Context()
	if _, err := adm.CreateTopic(ctx, 2, 2, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: make([]byte, 5000)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	led(t, adm, "t")
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	replicas, bytes := 0, int64(0)
	dirs.Each(func(d kadm.DescribedLogDir) {
		if d.Err != nil {
			t.Error(d.Err)
		}
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			replicas++
			bytes += p.Size
		})
	})
	if replicas != 4 || bytes == 0 {
		t.Errorf("%d replicas with %d bytes", replicas, bytes)
	}
	producers, err := adm.DescribeProducers(ctx, nil)
	if err == nil {
		err = producers["t"].Partitions[0].Err
	}
	known := 0
	for _, p := range producers["t"].Partitions {
		known += len(p.ActiveProducers)
	}
	if err != nil || known != 1 {
		t.Errorf("%d producers, %v: %+v", known, err, producers)
	}
}

// A reassignment that can't go on is listed, and cancelled: the replicas are as
// they were.
func TestCancelledReassignment(t *testing.T) {
	c := Start(t, 4, nil)
	m := c.metadata(t)
	client := c.Client()
	adm := kadm.NewClient(client)
	ctx := t.Context()
	tp := cluster.TopicPartition{Topic: "t"}
	if resp, err := assigned("t", []int32{1, 2, 3}).RequestWith(ctx, client); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	m.await("the placement", func(v *cluster.View) bool { return len(v.Assignments[tp].Replicas) == 3 })
	m.settled(tp)
	for _, other := range []int32{1, 2, 3} {
		c.Network.Cut(4, other)
	}
	var s kadm.TopicsSet
	s.Add("t", 0)
	ask := func(replicas []int32) error {
		var req kadm.AlterPartitionAssignmentsReq
		req.Assign("t", 0, replicas)
		rs, err := adm.AlterPartitionAssignments(ctx, req)
		if err != nil {
			return err
		}
		return rs["t"][0].Err
	}
	list := func() kadm.ListPartitionReassignmentsResponses {
		list, err := adm.ListPartitionReassignments(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if err := ask([]int32{4, 2, 3}); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the reassignment to be listed", func() bool {
		got := list()["t"][0]
		return slices.Equal(got.AddingReplicas, []int32{4}) && slices.Equal(got.RemovingReplicas, []int32{1}) && slices.Equal(got.Replicas, []int32{4, 2, 3, 1})
	})
	testetcd.Eventually(t, "it to have begun", func() bool { return len(m.store.View().Assignments[tp].Former) > 0 })
	testetcd.Eventually(t, "metadata to tell the old replicas and the new one", func() bool {
		p := detail(t, adm, "t")
		return slices.Equal(p.Replicas, []int32{4, 2, 3, 1}) && !slices.Contains(p.ISR, 4)
	})
	if err := ask(nil); err != nil {
		t.Fatal(err)
	}
	m.await("the former replicas", func(v *cluster.View) bool {
		a := v.Assignments[tp]
		return len(a.Replicas) == 3 && a.Replicas[0].Node == 1 && a.Generation > 2
	})
	if err := ask(nil); !errors.Is(err, kerr.NoReassignmentInProgress) {
		t.Error(err)
	}
	if len(list()) != 0 {
		t.Errorf("%v", list())
	}
}
