//go:build system

package system

import (
	"context"
	be "encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// bulk is an idempotent producer of numbered records that do not compress. What
// a record holds follows from its number.
type bulk struct {
	t         *testing.T
	client    *kgo.Client
	topic     string
	partition int32
	size      func(n uint64) int

	next  uint64
	bytes atomic.Int64 // acknowledged, of values

	mu     sync.Mutex
	acks   map[uint64]bool
	failed []error

	stop, done chan struct{} // of the paced part
}

func newBulk(t *testing.T, brokers []string, topic string, partition int, size func(uint64) int) *bulk {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(1000), kgo.MetadataMinAge(minAge))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &bulk{t: t, client: client, topic: topic, partition: int32(partition), size: size,
		acks: make(map[uint64]bool), stop: make(chan struct{}), done: make(chan struct{})}
}

// startBulk makes a producer of records between 8 bytes and 64 KiB.
func startBulk(t *testing.T, brokers []string, topic string, partition int) *bulk {
	return newBulk(t, brokers, topic, partition, func(n uint64) int { return int(n*2654435761) % (64 << 10) })
}

func value(n uint64, size int) []byte {
	v := be.BigEndian.AppendUint64(make([]byte, 0, size+8), n)
	v = v[:size+8]
	var seed [32]byte
	copy(seed[:], v[:8])
	rand.NewChaCha8(seed).Read(v[8:])
	return v
}

func (b *bulk) send() int64 {
	n := b.next
	b.next++
	v := value(n, b.size(n))
	b.client.Produce(context.Background(), &kgo.Record{Topic: b.topic, Partition: b.partition, Value: v}, func(_ *kgo.Record, err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if err != nil {
			b.failed = append(b.failed, err)
			return
		}
		b.acks[n] = true
		b.bytes.Add(int64(len(v)))
	})
	return int64(len(v))
}

// write sends that many bytes and waits for their acknowledgement.
func (b *bulk) write(bytes int64) {
	b.t.Helper()
	for bytes > 0 {
		bytes -= b.send()
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Minute)
	defer cancel()
	if err := b.client.Flush(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// pace goes on at a number of bytes per second until finish.
func (b *bulk) pace(rate int64) {
	const beat = 20 * time.Millisecond
	go func() {
		defer close(b.done)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-b.stop:
				return
			case <-tick.C:
			}
			for left := rate * int64(beat) / int64(time.Second); left > 0; {
				left -= b.send()
			}
		}
	}()
}

// startPaced writes one record of a size per pause until finish or abandon.
func startPaced(t *testing.T, brokers []string, topic string, partition, size int, pause time.Duration) *bulk {
	b := newBulk(t, brokers, topic, partition, func(uint64) int { return size })
	go func() {
		defer close(b.done)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-b.stop:
				return
			case <-tick.C:
				if b.client.BufferedProduceRecords() < 900 { // else it would block here
					b.send()
				}
			}
		}
	}()
	return b
}

func (b *bulk) acked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.acks)
}

// finish stops the paced part and waits until all is acknowledged.
func (b *bulk) finish(t *testing.T) {
	t.Helper()
	close(b.stop)
	<-b.done
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.client.Flush(ctx); err != nil {
		t.Fatalf("%s/%d: records are not acknowledged: %v", b.topic, b.partition, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.failed {
		t.Error(err)
	}
}

// abandon stops without waiting for anybody.
func (b *bulk) abandon() {
	close(b.stop)
	<-b.done
	b.client.Close()
}

func (b *bulk) sentBytes() int64 { return b.bytes.Load() }

// verify reads the partition from its start: every acknowledged record is there
// once, in order, with its bytes.
func (b *bulk) verify(t *testing.T, brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchMaxBytes(8<<20),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{b.topic: {b.partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	next, offset := uint64(0), int64(0)
	for next < b.next {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read up to %d of %d in five minutes", next, b.next)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if t.Failed() {
				return
			}
			if r.Offset != offset {
				t.Errorf("offset %d follows offset %d", r.Offset, offset-1)
			}
			if want := value(next, b.size(next)); string(r.Value) != string(want) {
				t.Errorf("offset %d holds other bytes than record %d, which is next", r.Offset, next)
			}
			next, offset = next+1, offset+1
		})
		if t.Failed() {
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if uint64(len(b.acks)) != b.next {
		t.Errorf("%d of %d records were acknowledged", len(b.acks), b.next)
	}
	t.Logf("%d acknowledged records, all of them there once and in order", next)
}
