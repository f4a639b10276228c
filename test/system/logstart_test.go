//go:build system

package system

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// trimmed is some topics that are written, compacted, retained and cut by
// DeleteRecords at once, with all that their log starts have been seen to be.
type trimmed struct {
	c      *cluster
	topics []string

	mu    sync.Mutex
	acked map[place]map[int64]string // offset → key and value
	start map[place]int64            // highest that an answer has named
	moved map[place]int
	cuts  int
}

const trimmedPartitions = 3

func newTrimmed(c *cluster) *trimmed {
	x := &trimmed{c: c, acked: make(map[place]map[int64]string), start: make(map[place]int64), moved: make(map[place]int)}
	adm := kadm.NewClient(x.client())
	for topic, policy := range map[string]string{"cut": "delete", "table": "compact", "both": "compact,delete"} {
		config := map[string]*string{}
		for k, v := range map[string]string{
			"cleanup.policy": policy, "segment.bytes": "131072", "retention.bytes": "524288", "segment.ms": "2000",
			"min.cleanable.dirty.ratio": "0.05", "delete.retention.ms": "500",
		} {
			config[k] = &v
		}
		if _, err := adm.CreateTopic(c.t.Context(), trimmedPartitions, 3, config, topic); err != nil {
			c.t.Fatal(err)
		}
		x.topics = append(x.topics, topic)
		for i := range int32(trimmedPartitions) {
			x.acked[place{topic, i}] = make(map[int64]string)
		}
	}
	return x
}

func (x *trimmed) client(opts ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(x.c.kafka...), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16<<10), kgo.MaxBufferedRecords(2000),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }))...)
	if err != nil {
		x.c.t.Fatal(err)
	}
	x.c.t.Cleanup(client.Close)
	return client
}

func (x *trimmed) count() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, records := range x.acked {
		n += len(records)
	}
	return n
}

// write goes on until the context ends, and then waits for all answers.
func (x *trimmed) write(ctx context.Context, rnd *rand.Rand) {
	client := x.client()
	for i := 0; ctx.Err() == nil; i++ {
		r := &kgo.Record{
			Topic: x.topics[rnd.IntN(len(x.topics))], Partition: int32(rnd.IntN(trimmedPartitions)),
			Key: fmt.Appendf(nil, "key-%d", rnd.IntN(500)), Value: fmt.Appendf(nil, "%d-%s", i, strings.Repeat("v", rnd.IntN(400))),
		}
		client.Produce(x.c.t.Context(), r, func(r *kgo.Record, err error) {
			if err != nil {
				x.c.t.Errorf("%s/%d: %v", r.Topic, r.Partition, err)
				return
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			x.acked[place{r.Topic, r.Partition}][r.Offset] = string(r.Key) + "=" + string(r.Value)
		})
	}
	if err := client.Flush(x.c.t.Context()); err != nil {
		x.c.t.Error(err)
	}
}

// saw takes a log start from an answer to a request that was sent when the start
// was known to be at least before.
func (x *trimmed) saw(at place, before, start int64, from string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if start < before {
		x.c.t.Errorf("%v: the log start is %d by %s, and was %d before that was asked", at, start, from, before)
	}
	if start > x.start[at] {
		x.start[at] = start
		x.moved[at]++
	}
}

func (x *trimmed) starts() map[place]int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.start)
}

// watch asks for the log starts all the time.
func (x *trimmed) watch(ctx context.Context) {
	adm := kadm.NewClient(x.client())
	for ctx.Err() == nil {
		before := x.starts()
		offsets, err := adm.ListStartOffsets(ctx, x.topics...)
		if err != nil {
			continue // with a node that was killed meanwhile
		}
		offsets.Each(func(o kadm.ListedOffset) {
			if o.Err == nil {
				at := place{o.Topic, o.Partition}
				x.saw(at, before[at], o.Offset, "ListOffsets")
			}
		})
	}
}

// cut deletes records before a random offset of a random partition, all the time;
// not of the topic that is compacted only, as that is refused.
func (x *trimmed) cut(ctx context.Context, rnd *rand.Rand) {
	adm := kadm.NewClient(x.client())
	for ctx.Err() == nil {
		ends, err := adm.ListCommittedOffsets(ctx, x.topics...)
		if err != nil {
			continue
		}
		at := place{[]string{"cut", "both"}[rnd.IntN(2)], int32(rnd.IntN(trimmedPartitions))}
		end, ok := ends.Lookup(at.topic, at.partition)
		before := x.starts()[at]
		if !ok || end.Err != nil || end.Offset <= before {
			continue
		}
		upTo := before + rnd.Int64N(end.Offset-before)/8
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: at.topic, Partition: at.partition, At: upTo})
		answers, err := adm.DeleteRecords(ctx, offsets)
		if answer, ok := answers.Lookup(at.topic, at.partition); ok && err == nil && answer.Err == nil {
			x.saw(at, max(before, upTo), answer.LowWatermark, "DeleteRecords")
			x.mu.Lock()
			x.cuts++
			x.mu.Unlock()
		} else if ok && errors.Is(answer.Err, kerr.PolicyViolation) {
			x.c.t.Errorf("%s: %v", at.topic, answer.Err)
		}
	}
}

