package dashboard

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	maxTail      = 50   // records
	maxAcross    = 32   // partitions that are read together
	maxShown     = 2048 // bytes of a key or value
	maxBinary    = 64   // bytes of one that is no text
	maxHeaders   = 16
	maxTailBytes = 32 << 20 // read for one tail
)

// Tail is the last records of a topic, the newest first.
type Tail struct {
	At      int64    `json:"at"`
	Records []Record `json:"records"`
	Cut     string   `json:"cut,omitempty"` // what is left out
}

// Record is a record as far as it is shown.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Time      int64    `json:"time"` // milliseconds since 1970
	Key       *Text    `json:"key"`
	Value     *Text    `json:"value"`
	Headers   []Header `json:"headers,omitempty"`
}

// Header of a record.
type Header struct {
	Key   Text  `json:"key"`
	Value *Text `json:"value"`
}

// Text is a beginning of some bytes: as they are if they are text, else in hex.
type Text struct {
	Text  string `json:"text"`
	Hex   bool   `json:"hex,omitempty"`
	Bytes int    `json:"bytes"` // of the whole
	Cut   bool   `json:"cut,omitempty"`
}

func show(b []byte) *Text {
	if b == nil {
		return nil
	}
	t := &Text{Bytes: len(b)}
	part := b[:min(len(b), maxShown)]
	for cut := part; len(part) < len(b) && len(cut) > len(part)-utf8.UTFMax && len(cut) > 0; cut = cut[:len(cut)-1] {
		if utf8.Valid(cut) { // not within a character
			part = cut
			break
		}
	}
	if utf8.Valid(part) {
		t.Text = string(part)
	} else {
		part = part[:min(len(part), maxBinary)]
		t.Text, t.Hex = hex.EncodeToString(part), true
	}
	t.Cut = len(part) < len(b)
	return t
}

// tail reads the last records of a partition, or of all with -1.
func (k *kafkaSide) tail(ctx context.Context, topic string, partition int32, count int) (any, error) {
	adm, err := k.admin()
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil && len(ends) == 0 {
		return nil, fmt.Errorf("ask for the end of topic %q: %w", topic, err)
	}
	starts, _ := adm.ListStartOffsets(ctx, topic)
	if o, ok := ends.Lookup(topic, -1); ok && errors.Is(o.Err, kerr.UnknownTopicOrPartition) || len(ends[topic]) == 0 {
		return nil, unknownError{fmt.Errorf("topic %q does not exist", topic)}
	}
	found := &Tail{At: k.now().UnixMilli(), Records: []Record{}}
	if partition < 0 && len(ends[topic]) > maxAcross {
		found.Cut = fmt.Sprintf("the topic has more than %d partitions: choose one", maxAcross)
		return found, nil
	}
	from, until, unread := make(map[int32]kgo.Offset), make(map[int32]int64), 0
	for index, end := range ends[topic] {
		if partition >= 0 && index != partition {
			continue
		}
		start := offsetOf(starts, topic, index)
		if end.Err != nil || start == nil {
			unread++
			continue
		}
		if first := max(*start, end.Offset-int64(count)); first < end.Offset {
			from[index], until[index] = kgo.NewOffset().At(first), end.Offset
		}
	}
	if partition >= 0 && len(from) == 0 && unread == 0 {
		if _, ok := ends.Lookup(topic, partition); !ok {
			return nil, unknownError{fmt.Errorf("topic %q has no partition %d", topic, partition)}
		}
	}
	if len(from) > 0 {
		if err := k.read(ctx, topic, from, until, count, found); err != nil {
			return nil, err
		}
	}
	unread += len(until)
	if unread > 0 {
		found.Cut = fmt.Sprintf("%d of %d partitions could not be read to their end just now", unread, len(ends[topic]))
	}
	return found, nil
}

// read adds the records up to until, and removes from it what was read to the end.
func (k *kafkaSide) read(ctx context.Context, topic string, from map[int32]kgo.Offset, until map[int32]int64, count int, found *Tail) error {
	opts, err := k.options(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.KeepControlRecords(),
		kgo.FetchMaxPartitionBytes(1<<20), kgo.FetchMaxBytes(4<<20), kgo.BrokerMaxReadBytes(64<<20))
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout/2)
	defer cancel()
	for bytes := 0; len(until) > 0 && bytes < maxTailBytes; {
		fetches := client.PollRecords(ctx, maxTail)
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			bytes += len(r.Key) + len(r.Value)
			end, wanted := until[r.Partition]
			if wanted && r.Offset >= end-1 {
				delete(until, r.Partition)
			}
			if wanted && r.Offset < end && !r.Attrs.IsControl() {
				found.Records = append(found.Records, shownRecord(r))
			}
		}
		found.Records = newest(found.Records, count)
		if ctx.Err() != nil {
			return nil // what is missing is said
		}
	}
	return nil
}

func shownRecord(r *kgo.Record) Record {
	s := Record{Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixMilli(), Key: show(r.Key), Value: show(r.Value)}
	for _, h := range r.Headers[:min(len(r.Headers), maxHeaders)] {
		s.Headers = append(s.Headers, Header{*show([]byte(h.Key)), show(h.Value)})
	}
	return s
}

func newest(all []Record, count int) []Record {
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Partition, b.Partition), cmp.Compare(b.Offset, a.Offset))
	})
	return slices.Clone(all[:min(len(all), count)])
}
