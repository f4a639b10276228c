package testcluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// writer produces 0, 1, 2, … to one partition at a steady pace, whatever
// becomes of them, and notes which were acknowledged.
type writer struct {
	name      string
	topic     string
	partition int32
	exactly   bool // an idempotent producer's records are there once and in order
	size      int
	client    *kgo.Client

	begun      bool
	stop, done chan struct{}

	mu     sync.Mutex
	next   int
	acked  map[int]int64 // number → offset
	errors []error
}

// producers are the kinds of producers that wait for an acknowledgement.
var producers = []struct {
	name    string
	exactly bool
	opts    []kgo.Opt
}{
	{"idempotent", true, nil},
	{"all", false, []kgo.Opt{kgo.DisableIdempotentWrite()}},
	{"one", false, []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())}},
}

// writers starts one of each kind for each partition of a topic.
func (c *Cluster) writers(topic string, partitions int32, size int, every time.Duration) []*writer {
	c.t.Helper()
	return c.writersAs("", topic, partitions, size, every)
}

// writersAs gives the writers' names a prefix, and their clients options.
func (c *Cluster) writersAs(prefix, topic string, partitions int32, size int, every time.Duration, opts ...kgo.Opt) []*writer {
	c.t.Helper()
	all := c.prepare(prefix, topic, partitions, size, opts...)
	begin(all, every)
	return all
}

// prepare makes writers that begin later.
func (c *Cluster) prepare(prefix, topic string, partitions int32, size int, opts ...kgo.Opt) (all []*writer) {
	c.t.Helper()
	for _, p := range producers {
		client := c.Client(append(append([]kgo.Opt{
			kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1 << 16), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProduceRequestTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(2 * time.Second), kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.ProducerBatchMaxBytes(128 << 10),
		}, p.opts...), opts...)...)
		for i := range partitions {
			w := &writer{name: fmt.Sprint(prefix, p.name, "-", i), topic: topic, partition: i, exactly: p.exactly, size: size, client: client,
				stop: make(chan struct{}), done: make(chan struct{}), acked: make(map[int]int64)}
			all = append(all, w)
		}
	}
	c.t.Cleanup(func() {
		for _, w := range all {
			if w.begun {
				w.halt()
			}
		}
	})
	return all
}

func begin(all []*writer, every time.Duration) {
	for _, w := range all {
		w.begun = true
		go w.run(every)
	}
}

func (w *writer) run(every time.Duration) {
	defer close(w.done)
	pace := time.NewTicker(every)
	defer pace.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-pace.C:
		}
		w.mu.Lock()
		n := w.next
		w.next++
		w.mu.Unlock()
		value := fmt.Appendf(nil, "%s %d ", w.name, n)
		if pad := w.size - len(value); pad > 0 {
			value = append(value, strings.Repeat(string(rune('a'+n%26)), pad)...)
		}
		w.client.Produce(context.Background(), &kgo.Record{Topic: w.topic, Partition: w.partition, Value: value}, func(r *kgo.Record, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err != nil {
				w.errors = append(w.errors, fmt.Errorf("%s, record %d: %w", w.name, n, err))
				return
			}
			w.acked[n] = r.Offset
		})
	}
}

// halt stops producing; what is on its way goes on.
func (w *writer) halt() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	<-w.done
}

// sent is the number of the next record.
func (w *writer) sent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// ackedFrom counts the acknowledged records with a number of at least n.
func (w *writer) ackedFrom(n int) (count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.acked {
		if i >= n {
			count++
		}
	}
	return count
}

// lastAcked is the highest offset of an acknowledged record.
func (w *writer) lastAcked() (last int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, offset := range w.acked {
		last = max(last, offset)
	}
	return last
}

// fresh waits until each writer had a record acknowledged that it produced
// after the call.
func fresh(t *testing.T, what string, all []*writer) {
	t.Helper()
	from := make([]int, len(all))
	for i, w := range all {
		from[i] = w.sent()
	}
	var waiting []string
	defer func() {
		if len(waiting) > 0 {
			t.Logf("without an acknowledgement %s: %s", what, strings.Join(waiting, ", "))
		}
	}()
	testetcd.Eventually(t, "acknowledgements to each producer "+what, func() bool {
		waiting = waiting[:0]
		for i, w := range all {
			if w.ackedFrom(from[i]) == 0 {
				waiting = append(waiting, fmt.Sprintf("%s from %d (produced %d)", w.name, from[i], w.sent()))
			}
		}
		return len(waiting) == 0
	})
}