// check reads all partitions from their log starts: of "cut" everything that was
// acknowledged is there, of the others the last value of each key; nothing below
// the highest log start that was ever named.
func (x *trimmed) check(who string) {
	t := x.c.t
	t.Helper()
	before := x.starts()
	adm := kadm.NewClient(x.client())
	for at, acked := range x.acked {
		client := x.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.topic: {at.partition: kgo.NewOffset().AtStart()}}))
		last := int64(-1)
		for offset := range acked {
			last = max(last, offset)
		}
		got := make(map[int64]string)
		for got[last] == "" && t.Context().Err() == nil {
			client.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
				got[r.Offset] = string(r.Key) + "=" + string(r.Value)
			})
		}
		client.Close()
		for offset, record := range got {
			if offset < before[at] {
				t.Errorf("%s: %v: offset %d is read, the log start was %d", who, at, offset, before[at])
			}
			if acked[offset] != record {
				t.Errorf("%s: %v: offset %d holds %.30q, acknowledged was %.30q", who, at, offset, record, acked[offset])
			}
		}
		starts, err := adm.ListStartOffsets(t.Context(), at.topic)
		if err != nil {
			t.Fatal(err)
		}
		start, _ := starts.Lookup(at.topic, at.partition) // retention may have been at work since
		newest := make(map[string]int64)
		for offset, record := range acked {
			key, _, _ := strings.Cut(record, "=")
			newest[key] = max(newest[key], offset)
		}
		lost := 0
		for offset, record := range acked {
			key, _, _ := strings.Cut(record, "=")
			if offset >= start.Offset && got[offset] == "" && (at.topic == "cut" || newest[key] == offset) {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%s: %v: %d records are lost", who, at, lost)
		}
	}
}

// TestLogStart has retention, compaction and DeleteRecords at work at once on three
// topics that are written, while RAFTSMAN_KILLS nodes are killed: no log start goes
// back, by whomever it is named, and nothing that it leaves is lost.
func TestLogStart(t *testing.T) {
	t.Parallel()
	seed, kills := fromEnv("RAFTSMAN_SEED", rand.IntN(1<<30)+1), fromEnv("RAFTSMAN_KILLS", 3)
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	c := startCluster(t, 3, 3*time.Second)
	x := newTrimmed(c)
	writing, stopWriting := context.WithCancel(t.Context())
	watching, stopWatching := context.WithCancel(t.Context())
	var writers, watchers sync.WaitGroup
	defer watchers.Wait()
	defer writers.Wait()
	defer stopWatching()
	defer stopWriting()
	writer, cutter := rand.New(rand.NewPCG(rnd.Uint64(), 1)), rand.New(rand.NewPCG(rnd.Uint64(), 2))
	writers.Go(func() { x.write(writing, writer) })
	watchers.Go(func() { x.watch(watching) })
	watchers.Go(func() { x.cut(watching, cutter) })
	for range kills {
		had, starts := x.count(), x.starts()
		waitFor(t, "records, and log starts that move", time.Minute, func() bool {
			now, moved := x.starts(), 0
			for at, start := range now {
				if start > starts[at] {
					moved++
				}
			}
			return x.count() >= had+5000 && moved >= len(now)/2 && moved > 0
		})
		id := 1 + rnd.IntN(3)
		c.node(id).kill()
		had = x.count()
		waitFor(t, "records without the node", time.Minute, func() bool { return x.count() >= had+1000 })
		c.node(id).start()
		c.waitReady(id)
	}
	stopWriting()
	writers.Wait()
	stopWatching()
	watchers.Wait()
	for at, n := range x.moved {
		t.Logf("%v: %d acknowledged, log start %d, seen to move %d times", at, len(x.acked[at]), x.start[at], n)
	}
	t.Logf("%d times DeleteRecords", x.cuts)
	if v, code, stderr := c.verify(1); code != 0 {
		t.Errorf("cluster verify: %d, %+v\n%s", code, v, stderr)
	}
	c.etcdctl("put", "/raftsman/default/config/rebalance", `{"paused":true}`) // leaderships stay where they are put
	for id := 1; id <= 3; id++ {
		for at := range x.acked {
			if c.leader(at.topic, int(at.partition)) == id {
				continue
			}
			waitFor(t, fmt.Sprintf("a transfer of %v to node %d", at, id), time.Minute, func() bool {
				_, err := c.raftsman("partition", "transfer", at.String(), "--to", fmt.Sprint(id), "--http", c.http[0])
				return err == nil && c.leader(at.topic, int(at.partition)) == id
			})
		}
		x.check(fmt.Sprintf("node %d", id))
	}
}
