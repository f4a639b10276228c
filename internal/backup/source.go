package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	// patience is how long a cluster may give no answer about a partition: elections
	// and restarts of nodes are waited for.
	patience   = 2 * time.Minute
	retryAfter = 200 * time.Millisecond
	fetchBytes = 4 << 20
	fetchWait  = 500 // ms
	// emptyFetches in a row mean that nothing is left below the high watermark: the
	// end of a compacted partition.
	emptyFetches = 3
)

// source reads record batches as the cluster has them, through the Kafka protocol.
type source struct {
	client *kgo.Client
	adm    *kadm.Client

	mu      sync.Mutex
	leaders map[string]map[int32]int32
}

func newSource(client *kgo.Client) *source {
	return &source{client: client, adm: kadm.NewClient(client), leaders: make(map[string]map[int32]int32)}
}

// errOutOfRange: the offset is below the log start, or above the end.
var errOutOfRange = errors.New("offset out of range")

// fetch returns whole batches from the one that holds offset on, or behind it, and the
// log start and the high watermark. It waits for leaders.
func (s *source) fetch(ctx context.Context, topic, topicID string, partition int32, offset int64) (data []byte, start, end int64, err error) {
	until := time.Now().Add(patience)
	for {
		data, start, end, err = s.fetchOnce(ctx, topic, topicID, partition, offset)
		if err == nil || errors.Is(err, errOutOfRange) || final(err) || ctx.Err() != nil || time.Now().After(until) {
			return data, start, end, err
		}
		s.forget(topic)
		if err := wait(ctx, retryAfter); err != nil {
			return nil, 0, 0, err
		}
	}
}

// wait is a pause that ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (s *source) fetchOnce(ctx context.Context, topic, topicID string, partition int32, offset int64) (data []byte, start, end int64, err error) {
	leader, err := s.leader(ctx, topic, partition)
	if err != nil {
		return nil, 0, 0, err
	}
	id, err := uuid.Parse(topicID)
	if err != nil {
		return nil, 0, 0, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = fetchWait, 1, fetchBytes, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, fetchBytes
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	answer, err := req.RequestWith(ctx, s.client.Broker(int(leader)))
	if err != nil {
		return nil, 0, 0, err
	}
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, 0, 0, err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil, 0, 0, fmt.Errorf("asked for one partition, got %d topics", len(answer.Topics))
	}
	r := answer.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(r.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		start, end, err := s.bounds(ctx, topic, partition)
		if err != nil {
			return nil, 0, 0, err
		}
		return nil, start, end, fmt.Errorf("offset %d: %w, from %d to %d", offset, errOutOfRange, start, end)
	case err != nil:
		return nil, 0, 0, err
	}
	return r.RecordBatches, r.LogStartOffset, r.HighWatermark, nil
}

// offsets are what a group has committed.
func (s *source) offsets(ctx context.Context, group string) (offsets kadm.OffsetResponses, err error) {
	err = retry(ctx, func() (err error) {
		if offsets, err = s.adm.FetchOffsets(ctx, group); err == nil {
			err = offsets.Error()
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("ask for the offsets of group %s: %w", group, err)
	}
	return offsets, err
}

// bounds are the log start and the high watermark.
func (s *source) bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	starts, err := s.adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	ends, err := s.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	low, _ := starts.Lookup(topic, partition)
	high, ok := ends.Lookup(topic, partition)
	if err := errors.Join(low.Err, high.Err); err != nil || !ok {
		return 0, 0, errors.Join(errors.New("nobody said where the partition begins and ends"), err)
	}
	return low.Offset, high.Offset, nil
}

// leader asks for the leaders of a topic when they are not known.
func (s *source) leader(ctx context.Context, topic string, partition int32) (int32, error) {
	s.mu.Lock()
	leader, ok := s.leaders[topic][partition]
	s.mu.Unlock()
	if ok {
		return leader, nil
	}
	m, err := s.adm.Metadata(ctx, topic)
	if err != nil {
		return 0, err
	}
	t := m.Topics[topic]
	if t.Err != nil {
		return 0, t.Err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[int32]int32)
	for _, p := range t.Partitions {
		if p.Err == nil && p.Leader >= 0 {
			known[p.Partition] = p.Leader
		}
	}
	s.leaders[topic] = known
	if leader, ok = known[partition]; !ok {
		return 0, kerr.LeaderNotAvailable
	}
	return leader, nil
}

func (s *source) forget(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaders, topic)
}

// holds says whether the cluster has the last batch of an object, as it was, and where
// the log starts; it has not if that is behind it. Without epochs another leader may
// have written it.
func (s *source) holds(ctx context.Context, topic, topicID string, partition int32, o Object, epochs bool) (same bool, start int64, err error) {
	data, start, _, err := s.fetch(ctx, topic, topicID, partition, o.Next-1)
	if errors.Is(err, errOutOfRange) {
		return false, start, nil
	}
	if err != nil || len(data) == 0 {
		return false, start, err
	}
	b, _, err := seglog.NextBatch(data)
	if err != nil {
		return false, start, err
	}
	have := lastBatch(b)
	if !epochs {
		have.Epoch = o.Last.Epoch
	}
	return have == o.Last, start, nil
}
