//go:build system

package system

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.topic, p.partition) }

// sequence is what was written to one partition: numbers from 0 on.
type sequence struct {
	order   sync.Mutex // held from taking a number until the client has it
	next    int
	acked   map[int]int // number → phase in which it was acknowledged
	trimmed bool        // retention removes the oldest
}

// spread is an idempotent producer (acks all) that writes 0, 1, 2, … to each of
// many partitions, in records of random sizes, and notes what is acknowledged.
type spread struct {
	client *kgo.Client
	rnd    *rand.Rand // of run
	stop   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	places []place // what run writes to
	seqs   map[place]*sequence
	phase  int
	acks   int
	last   time.Time // acknowledgement
	failed []error

	removed int // by retention, as verify saw it
}

func startSpread(t *testing.T, brokers []string, seed uint64) *spread {
	t.Helper()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(1000), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MetadataMinAge(500*time.Millisecond), kgo.UnknownTopicRetries(-1),
	)
	if err != nil {
		t.Fatal(err)
	}
	s := &spread{
		client: client, rnd: rand.New(rand.NewPCG(seed, 1)), stop: make(chan struct{}), done: make(chan struct{}),
		seqs: make(map[place]*sequence),
	}
	go s.run()
	t.Cleanup(client.Close)
	return s
}

// add makes run write to a topic's partitions too; idle ones get what write
// gives them.
func (s *spread) add(topic string, partitions int, idle, trimmed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range partitions {
		p := place{topic, int32(i)}
		s.seqs[p] = &sequence{acked: make(map[int]int), trimmed: trimmed}
		if !idle {
			s.places = append(s.places, p)
		}
	}
}

func (s *spread) run() {
	defer close(s.done)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-s.stop:
			_ = s.client.Flush(context.Background())
			return
		case <-pace.C:
		}
		s.mu.Lock()
		if len(s.places) == 0 {
			s.mu.Unlock()
			continue
		}
		p := s.places[s.rnd.IntN(len(s.places))]
		s.mu.Unlock()
		for range 1 + s.rnd.IntN(4) {
			s.write(p, s.rnd.IntN(3000))
		}
	}
}

// write writes a partition's next number, with padding.
func (s *spread) write(p place, padding int) {
	s.mu.Lock()
	seq := s.seqs[p]
	s.mu.Unlock()
	seq.order.Lock()
	defer seq.order.Unlock()
	s.mu.Lock()
	n := seq.next
	seq.next++
	s.mu.Unlock()
	value := append(strconv.AppendInt(nil, int64(n), 10), ' ')
	value = append(value, bytes.Repeat([]byte{byte('a' + n%26)}, padding)...)
	s.client.Produce(context.Background(), &kgo.Record{Topic: p.topic, Partition: p.partition, Value: value}, func(_ *kgo.Record, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.failed = append(s.failed, fmt.Errorf("%v, number %d: %w", p, n, err))
			return
		}
		seq.acked[n] = s.phase
		s.acks++
		s.last = time.Now()
	})
}

// begin begins a phase of the test and returns the acknowledgements so far.
func (s *spread) begin(phase int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = phase
	return s.acks
}

func (s *spread) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acks
}

// everywhere says whether each partition has an acknowledgement of a phase.
func (s *spread) everywhere(phase int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range s.seqs {
		found := false
		for n := seq.next - 1; n >= 0 && !found; n-- {
			in, ok := seq.acked[n]
			if ok && in < phase {
				break
			}
			found = ok
		}
		if !found {
			return false
		}
	}
	return true
}

// writeAll writes one record to every partition.
func (s *spread) writeAll() {
	s.mu.Lock()
	var all []place
	for p := range s.seqs {
		all = append(all, p)
	}
	s.mu.Unlock()
	for _, p := range all {
		s.write(p, 0)
	}
}

// finish stops the producer and waits until all is acknowledged.
func (s *spread) finish(t *testing.T) {
	t.Helper()
	close(s.stop)
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		t.Fatal("the producer can't flush within a minute")
	}
	for i, err := range s.failed {
		if t.Error(err); i == 20 {
			break
		}
	}
}

// found is what a read of one partition has seen.
type found struct {
	first, last int
	seen        int
	missing     map[int]bool // of what was acknowledged
}

// verify reads all partitions from their starts: every acknowledged number is
// there exactly once, whole, and numbers rise. No more may be written meanwhile.
func (s *spread) verify(t *testing.T, brokers []string) {
	t.Helper()
	offsets := make(map[string]map[int32]kgo.Offset)
	state := make(map[place]*found)
	open, total := 0, 0
	for p, seq := range s.seqs {
		if offsets[p.topic] == nil {
			offsets[p.topic] = make(map[int32]kgo.Offset)
		}
		offsets[p.topic][p.partition] = kgo.NewOffset().AtStart()
		f := &found{first: -1, last: -1, missing: make(map[int]bool)}
		for n := range seq.acked {
			f.missing[n] = true
		}
		total += len(seq.acked)
		if state[p] = f; len(f.missing) > 0 {
			open++
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(offsets), kgo.MetadataMinAge(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for open > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := place{r.Topic, r.Partition}
			f, seq := state[p], s.seqs[p]
			digits, padding, _ := bytes.Cut(r.Value, []byte{' '})
			n, err := strconv.Atoi(string(digits))
			if err != nil || len(bytes.Trim(padding, string(rune('a'+n%26)))) > 0 {
				t.Errorf("%v: offset %d holds %.40q", p, r.Offset, r.Value)
				return
			}
			if n <= f.last {
				t.Errorf("%v: number %d follows %d at offset %d", p, n, f.last, r.Offset)
			}
			if f.seen++; f.first < 0 {
				f.first = n
				for m := range f.missing {
					if seq.trimmed && m < n {
						delete(f.missing, m)
					}
				}
			}
			f.last = n
			was := len(f.missing)
			delete(f.missing, n)
			if was > 0 && len(f.missing) == 0 {
				open--
			}
		})
	}
	s.report(t, state, total)
}

func (s *spread) report(t *testing.T, state map[place]*found, total int) {
	t.Helper()
	seen := 0
	for p, f := range state {
		seen += f.seen
		if len(f.missing) == 0 {
			continue
		}
		low := -1
		for n := range f.missing {
			if low < 0 || n < low {
				low = n
			}
		}
		t.Errorf("%v: %d of %d acknowledged records are missing, the first is %d of phase %d; read %d records, %d to %d",
			p, len(f.missing), len(s.seqs[p].acked), low, s.seqs[p].acked[low], f.seen, f.first, f.last)
	}
	trimmed := 0
	for p, f := range state {
		if s.seqs[p].trimmed {
			trimmed += max(f.first, 0)
		}
	}
	if !t.Failed() {
		t.Logf("%d acknowledged in %d partitions; read %d, all of them once and in order; retention has removed %d", total, len(state), seen, trimmed)
	}
	s.removed = trimmed
}
