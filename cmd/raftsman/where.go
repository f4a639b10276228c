package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// where is a place in each partition of a topic.
type where struct {
	kind   whereKind
	offset int64 // toOffset; toTail: how many records before the end
	ms     int64 // toTime
}

type whereKind int

const (
	toEarliest whereKind = iota
	toLatest
	toOffset
	toTail
	toTime
)

const whereHelp = "start, end, an offset, -N for the last N records of each partition, or @TIME: @2026-11-21T08:00:00Z, @2026-11-21, @-15m, @MILLISECONDS"

var completeWhere = cobra.FixedCompletions([]string{"start", "end", "@-1h\tan hour ago"}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)

// parseWhere reads the value of a flag; now is what @-15m counts from.
func parseWhere(flag, text string, now time.Time) (where, error) {
	switch text {
	case "start", "beginning", "earliest":
		return where{kind: toEarliest}, nil
	case "end", "latest":
		return where{kind: toLatest}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return where{kind: toOffset, offset: n}, nil
	} else if err == nil && n > -1<<62 {
		return where{kind: toTail, offset: -n}, nil
	}
	at, marked := strings.CutPrefix(text, "@")
	if t, ok := parseTime(at, marked, now); ok && t.UnixMilli() >= 0 {
		return where{kind: toTime, ms: t.UnixMilli()}, nil
	}
	return where{}, fmt.Errorf("%s %q: it must be %s", flag, text, whereHelp)
}

// parseTime reads a time; only after an @ it may be other than RFC 3339.
func parseTime(text string, marked bool, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil || !marked {
		return t, err == nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, true
		}
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms), ms >= 0
	}
	ago, err := time.ParseDuration(text)
	return now.Add(ago), err == nil
}

// limits are where the partitions begin and end, and where a time is.
type limits struct{ starts, ends, times kadm.ListedOffsets }

func limitsOf(ctx context.Context, adm *kadm.Client, to where, topics []string) (b limits, err error) {
	for _, topic := range topics {
		if _, err := topicMetadata(ctx, adm, topic); err != nil {
			return b, err
		}
	}
	if b.starts, err = adm.ListStartOffsets(ctx, topics...); err == nil {
		b.ends, err = adm.ListEndOffsets(ctx, topics...)
	}
	if err == nil && to.kind == toTime {
		b.times, err = adm.ListOffsetsAfterMilli(ctx, to.ms, topics...)
	}
	if err != nil {
		return b, fmt.Errorf("ask for the offsets of %s: %w", strings.Join(topics, ", "), err)
	}
	return b, nil
}

// place is the new offset of a partition.
func (b limits) place(to where, topic string, partition int32) (int64, error) {
	start, end := offsetOf(b.starts, topic, partition), offsetOf(b.ends, topic, partition)
	if start == nil || end == nil {
		reason := errors.Join(listError(b.starts, nil, topic, partition), listError(b.ends, nil, topic, partition))
		return 0, fmt.Errorf("ask for the offsets of partition %d of topic %q: %w", partition, topic, reason)
	}
	switch to.kind {
	case toEarliest:
		return *start, nil
	case toOffset:
		return min(max(to.offset, *start), *end), nil
	case toTail:
		return max(*end-to.offset, *start), nil
	case toTime:
		o, ok := b.times.Lookup(topic, partition)
		if !ok || o.Err != nil {
			return 0, fmt.Errorf("ask for the time in partition %d of topic %q: %w", partition, topic, listError(b.times, nil, topic, partition))
		}
		if o.Offset >= 0 {
			return o.Offset, nil
		}
	}
	return *end, nil // latest, or no record is that late
}

// beyond says that no record of a partition is as late as the time yet.
func (b limits) beyond(topic string, partition int32) bool {
	o, ok := b.times.Lookup(topic, partition)
	return ok && o.Err == nil && o.Offset < 0
}
