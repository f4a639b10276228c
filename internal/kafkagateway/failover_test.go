package kafkagateway_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// Nodes behind a gateway go and come back in turn: what an idempotent producer was
// told is there once and in order, and a group of consumers sees all of it.
func TestNodesGoInTurn(t *testing.T) {
	c := testcluster.Start(t, 3, nil)
	addr, _ := gateway(t, c, nil)
	client := through(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const partitions = 6
	if _, err := adm.CreateTopic(ctx, partitions, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	led(t, adm, "t", partitions)

	var acked [partitions]atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				// Several in flight: their order has to survive.
				r := &kgo.Record{Topic: "t", Partition: p, Value: fmt.Append(nil, i)}
				client.Produce(ctx, r, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Errorf("partition %d: %v", p, err)
						return
					}
					acked[p].Add(1)
				})
				if i%16 == 15 {
					for acked[p].Load() < int64(i-64) && ctx.Err() == nil {
						if err := client.Flush(ctx); err != nil {
							return
						}
					}
				}
			}
		})
	}
	sum := func() (n int64) {
		for p := range acked {
			n += acked[p].Load()
		}
		return n
	}
	seen := make(map[string]bool)
	var mu sync.Mutex
	var readers sync.WaitGroup
	rctx, rcancel := context.WithCancel(ctx)
	for range 2 {
		member := through(t, addr, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.AutoCommitInterval(100*time.Millisecond))
		readers.Go(func() {
			for rctx.Err() == nil {
				member.PollFetches(rctx).EachRecord(func(r *kgo.Record) {
					mu.Lock()
					seen[fmt.Sprint(r.Partition, " ", string(r.Value))] = true
					mu.Unlock()
				})
			}
			member.Close()
		})
	}
	for id := int32(1); id <= 3; id++ {
		before := sum()
		testetcd.Eventually(t, "records to go through", func() bool { return sum() > before+300 })
		c.Stop(id)
		before = sum()
		testetcd.Eventually(t, fmt.Sprintf("records to go through without node %d", id), func() bool { return sum() > before+300 })
		c.Restart(id)
	}
	close(stop)
	wg.Wait()
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	total := sum()
	testetcd.Eventually(t, "the group to have seen everything", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return int64(len(seen)) == total
	})
	rcancel()
	readers.Wait()

	direct := c.Client(kgo.ConsumeTopics("t"))
	next := make(map[int32]int)
	for got := int64(0); got < total; {
		fs := direct.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprint(next[r.Partition]); string(r.Value) != want {
				t.Fatalf("partition %d offset %d: %s, want %s", r.Partition, r.Offset, r.Value, want)
			}
			next[r.Partition]++
			got++
		})
	}
	t.Logf("%d records", total)
}
