package testcluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// __consumer_offsets that was made on one node gets its replicas when there are
// three, and what was committed outlives the first node.
func TestOffsetsTopicGrows(t *testing.T) {
	c := Start(t, 1, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 1)
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: "orders", At: 42, LeaderEpoch: -1})
	testetcd.Eventually(t, "a commit", func() bool { return adm.CommitAllOffsets(t.Context(), "g", offsets) == nil })
	view := c.metadata(t)
	view.await("the topic", func(v *cluster.View) bool { return v.Topics["__consumer_offsets"].ReplicationFactor == 1 })
	c.launch(2)
	c.launch(3)
	c.waitReady(2)
	c.waitReady(3)
	view.await("three replicas of all partitions", func(v *cluster.View) bool {
		topic := v.Topics["__consumer_offsets"]
		for p := range topic.Partitions {
			tp := cluster.TopicPartition{Topic: "__consumer_offsets", Partition: p}
			if leader, settled := leaderIn(v, tp); !settled || len(v.Assignments[tp].Replicas) != 3 || len(v.Status[leader].Lagging[tp.Topic][p]) > 0 {
				return false
			}
		}
		return topic.ReplicationFactor == 3
	})
	if n := len(view.store.View().Assignments[cluster.TopicPartition{Topic: "orders"}].Replicas); n != 1 {
		t.Errorf("another topic has %d replicas", n)
	}
	c.Stop(1)
	testetcd.Eventually(t, "the offset", func() bool {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()[1:]...))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		have, err := kadm.NewClient(client).FetchOffsets(ctx, "g")
		o, ok := have.Lookup("orders", 0)
		return err == nil && ok && o.At == 42
	})
}

// Settings of groups that are altered count at once, on every node; what is at odds
// is refused.
func TestGroupSettingsAltered(t *testing.T) {
	c := Start(t, 2, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 4)
	alter := func(changes ...kadm.AlterConfig) error {
		rs, err := adm.AlterBrokerConfigs(t.Context(), changes)
		if err != nil {
			return err
		}
		return explain(rs[0])
	}
	// join asks for a place in a group with a session timeout.
	join := func(group string, session time.Duration) error {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType = group, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(session.Milliseconds()), 10_000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", []byte{}
		req.Protocols = append(req.Protocols, p)
		resp, err := req.RequestWith(t.Context(), c.Client())
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}
	testetcd.Eventually(t, "a coordinator", func() bool { return errors.Is(join("s", 7*time.Second), kerr.MemberIDRequired) })
	if err := join("s", 3*time.Second); !errors.Is(err, kerr.InvalidSessionTimeout) {
		t.Errorf("a session of 3 s by default: %v", err)
	}
	if err := alter(change("group.min.session.timeout.ms", "1000"), change("group.max.session.timeout.ms", "5000"), change("group.max.size", "1")); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "sessions of 3 s, and none of 7 s", func() bool {
		return errors.Is(join("s", 3*time.Second), kerr.MemberIDRequired) && errors.Is(join("s", 7*time.Second), kerr.InvalidSessionTimeout)
	})
	for _, bad := range []kadm.AlterConfig{
		change("group.min.session.timeout.ms", "6000"), change("group.max.size", "0"), change("offsets.retention.minutes", "0"),
		change("group.initial.rebalance.delay.ms", "soon"), change("offsets.topic.replication.factor", "10"),
	} {
		if err := alter(bad); !errors.Is(err, kerr.InvalidConfig) {
			t.Errorf("%s=%s: %v", bad.Name, *bad.Value, err)
		}
	}
	// A full group takes nobody else.
	a := c.join(t, "a", "orders", kgo.SessionTimeout(4*time.Second), kgo.Balancers(kgo.RangeBalancer()))
	share(t, 4, a)
	if err := join("g", 4*time.Second); !errors.Is(err, kerr.GroupMaxSizeReached) {
		t.Errorf("a second member: %v", err)
	}
}
