package testcluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// numbers produces 0, 1, 2, … to a topic with one partition until stop is
// closed, and returns how many were acknowledged.
func numbers(t *testing.T, client *kgo.Client, topic string, stop <-chan struct{}) (acked int) {
	t.Helper()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for i := 0; ; i++ {
		select {
		case <-stop:
			wg.Wait()
			return acked
		default:
		}
		wg.Add(1)
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)}, func(r *kgo.Record, err error) {
			defer wg.Done()
			if err != nil {
				t.Errorf("record %s: %v", r.Value, err)
				return
			}
			mu.Lock()
			acked++
			mu.Unlock()
		})
	}
}

// consume reads want records of partition 0 from the start.
func consume(t *testing.T, c *Cluster, topic string, want int) (values []string) {
	t.Helper()
	client := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(values) < want {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read %d of %d records", len(values), want)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func checkNumbers(t *testing.T, values []string, n int) {
	t.Helper()
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprint(i)
	}
	if !slices.Equal(values, want) {
		for i := range min(len(values), n) {
			if values[i] != want[i] {
				t.Fatalf("record %d is %s; %d records, want %d", i, values[i], len(values), n)
			}
		}
		t.Fatalf("got %d records, want %d", len(values), n)
	}
}

func TestProduceConsumeRestart(t *testing.T) {
	for _, store := range []string{"wal", "boltdb"} {
		t.Run(store, func(t *testing.T) { produceConsumeRestart(t, store) })
	}
}

func produceConsumeRestart(t *testing.T, store string) {
	c := Start(t, 3, func(cfg *node.Config) { cfg.RaftStore = store })
	stop := make(chan struct{})
	time.AfterFunc(500*time.Millisecond, func() { close(stop) })
	n := numbers(t, c.Client(kgo.ProducerLinger(time.Millisecond)), "numbers", stop)
	checkNumbers(t, consume(t, c, "numbers", n), n)
	for id := int32(1); id <= 3; id++ {
		c.Stop(id)
	}
	for id := int32(1); id <= 3; id++ {
		c.launch(id)
	}
	for id := int32(1); id <= 3; id++ {
		c.waitReady(id)
	}
	checkNumbers(t, consume(t, c, "numbers", n), n)
}

// TestLeaderStops stops the partition's leader again and again under an
// idempotent producer: every record is there once, in order.
func TestLeaderStops(t *testing.T) {
	c := Start(t, 3, nil)
	stop, acked := make(chan struct{}), make(chan int)
	client := c.Client(kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(1000))
	go func() { acked <- numbers(t, client, "numbers", stop) }()
	for range 4 {
		var id int32
		testetcd.Eventually(t, "a leader", func() bool {
			id = leaderOf(c, client, "numbers")
			return id > 0
		})
		c.Stop(id)
		c.Restart(id)
	}
	close(stop)
	n := <-acked
	checkNumbers(t, consume(t, c, "numbers", n), n)
}

// leaderOf returns the leader of partition 0, or -1.
func leaderOf(c *Cluster, client *kgo.Client, topic string) int32 {
	client.ForceMetadataRefresh()
	leader, _, err := client.PartitionLeader(topic, 0)
	if err != nil {
		return -1
	}
	return leader
}

// TestLeaderCutOff cuts the leader from its peers, not from its clients: what
// it acknowledged is there afterwards, and it steps down.
func TestLeaderCutOff(t *testing.T) {
	c := Start(t, 3, nil)
	stop, acked := make(chan struct{}), make(chan int)
	client := c.Client(kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(1000))
	go func() { acked <- numbers(t, client, "numbers", stop) }()
	var old int32
	testetcd.Eventually(t, "a leader", func() bool {
		old = leaderOf(c, client, "numbers")
		return old > 0
	})
	for id := int32(1); id <= 3; id++ {
		if id != old {
			c.Network.Cut(old, id)
		}
	}
	testetcd.Eventually(t, "another leader", func() bool {
		id := leaderOf(c, client, "numbers")
		return id > 0 && id != old
	})
	for id := int32(1); id <= 3; id++ {
		c.Network.Heal(old, id)
	}
	close(stop)
	n := <-acked
	checkNumbers(t, consume(t, c, "numbers", n), n)
}
