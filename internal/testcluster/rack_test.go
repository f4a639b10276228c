package testcluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// batchSources counts the batches that a client read, by node.
type batchSources struct {
	mu sync.Mutex
	by map[int32]int
}

func (s *batchSources) OnFetchBatchRead(meta kgo.BrokerMetadata, _ string, _ int32, _ kgo.FetchBatchMetrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[meta.NodeID]++
}

func (s *batchSources) of(node int32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[node]
}

// TestRackReader: a consumer that names its rack reads from the follower there,
// hears of a lone record without waiting for another one, and goes on elsewhere
// when that follower has died, with nothing lost or read twice.
func TestRackReader(t *testing.T) {
	c := Start(t, 3, func(cfg *node.Config) { cfg.Rack, cfg.ReplicaSelector = fmt.Sprint("rack", cfg.NodeID), node.ReadRack })
	writer := c.Client()
	produce := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := writer.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	produce(0, 10)
	leader := c.inSync(t, "t", 3)
	follower := leader%3 + 1
	sources := &batchSources{by: make(map[int32]int)}
	reader := c.Client(kgo.Rack(fmt.Sprint("rack", follower)), kgo.WithHooks(sources), kgo.FetchMaxWait(30*time.Second),
		kgo.RecheckPreferredReplicaInterval(time.Second), // the client sticks to a replica that has died, otherwise
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var values []string
	read := func(upTo int) {
		t.Helper()
		for len(values) < upTo {
			fetches := reader.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatalf("read %d of %d records, batches by node: %v", len(values), upTo, sources.by)
			}
			fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
		}
	}
	read(10)
	for n := 10; n < 20; n++ {
		produce(n, n+1)
		read(n + 1) // long before fetch.max.wait is over, or ctx would be
	}
	if sources.of(follower) < 10 {
		t.Errorf("batches by node: %v; the leader is %d, the rack's node %d", sources.by, leader, follower)
	}
	c.Stop(follower)
	produce(20, 40)
	read(40)
	c.Restart(follower)
	testetcd.Eventually(t, "the follower serves its rack again", func() bool {
		before := sources.of(follower)
		produce(len(values), len(values)+1)
		read(len(values) + 1)
		return sources.of(follower) > before
	})
	checkNumbers(t, values, len(values))
}
