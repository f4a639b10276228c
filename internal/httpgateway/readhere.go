package httpgateway

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	readWait    = 5 * time.Second // of one Fetch; what comes is answered at once
	readBytes   = 1 << 20         // of batches in one Fetch
	chunkBytes  = 1 << 20         // of records in one response
	chunkCount  = 5000
	perPartFull = 256 << 10 // of one partition in one Fetch
)

// readHere reads partitions from the own replicas until one of them does not serve
// any more, or the reading is over.
func (r *reading) readHere(ctx context.Context, parts []int32) error {
	c := r.g.asker.open()
	defer c.close()
	at, wait := r.positions(parts), time.Duration(0) // the first answer says where each begins
	order := append([]int32(nil), parts...)
	for {
		resp, err := c.ask(ctx, fetchRequest(r.topic, order, at, wait))
		if err != nil {
			return err
		}
		fetched := resp.(*kmsg.FetchResponse)
		if err := kafkaError(fetched.ErrorCode, nil); err != nil {
			return err
		}
		for i := range fetched.Topics {
			for j := range fetched.Topics[i].Partitions {
				p := &fetched.Topics[i].Partitions[j]
				if _, ours := at[p.Partition]; !ours {
					continue
				}
				if at[p.Partition], err = r.takeFetched(p, at[p.Partition]); err != nil {
					return err
				}
			}
		}
		if r.why() != nil {
			return nil
		}
		wait = readWait
		order = append(order[1:], order[0]) // they are served in this order
	}
}

func fetchRequest(topic string, parts []int32, at map[int32]int64, wait time.Duration) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 12, -1, int32(wait.Milliseconds()), 1, readBytes
	req.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	most := int32(readBytes)
	if len(parts) > 1 {
		most = perPartFull
	}
	for _, p := range parts {
		one := kmsg.NewFetchRequestTopicPartition()
		one.Partition, one.FetchOffset, one.PartitionMaxBytes = p, at[p], most
		t.Partitions = append(t.Partitions, one)
	}
	req.Topics = []kmsg.FetchRequestTopic{t}
	return req
}

// takeFetched hands on what was read of a partition and returns where it goes on.
func (r *reading) takeFetched(p *kmsg.FetchResponseTopicPartition, from int64) (next int64, err error) {
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.OffsetNotAvailable) {
		return from, fmt.Errorf("topic %s, partition %d, offset %d: %w", r.topic, p.Partition, from, err)
	}
	next = from
	rest, whole := p.RecordBatches, false
	for !whole {
		resp := &v1.ConsumeResponse{Partition: p.Partition, End: p.HighWatermark, Node: r.g.backend.NodeID()}
		if resp.Records, next, whole, err = decode(rest, p.Partition, next, r.text); err != nil {
			return from, fmt.Errorf("topic %s, partition %d, offset %d: %w", r.topic, p.Partition, next, err)
		}
		resp.Next = next
		if r.take(resp) != nil {
			return next, nil
		}
	}
	return next, nil
}

// decode returns the records of batches from an offset on, as many as one response
// may have, and where to go on; whole: there are no more.
func decode(batches []byte, partition int32, from int64, text bool) (records []*v1.Consumed, next int64, whole bool, err error) {
	next = from
	size := 0
	for len(batches) > 0 {
		var b seglog.Batch
		if b, batches, err = seglog.NextBatch(batches); err != nil {
			return records, next, false, err
		}
		if b.LastOffset() < next {
			continue
		}
		full := false
		if !b.Control() {
			err = seglog.WholeRecords(b, func(r seglog.Record) bool {
				if r.Offset < next {
					return true
				}
				if full = size >= chunkBytes || len(records) >= chunkCount; full {
					return false
				}
				one := consumed(r, partition, text)
				records = append(records, one)
				size += 64 + len(r.Key) + len(r.Value)
				next = r.Offset + 1
				return true
			})
		}
		if err != nil || full {
			return records, next, false, err
		}
		next = b.LastOffset() + 1
	}
	return records, next, true, nil
}

// consumed copies a record for a client.
func consumed(r seglog.Record, partition int32, text bool) *v1.Consumed {
	c := &v1.Consumed{Partition: partition, Offset: r.Offset, Time: timestamppb.New(time.UnixMilli(r.Timestamp))}
	if r.Timestamp < 0 || r.Timestamp > lastTime.UnixMilli() {
		c.Time = nil // none, or none that can be shown
	}
	c.Key, c.KeyText = shown(r.Key, text)
	c.Value, c.ValueText = shown(r.Value, text)
	r.Headers(func(key string, value []byte) {
		h := &v1.Header{Key: key}
		if !utf8.ValidString(key) {
			h.Key = fmt.Sprintf("%q", key)
		}
		if value != nil {
			h.Value = append([]byte{}, value...)
		}
		c.Headers = append(c.Headers, h)
	})
	return c
}

// shown is a copy of what is stored, as bytes or as text.
func shown(stored []byte, text bool) ([]byte, *string) {
	switch {
	case stored == nil:
		return nil, nil
	case text && utf8.Valid(stored):
		s := string(stored)
		return nil, &s
	}
	return append([]byte{}, stored...), nil
}
