package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// fetched is what a replica answered.
type fetched struct {
	runs        []history.Run
	start, high int64
	out         bool
}

const fetchWait = 200 * time.Millisecond

// fetch reads a partition from an offset, from its leader or another replica.
func (c *client) fetch(ctx context.Context, p partition, l leadership, node int32, offset int64, bytes int32) (got fetched, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch, req.MinBytes, req.MaxBytes, req.MaxWaitMillis, req.Rack = -1, -1, 1, bytes, int32(fetchWait.Milliseconds()), c.racks[node]
	topic, part := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes, part.CurrentLeaderEpoch = p.index, offset, bytes, l.epoch
	topic.Topic, topic.Partitions = p.topic, append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := c.ask(ctx, node, req)
	if err != nil {
		return got, err
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return got, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return got, errors.New("an answer about other partitions")
	}
	raw := resp.Topics[0].Partitions[0]
	if raw.ErrorCode == kerr.OffsetOutOfRange.Code {
		return fetched{out: true}, nil
	}
	if err := kerr.ErrorForCode(raw.ErrorCode); err != nil {
		return got, err
	}
	batches, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: p.topic, Partition: p.index}, &raw, kgo.DefaultDecompressor(), nil)
	if batches.Err != nil {
		return got, batches.Err
	}
	return fetched{runs: runs(batches.Records), start: raw.LogStartOffset, high: raw.HighWatermark}, nil
}

// runs puts records at consecutive offsets together.
func runs(records []*kgo.Record) (all []history.Run) {
	next := int64(-1)
	for _, r := range records {
		if n := len(all); n == 0 || r.Offset != next || r.LeaderEpoch != all[n-1].Epoch {
			all = append(all, history.Run{At: r.Offset, Epoch: r.LeaderEpoch})
		}
		last := &all[len(all)-1]
		last.Records = append(last.Records, recordOf(r.Value))
		next = r.Offset + 1
	}
	return all
}

// after is the offset behind runs.
func after(runs []history.Run, otherwise int64) int64 {
	if len(runs) == 0 {
		return otherwise
	}
	last := runs[len(runs)-1]
	return last.At + int64(len(last.Records))
}

// read is a fetch with its place in the history. It returns the next offset; -1: begin anew.
func (c *client) read(ctx context.Context, p partition, via history.Via, node int32, offset int64, bytes int32) (next int64, got fetched, err error) {
	l, err := c.leader(ctx, p)
	if err != nil {
		return offset, got, err
	}
	e := history.Event{Op: history.Read, Client: c.name, Topic: p.topic, Partition: p.index, Via: via, Offset: offset, Term: int64(l.epoch)}
	if via != history.Follower {
		node = l.node
	} else {
		e.Node = node
	}
	id := c.hist.Begin(e)
	got, err = c.fetch(ctx, p, l, node, offset, bytes)
	if err != nil {
		c.forget(p)
		c.hist.End(id, history.Event{Is: history.Failed, Text: text(err)})
		return offset, got, err
	}
	c.hist.End(id, history.Event{Is: history.OK, Runs: got.runs, Start: got.start, High: got.high, Out: got.out})
	if got.out {
		return -1, got, nil
	}
	return after(got.runs, offset), got, nil
}

// position asks where a reading shall begin, in the history too.
func (c *client) position(ctx context.Context, p partition, rnd *rand.Rand, began time.Time) (int64, error) {
	l, err := c.leader(ctx, p)
	if err != nil {
		return 0, err
	}
	at := history.Event{Client: c.name, Topic: p.topic, Partition: p.index, Term: int64(l.epoch)}
	if rnd.IntN(3) == 0 {
		at.Op = history.ForTime
		at.Millis = began.UnixMilli() + rnd.Int64N(time.Since(began).Milliseconds()+1)
		id := c.hist.Begin(at)
		offset, err := c.offset(ctx, p, at.Millis)
		if err != nil {
			c.hist.End(id, history.Event{Is: history.Failed, Text: text(err)})
			return 0, err
		}
		c.hist.End(id, history.Event{Is: history.OK, Offset: offset})
		if offset >= 0 {
			return offset, nil
		}
	}
	start, high, err := c.bounds(ctx, p)
	if err != nil || rnd.IntN(2) == 0 {
		return start, err
	}
	return high, nil
}

// bounds asks the leader for log start and high watermark.
func (c *client) bounds(ctx context.Context, p partition) (start, high int64, err error) {
	l, err := c.leader(ctx, p)
	if err != nil {
		return 0, 0, err
	}
	id := c.hist.Begin(history.Event{Op: history.Bounds, Client: c.name, Topic: p.topic, Partition: p.index, Term: int64(l.epoch)})
	if start, err = c.offset(ctx, p, earliest); err == nil {
		if high, err = c.offset(ctx, p, latest); err == nil && c.leaders[p].epoch != l.epoch {
			err = errors.New("another leader answered the second question")
		}
	}
	if err != nil {
		c.hist.End(id, history.Event{Is: history.Failed, Text: text(err)})
		return 0, 0, err
	}
	c.hist.End(id, history.Event{Is: history.OK, Start: start, High: high})
	return start, high, nil
}

// reader reads from the start, from a time or from the end on, from leaders or from
// followers, for a while, and begins anew elsewhere.
func (r *run) reader(ctx context.Context, name string, rnd *rand.Rand) error {
	c, err := r.client(name)
	if err != nil {
		return err
	}
	defer c.close()
	for ctx.Err() == nil {
		p := r.pick(rnd)
		next, err := c.position(ctx, p, rnd, r.began)
		if err != nil {
			wait(ctx, pause)
			continue
		}
		via, node := history.Leader, int32(0)
		if l := c.leaders[p]; len(l.replicas) > 0 && rnd.IntN(3) == 0 {
			via, node = history.Follower, l.replicas[rnd.IntN(len(l.replicas))]
		}
		bytes := int32(256) << rnd.IntN(10)
		for range 5 + rnd.IntN(40) {
			if next, _, err = c.read(ctx, p, via, node, next, bytes); next < 0 || ctx.Err() != nil {
				break
			}
			if err != nil && !wait(ctx, pause) {
				break
			}
		}
	}
	return nil
}

// final reads a partition from its start to its end.
func (c *client) final(ctx context.Context, p partition) error {
	next := int64(history.FromStart)
	for {
		err := c.finalPart(ctx, p, &next)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errMore) && !wait(ctx, pause) {
			return err
		}
	}
}

var errMore = errors.New("there is more")

func (c *client) finalPart(ctx context.Context, p partition, next *int64) error {
	l, err := c.leader(ctx, p)
	if err != nil {
		return err
	}
	id := c.hist.Begin(history.Event{Op: history.Read, Client: c.name, Topic: p.topic, Partition: p.index, Via: history.Final, Offset: *next, Term: int64(l.epoch)})
	from := *next
	if from < 0 {
		from, err = c.offset(ctx, p, earliest)
	}
	var got fetched
	if err == nil {
		got, err = c.fetch(ctx, p, l, l.node, from, 1<<20)
	}
	if err != nil {
		c.forget(p)
		c.hist.End(id, history.Event{Is: history.Failed, Text: text(err)})
		return err
	}
	c.hist.End(id, history.Event{Is: history.OK, Runs: got.runs, Start: got.start, High: got.high, Out: got.out})
	*next = after(got.runs, from)
	if got.out {
		*next = history.FromStart
	} else if *next >= got.high {
		return nil
	}
	return errMore
}
