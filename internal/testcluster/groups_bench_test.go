package testcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// withGroups makes groups that have committed an offset of a topic.
func withGroups(b *testing.B, c *Cluster, n int, topic string) []string {
	b.Helper()
	adm := kadm.NewClient(c.Client())
	names := make([]string, n)
	slots := make(chan struct{}, 32)
	var wg sync.WaitGroup
	for i := range names {
		names[i] = fmt.Sprintf("group-%04d", i)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var at kadm.Offsets
			at.Add(kadm.Offset{Topic: topic, At: int64(i), LeaderEpoch: -1})
			if err := adm.CommitAllOffsets(b.Context(), names[i], at); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	return names
}

// BenchmarkGroups asks a coordinator that has 1,000 groups with committed offsets
// about them.
func BenchmarkGroups(b *testing.B) {
	c, topics := withTopics(b, 1)
	names := withGroups(b, c, 1000, topics[0])
	client := c.Client()
	list := kmsg.NewPtrListGroupsRequest()
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = names
	one := kmsg.NewPtrDescribeGroupsRequest()
	one.Groups = names[7:8]
	broker := client.Broker(1)
	for _, c := range []struct {
		name string
		req  kmsg.Request
	}{{"List", list}, {"Describe/all", describe}, {"Describe/one", one}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := broker.Request(b.Context(), c.req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// rawMember is one of a group whose requests are made by hand.
type rawMember struct {
	broker     *kgo.Broker
	id         string
	generation int32
	leads      bool
}

// rejoin is a member's part in a rebalance: it joins, and the leader hands each
// member its share of the topics.
func (m *rawMember) rejoin(ctx context.Context, subscription, share []byte) error {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.ProtocolType = "busy", m.id, "consumer"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 45_000, 60_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", subscription
	join.Protocols = append(join.Protocols, protocol)
	joined, err := join.RequestWith(ctx, m.broker)
	if err == nil && joined.ErrorCode == kerr.MemberIDRequired.Code {
		join.MemberID = joined.MemberID
		joined, err = join.RequestWith(ctx, m.broker)
	}
	if err == nil {
		err = kerr.ErrorForCode(joined.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	m.id, m.generation, m.leads = joined.MemberID, joined.Generation, joined.LeaderID == joined.MemberID
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "busy", m.id, m.generation
	sync.ProtocolType, sync.Protocol = joined.ProtocolType, joined.Protocol
	for _, other := range joined.Members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = other.MemberID, share
		sync.GroupAssignment = append(sync.GroupAssignment, a)
	}
	synced, err := sync.RequestWith(ctx, m.broker)
	if err == nil {
		err = kerr.ErrorForCode(synced.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// told waits until a heartbeat says that there is a rebalance.
func (m *rawMember) told(ctx context.Context) error {
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "busy", m.id, m.generation
	for {
		resp, err := beat.RequestWith(ctx, m.broker)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if errors.Is(err, kerr.RebalanceInProgress) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
	}
}

// BenchmarkRebalance is a whole rebalance of ten members that subscribe to 2,000
// topics, by a coordinator with 1,000 other groups: the leader joins again, the
// others hear of it by their heartbeats, all have their shares.
func BenchmarkRebalance(b *testing.B) {
	c, topics := withTopics(b, 2000)
	withGroups(b, c, 1000, topics[0])
	var members [10]rawMember
	subscription := kmsg.ConsumerMemberMetadata{Version: 1, Topics: topics}
	var share kmsg.ConsumerMemberAssignment
	for _, topic := range topics[:len(topics)/len(members)] {
		share.Topics = append(share.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: topic, Partitions: []int32{0}})
	}
	wants, gets := subscription.AppendTo(nil), share.AppendTo(nil)
	rebalance := func(members []rawMember, begins func(*rawMember) bool) {
		var wg sync.WaitGroup
		for i := range members {
			m, first := &members[i], begins(&members[i])
			wg.Go(func() {
				var err error
				if !first {
					err = m.told(b.Context())
				}
				if err == nil {
					err = m.rejoin(b.Context(), wants, gets)
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		if b.Failed() {
			b.FailNow()
		}
	}
	for i := range members {
		members[i].broker = c.Client().Broker(1)
		rebalance(members[:i+1], func(m *rawMember) bool { return m.id == "" })
	}
	b.ReportAllocs()
	for b.Loop() {
		rebalance(members[:], func(m *rawMember) bool { return m.leads })
	}
}
