package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// span is what to read of a partition: from start to before end.
type span struct{ start, end int64 }

type spans map[int32]span

// spans asks where to read.
func (c *consumeFlags) spans(ctx context.Context, adm *kadm.Client, topic string) (spans, error) {
	t, err := topicMetadata(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	wanted := c.partitions
	if len(wanted) == 0 {
		wanted = t.Partitions.Numbers()
	}
	for _, p := range wanted {
		if !slices.Contains(t.Partitions.Numbers(), p) {
			return nil, fmt.Errorf("--partition %d: topic %q has %s, from 0", p, topic, plural(len(t.Partitions), "partition", "partitions"))
		}
	}
	from, err := limitsOf(ctx, adm, c.from, []string{topic})
	if err != nil {
		return nil, err
	}
	to := from
	if c.to != nil && c.to.kind == toTime {
		if to, err = limitsOf(ctx, adm, *c.to, []string{topic}); err != nil {
			return nil, err
		}
	}
	all := make(spans, len(wanted))
	for _, p := range wanted {
		if all[p], err = c.span(from, to, topic, p); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// span is what to read of one partition. What is gone already is left out; one
// can't wait for records at an offset that does not exist yet.
func (c *consumeFlags) span(from, to limits, topic string, partition int32) (s span, err error) {
	if s.start, err = from.place(c.from, topic, partition); err != nil {
		return s, err
	}
	if c.follow && c.from.kind == toOffset && c.from.offset > s.start {
		if end := offsetOf(from.ends, topic, partition); *end < c.from.offset {
			return s, fmt.Errorf("--offset: partition %d of topic %q ends at %d, before %d", partition, topic, *end, c.from.offset)
		}
	}
	switch {
	case c.to == nil && c.follow:
		s.end = math.MaxInt64
	case c.to == nil:
		s.end, err = from.place(where{kind: toLatest}, topic, partition)
	case c.follow && c.to.kind == toOffset:
		s.end = c.to.offset
	case c.follow && c.to.kind == toTime && to.beyond(topic, partition):
		s.end = math.MaxInt64 // until a record is late enough
	default:
		s.end, err = to.place(*c.to, topic, partition)
	}
	return s, err
}

// listError says why there is no offset.
func listError(listed kadm.ListedOffsets, err error, topic string, partition int32) error {
	if o, ok := listed.Lookup(topic, partition); ok {
		return o.Err
	}
	if err == nil {
		return errors.New("no answer")
	}
	return err
}

// dropEmpty removes spans without a record.
func (s spans) dropEmpty() {
	for p, span := range s {
		if span.start >= span.end {
			delete(s, p)
		}
	}
}

func (s spans) starts() map[int32]kgo.Offset {
	offsets := make(map[int32]kgo.Offset, len(s))
	for p, span := range s {
		offsets[p] = kgo.NewOffset().At(span.start)
	}
	return offsets
}
