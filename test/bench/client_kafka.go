package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "bench"

// kafkaClient is franz-go: acks=all, idempotent as by default, without compression and linger.
type kafkaClient struct {
	addrs    []string
	replicas int16
	first    int32 // id of the first broker
	cl       *kgo.Client
	adm      *kadm.Client
}

func newKafkaClient(addrs []string, first int32) (*kafkaClient, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	if err != nil {
		return nil, err
	}
	return &kafkaClient{addrs: addrs, replicas: int16(len(addrs)), first: first, cl: cl, adm: kadm.NewClient(cl)}, nil
}

func (k *kafkaClient) close() { k.cl.Close() }

func (k *kafkaClient) create(ctx context.Context, partitions int, retain int64) error {
	share := retain / int64(partitions)
	segment := min(256<<20, max(1<<20, share/4)) // whole segments are removed, and one is being written
	if _, err := k.adm.CreateTopic(ctx, int32(partitions), k.replicas, map[string]*string{
		"retention.bytes": kadm.StringPtr(strconv.FormatInt(share, 10)),
		"segment.bytes":   kadm.StringPtr(strconv.FormatInt(segment, 10)),
	}, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

func (k *kafkaClient) leaders(ctx context.Context) ([]int, error) {
	m, err := k.adm.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := m.Topics[topic]
	if t.Err != nil {
		return nil, t.Err
	}
	leaders := make([]int, len(t.Partitions))
	for _, p := range t.Partitions.Sorted() {
		if p.Err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Partition, p.Err)
		}
		if p.Leader < k.first || len(p.ISR) < int(k.replicas) {
			return nil, fmt.Errorf("partition %d has leader %d, and in sync are only %v", p.Partition, p.Leader, p.ISR)
		}
		leaders[p.Partition] = int(p.Leader - k.first)
	}
	// A leader that is known may not be ready: one that answers this has committed in its term.
	ends, err := k.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	return leaders, ends.Error()
}

func (k *kafkaClient) offsets(ctx context.Context, partition int) (start, end int64, err error) {
	first, err := k.adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	last, err := k.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	s, _ := first.Lookup(topic, int32(partition))
	e, _ := last.Lookup(topic, int32(partition))
	return s.Offset, e.Offset, errors.Join(s.Err, e.Err)
}

type kafkaProducer struct {
	cl   *kgo.Client
	done func(*message)
}

func (k *kafkaClient) producer(ctx context.Context, how producing) (producer, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20), kgo.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return &kafkaProducer{cl, how.done}, nil
}

func (p *kafkaProducer) send(m *message) {
	// A record ends with its client, not before.
	p.cl.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: int32(m.partition), Value: m.value},
		func(r *kgo.Record, err error) {
			m.offset, m.err = r.Offset, err
			p.done(m)
		})
}

func (p *kafkaProducer) close() { p.cl.Close() }

func (k *kafkaClient) consume(ctx context.Context, partition int, how consuming, f func(offset int64, value []byte) bool) error {
	from := kgo.NewOffset().AtStart()
	if how.tail {
		from = kgo.NewOffset().AtEnd()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.addrs...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {int32(partition): from}}))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read partition %d: %w", partition, err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			if r := it.Next(); !f(r.Offset, r.Value) {
				return nil
			}
		}
	}
}
