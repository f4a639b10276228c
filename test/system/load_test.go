//go:build system

package system

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const minAge = 5 * time.Second

// load is an idempotent producer (acks all) that writes 0, 1, 2, … to a
// partition of a topic until it is stopped, and notes each acknowledgement.
type load struct {
	topic     string
	partition int32
	client    *kgo.Client
	stop      chan struct{}
	done      chan struct{}

	mu     sync.Mutex
	next   int
	acked  map[int]bool
	failed []error
	times  []time.Time // of acknowledgements
}

// startLoad writes to partition 0.
func startLoad(t *testing.T, brokers []string, topic string) *load {
	t.Helper()
	return startLoads(t, brokers, topic, 1)[0]
}

// startLoads writes to each of n partitions, through one client.
func startLoads(t *testing.T, brokers []string, topic string, n int, opts ...kgo.Opt) (all []*load) {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(200 * n),
		// franz-go asks for metadata again after 5 s at the earliest; leaders are
		// lost more often than that here.
		kgo.MetadataMinAge(minAge),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		l := &load{topic: topic, partition: int32(i), client: client, stop: make(chan struct{}), done: make(chan struct{}), acked: make(map[int]bool)}
		all = append(all, l)
		go l.run()
	}
	t.Cleanup(client.Close)
	return all
}

func (l *load) run() {
	defer close(l.done)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-l.stop:
			_ = l.client.Flush(context.Background())
			return
		case <-pace.C:
		}
		l.mu.Lock()
		n := l.next
		l.next++
		l.mu.Unlock()
		l.client.Produce(context.Background(), &kgo.Record{Partition: l.partition, Value: strconv.AppendInt(nil, int64(n), 10)}, func(_ *kgo.Record, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				l.failed = append(l.failed, fmt.Errorf("record %d: %w", n, err))
				return
			}
			l.acked[n] = true
			l.times = append(l.times, time.Now())
		})
	}
}

// finish stops the producer and waits until all is acknowledged.
func (l *load) finish(t *testing.T) {
	t.Helper()
	finishAll(t, l)
}

// finishAll finishes loads of one client: it can't flush while one of them writes.
func finishAll(t *testing.T, loads ...*load) {
	t.Helper()
	for _, l := range loads {
		close(l.stop)
	}
	deadline := time.After(time.Minute)
	for _, l := range loads {
		select {
		case <-l.done:
		case <-deadline:
			t.Fatal("the producer can't flush within a minute")
		}
		for _, err := range l.failed {
			t.Error(err)
		}
	}
}

// ackedSince counts acknowledgements after a moment.
func (l *load) ackedSince(at time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for i := len(l.times) - 1; i >= 0 && l.times[i].After(at); i-- {
		n++
	}
	return n
}

// longestGap is the longest time without an acknowledgement from a moment on.
func (l *load) longestGap(from time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, gap := from, time.Duration(0)
	for _, at := range l.times {
		if at.Before(from) {
			last = at
			continue
		}
		gap = max(gap, at.Sub(last))
		last = at
	}
	return gap
}

// verify reads the partition from the start: every acknowledged number is there
// exactly once and the numbers rise.
func (l *load) verify(t *testing.T, brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {l.partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := 0
	for n := range l.acked {
		want = max(want, n+1)
	}
	seen, previous := make(map[int]bool, want), -1
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for previous+1 < want {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read up to %d of %d in two minutes", previous, want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				t.Fatalf("offset %d holds %q", r.Offset, r.Value)
			}
			if seen[n] {
				t.Errorf("number %d is there twice, again at offset %d", n, r.Offset)
			}
			if n < previous {
				t.Errorf("number %d follows %d at offset %d", n, previous, r.Offset)
			}
			seen[n], previous = true, n
		})
	}
	lost := 0
	for n := range l.acked {
		if !seen[n] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged records are lost", lost, len(l.acked))
	}
	t.Logf("%d acknowledged, all of them there once and in order", len(l.acked))
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}