// silence is a moment after which nothing may be acknowledged.
type silence struct {
	all  []*writer
	from []int
}

// silent begins a silence: no record that is produced from now on may be
// acknowledged before check.
func silent(all []*writer) silence {
	s := silence{all: all}
	for _, w := range all {
		s.from = append(s.from, w.sent())
	}
	return s
}

// check fails if a record produced in the silence was acknowledged, or if
// hardly any was produced.
func (s silence) check(t *testing.T, what string) {
	t.Helper()
	for i, w := range s.all {
		if n := w.ackedFrom(s.from[i]); n > 0 {
			t.Errorf("%s: %d records of %s were acknowledged", what, n, w.name)
		}
		if w.sent() < s.from[i]+3 {
			t.Errorf("%s: %s has tried %d records only", what, w.name, w.sent()-s.from[i])
		}
	}
}

// finish waits until everything is acknowledged and reads it all back: what an
// idempotent producer wrote is there once and in order, what another one got an
// acknowledgement for is there at least once, at the offset that it was told.
func (c *Cluster) finish(t *testing.T, all []*writer) {
	t.Helper()
	for _, w := range all {
		w.halt()
	}
	for _, w := range all {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := w.client.Flush(ctx); err != nil {
			t.Fatalf("%s can't flush: %v", w.name, err)
		}
		cancel()
		if n := len(w.errors); n > 0 {
			t.Errorf("%d records failed, the first with: %v", n, w.errors[0])
		}
	}
	parts := make(map[int32][]*writer)
	for _, w := range all {
		parts[w.partition] = append(parts[w.partition], w)
	}
	total := 0
	for p, ws := range parts {
		got := c.readAll(t, ws[0].topic, p)
		for _, w := range ws {
			w.verify(t, got[w.name])
			total += len(w.acked)
		}
	}
	t.Logf("%d records were acknowledged and are there", total)
}

// readAll reads a partition up to its end and returns the numbers of each
// writer with their offsets.
func (c *Cluster) readAll(t *testing.T, topic string, partition int32) map[string][][2]int64 {
	t.Helper()
	client := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, ok := ends.Lookup(topic, partition)
	if !ok || end.Err != nil {
		t.Fatalf("end of partition %d: %v", partition, end.Err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(map[string][][2]int64)
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("partition %d: read up to %d of %d", partition, next, end.Offset)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next {
				t.Fatalf("partition %d: offset %d follows %d", partition, r.Offset, next-1)
			}
			next++
			fields := strings.Fields(string(r.Value))
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatalf("partition %d: offset %d holds %.40q", partition, r.Offset, r.Value)
			}
			got[fields[0]] = append(got[fields[0]], [2]int64{n, r.Offset})
		})
	}
	return got
}

func (w *writer) verify(t *testing.T, got [][2]int64) {
	t.Helper()
	at := make(map[int64]map[int64]bool)
	for i, g := range got {
		if w.exactly && g[0] != int64(i) {
			t.Errorf("%s: record %d at offset %d, want %d; from there on, numbers and offsets: %v", w.name, g[0], g[1], i, got[i:min(i+8, len(got))])
			return
		}
		if at[g[0]] == nil {
			at[g[0]] = make(map[int64]bool)
		}
		at[g[0]][g[1]] = true
	}
	lost := 0
	for n, offset := range w.acked {
		if !at[int64(n)][offset] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d of %d acknowledged records are not where they were acknowledged", w.name, lost, len(w.acked))
	}
	if w.exactly && len(got) != len(w.acked) {
		t.Errorf("%s: %d records are there, %d were acknowledged", w.name, len(got), len(w.acked))
	}
}

// spread creates a topic with one partition per node and waits until each node
// leads one; partition i is led by leaders[i].
func (c *Cluster) spread(t *testing.T, topic string, n int32) (leaders []int32) {
	t.Helper()
	client := c.Client()
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), n, 3, nil, topic); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "a leader at each node", func() bool {
		leaders = c.leaders(adm, topic, n)
		led := make(map[int32]bool)
		for _, id := range leaders {
			led[id] = true
		}
		return int32(len(led)) == n && !led[-1]
	})
	return leaders
}

// leaders asks for the leader of each partition, -1 for none.
func (c *Cluster) leaders(adm *kadm.Client, topic string, n int32) []int32 {
	leaders := make([]int32, n)
	for i := range leaders {
		leaders[i] = -1
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return leaders
	}
	for _, p := range topics[topic].Partitions {
		if int(p.Partition) < len(leaders) && p.Err == nil {
			leaders[p.Partition] = p.Leader
		}
	}
	return leaders
}
