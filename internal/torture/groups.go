package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// memberGroup is the group of all members.
const memberGroup = "torture-members"

// member consumes as a member of a group, and leaves and joins again now and then.
func (r *run) member(ctx context.Context, name string, rnd *rand.Rand) error {
	for life := 0; ctx.Err() == nil; life++ {
		if err := r.life(ctx, name, 30+rnd.IntN(100)); err != nil {
			return err
		}
	}
	return nil
}

// places are the next offsets of a member's partitions.
type places struct {
	mu   sync.Mutex
	next map[partition]int64
}

func (pl *places) drop(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for topic, list := range gone {
		for _, i := range list {
			delete(pl.next, partition{topic, i})
		}
	}
}

// life is from a member's joining to its leaving.
func (r *run) life(ctx context.Context, name string, polls int) error {
	pl := &places{next: make(map[partition]int64)}
	k, err := kgo.NewClient(append(r.options(name),
		kgo.ConsumerGroup(memberGroup), kgo.ConsumeTopics(r.topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(fetchWait), kgo.FetchMaxPartitionBytes(16<<10),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.RebalanceTimeout(10*time.Second),
		kgo.OnPartitionsRevoked(pl.drop), kgo.OnPartitionsLost(pl.drop))...)
	if err != nil {
		return err
	}
	defer k.CloseAllowingRebalance()
	for range polls {
		poll, cancel := context.WithTimeout(ctx, time.Second)
		fetches := k.PollRecords(poll, 500)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		offsets := make(map[string]map[int32]kgo.EpochOffset)
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			if len(f.Records) == 0 {
				return
			}
			p := partition{f.Topic, f.Partition}
			next := r.consumed(pl, name, p, f.Records)
			if offsets[p.topic] == nil {
				offsets[p.topic] = make(map[int32]kgo.EpochOffset)
			}
			offsets[p.topic][p.index] = kgo.EpochOffset{Epoch: -1, Offset: next}
		})
		if len(offsets) > 0 {
			r.commit(ctx, k, name, offsets)
		}
		k.AllowRebalance()
	}
	return nil
}

// consumed notes what a member was given, and where it is then.
func (r *run) consumed(pl *places, name string, p partition, records []*kgo.Record) (next int64) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	from, on := pl.next[p]
	if !on {
		from = history.FromCommitted
	}
	got := runs(records)
	id := r.hist.Begin(history.Event{Op: history.Read, Client: name, Via: history.Group, Group: memberGroup, Topic: p.topic, Partition: p.index, Offset: from})
	r.hist.End(id, history.Event{Is: history.OK, Runs: got})
	pl.next[p] = after(got, 0)
	return pl.next[p]
}

func (r *run) commit(ctx context.Context, k *kgo.Client, name string, offsets map[string]map[int32]kgo.EpochOffset) {
	ids := make(map[partition]int64)
	for topic, list := range offsets {
		for i, o := range list {
			ids[partition{topic, i}] = r.hist.Begin(history.Event{Op: history.Commit, Client: name, Group: memberGroup, Topic: topic, Partition: i, Offset: o.Offset})
		}
	}
	commit, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	k.CommitOffsetsSync(commit, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err == nil && resp != nil {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					at := partition{t.Topic, p.Partition}
					if id, ok := ids[at]; ok && p.ErrorCode == 0 {
						r.hist.End(id, history.Event{Is: history.OK})
						delete(ids, at)
					}
				}
			}
		}
		for _, id := range ids { // an earlier try of the same request may have been taken
			r.hist.End(id, history.Event{Is: history.Unknown, Text: text(err)})
		}
	})
}

// committer commits offsets of a group of its own without being a member, higher ones
// and now and then a reset, each request once, and reads them and the members' back.
func (r *run) committer(ctx context.Context, name string, rnd *rand.Rand) error {
	c, err := r.client(name)
	if err != nil {
		return err
	}
	defer c.close()
	next, coordinators := make(map[partition]int64), make(map[string]int32)
	for r.pace(ctx, rnd) {
		group := "torture-" + name
		e := history.Event{Client: name, Group: group, Topic: r.topic, Partition: int32(rnd.IntN(r.partitions))}
		p := partition{e.Topic, e.Partition}
		if rnd.IntN(3) == 0 {
			e.Op = history.Committed
			if rnd.IntN(3) == 0 {
				e.Group = memberGroup
			}
		} else {
			e.Op, e.Offset = history.Commit, next[p]+1+rnd.Int64N(10)
			if rnd.IntN(20) == 0 {
				e.Reset, e.Offset = true, rnd.Int64N(next[p]+1)
			}
		}
		coordinator, ok := coordinators[e.Group]
		if !ok {
			if coordinator, err = c.coordinator(ctx, e.Group); err != nil {
				wait(ctx, pause)
				continue
			}
			coordinators[e.Group] = coordinator
		}
		if e.Op == history.Commit {
			next[p] = e.Offset
		}
		id := r.hist.Begin(e)
		var got int64
		if e.Op == history.Commit {
			err = c.commitOnce(r.grace, coordinator, e)
		} else {
			got, err = c.committedOnce(r.grace, coordinator, e)
		}
		if err != nil {
			delete(coordinators, e.Group)
			r.hist.End(id, history.Event{Is: history.Unknown, Text: text(err)})
			wait(ctx, pause)
			continue
		}
		r.hist.End(id, history.Event{Is: history.OK, Offset: got})
	}
	return nil
}

func (c *client) coordinator(ctx context.Context, group string) (int32, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = group, []string{group}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := req.RequestWith(ctx, c.kafka)
	if err != nil {
		return 0, err
	}
	if len(resp.Coordinators) == 1 {
		return resp.Coordinators[0].NodeID, kerr.ErrorForCode(resp.Coordinators[0].ErrorCode)
	}
	return resp.NodeID, kerr.ErrorForCode(resp.ErrorCode)
}

func (c *client) commitOnce(ctx context.Context, node int32, e history.Event) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = e.Group, -1
	topic, part := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	topic.Topic, part.Partition, part.Offset = e.Topic, e.Partition, e.Offset
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := c.ask(ctx, node, req)
	if err != nil {
		return err
	}
	for _, t := range answer.(*kmsg.OffsetCommitResponse).Topics {
		for _, p := range t.Partitions {
			return kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return errors.New("an answer about nothing")
}

func (c *client) committedOnce(ctx context.Context, node int32, e history.Event) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = e.Group // up to version 7
	req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: e.Topic, Partitions: []int32{e.Partition}}}
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group, group.Topics = e.Group, []kmsg.OffsetFetchRequestGroupTopic{{Topic: e.Topic, Partitions: []int32{e.Partition}}}
	req.Groups = append(req.Groups, group)
	answer, err := c.ask(ctx, node, req)
	if err != nil {
		return 0, err
	}
	resp := answer.(*kmsg.OffsetFetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, err
	}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return 0, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				return p.Offset, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, errors.New("an answer about nothing")
}
