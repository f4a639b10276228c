package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeFlags are the settings of raftsman consume.
type consumeFlags struct {
	kafka       kafkaFlags
	partition   int32
	offset      string
	count       int64
	follow      bool
	output      string
	printKey    bool
	printOffset bool
	timeout     time.Duration
	group       string
}

func newConsume() *cobra.Command {
	var c consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read a topic's records",
		Long: `Prints records up to the ends that the partitions had at the start, or forever
with --follow. Records of a partition are in order; there is no order between
partitions. With --group the partitions are shared with the group's other members,
and what was printed is committed; it goes on until it is interrupted. Without, no
consumer group is used, and nothing is committed.`,
		Example: `  raftsman consume orders
  raftsman consume orders --follow --offset end --print-key
  raftsman consume orders --partition 0 --offset 100 -n 10 -o json
  raftsman consume orders --group orders-billing
  raftsman consume orders -o '%p %o %d{go[2006-01-02T15:04:05Z07:00]} %k %v\n'`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.Int32Var(&c.partition, "partition", -1, "partition to read; -1: all")
	f.StringVar(&c.offset, "offset", "beginning", "where to start: beginning, end or a number")
	f.Int64VarP(&c.count, "count", "n", 0, "stop after so many records; 0: no limit")
	f.BoolVarP(&c.follow, "follow", "f", false, "wait for further records at the end")
	f.StringVarP(&c.output, "output", "o", "value",
		"value, json (a line each), or a format with %k key, %v value, %o offset, %p partition, %d timestamp, %h{...} headers, \\n and \\t")
	f.BoolVar(&c.printKey, "print-key", false, "with -o value: the key and a tab first")
	f.BoolVar(&c.printOffset, "print-offset", false, "with -o value: partition, tab, offset and a tab first")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "without --follow: how long to wait for the next record before giving up")
	f.StringVar(&c.group, "group", "", "read as a member of this consumer group")
	c.kafka.bind(cmd)
	return cmd
}

func (c *consumeFlags) run(cmd *cobra.Command, topic string) error {
	from, err := parseOffset(c.offset)
	switch {
	case err != nil:
		return usageError{err}
	case c.partition < -1:
		return usageError{fmt.Errorf("--partition is %d: it must be at least 0, or -1 for all", c.partition)}
	case c.count < 0:
		return usageError{fmt.Errorf("--count is %d: it must not be negative", c.count)}
	case c.timeout <= 0:
		return usageError{fmt.Errorf("--timeout is %s: it must be positive", c.timeout)}
	}
	print, err := newPrinter(c.output, c.printKey, c.printOffset)
	if err != nil {
		return usageError{err}
	}
	if c.group != "" {
		return c.runGroup(cmd, topic, from, print)
	}
	var spans spans
	err = c.kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
		spans, err = c.spans(ctx, adm, topic, from)
		return err
	})
	if err != nil {
		return err
	}
	if !c.follow {
		spans.dropEmpty()
	}
	if len(spans) == 0 {
		return nil
	}
	client, err := c.kafka.connect(cmd, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: spans.starts()}),
		kgo.FetchMaxPartitionBytes(8<<20), kgo.FetchMaxBytes(32<<20), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 256<<10)
	err = c.copy(cmd.Context(), client, out, print, spans)
	return errors.Join(err, out.Flush())
}

// copy prints records until all spans are done, enough were printed, or ctx ends.
func (c *consumeFlags) copy(ctx context.Context, client *kgo.Client, out *bufio.Writer, print printer, left spans) error {
	var line []byte
	for printed := int64(0); ; {
		fetches, err := c.poll(ctx, client)
		if err != nil || fetches == nil {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			s, ok := left[r.Partition]
			if !ok || r.Offset < s.start {
				continue
			}
			if c.follow || r.Offset < s.end {
				line = print(line[:0], r)
				if _, err := out.Write(line); err != nil {
					return fmt.Errorf("write: %w", err)
				}
				if printed++; printed == c.count {
					return nil
				}
			}
			if !c.follow && r.Offset >= s.end-1 {
				delete(left, r.Partition)
			}
		}
		if !c.follow && len(left) == 0 {
			return nil
		}
		if err := out.Flush(); err != nil { // there is nothing more to print just now
			return fmt.Errorf("write: %w", err)
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
	}
}

// poll waits for records. It returns nil when ctx has ended.
func (c *consumeFlags) poll(ctx context.Context, client *kgo.Client) (kgo.Fetches, error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if !c.follow {
		wait, cancel = context.WithTimeout(ctx, c.timeout)
	}
	defer cancel()
	fetches := client.PollFetches(wait)
	switch {
	case ctx.Err() != nil && c.follow:
		return nil, nil // how one ends --follow
	case ctx.Err() != nil:
		return nil, errors.New("interrupted")
	case wait.Err() != nil && fetches.NumRecords() == 0:
		return nil, fmt.Errorf("no record for %s, before the end was reached; has each partition a leader? See raftsman cluster status", c.timeout)
	}
	return fetches, nil
}

func fetchError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) {
			continue // of a poll that brought records, too
		}
		return fmt.Errorf("read partition %d of topic %q: %w", e.Partition, e.Topic, e.Err)
	}
	return nil
}

// Where to start, besides a number.
const (
	fromBeginning = -2
	fromEnd       = -1
)

func parseOffset(text string) (int64, error) {
	switch text {
	case "beginning":
		return fromBeginning, nil
	case "end":
		return fromEnd, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--offset %q: it must be beginning, end or a number", text)
	}
	return n, nil
}

// span is what to read of a partition: from start to before end.
type span struct{ start, end int64 }

type spans map[int32]span

// spans asks where the partitions begin and end now.
func (c *consumeFlags) spans(ctx context.Context, adm *kadm.Client, topic string, from int64) (spans, error) {
	t, err := topicMetadata(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	wanted := t.Partitions.Numbers()
	if c.partition >= 0 {
		if !slices.Contains(wanted, c.partition) {
			return nil, fmt.Errorf("--partition %d: topic %q has %s", c.partition, topic, plural(len(wanted), "partition", "partitions"))
		}
		wanted = []int32{c.partition}
	}
	starts, startsErr := adm.ListStartOffsets(ctx, topic)
	ends, endsErr := adm.ListEndOffsets(ctx, topic)
	all := make(spans, len(wanted))
	for _, p := range wanted {
		start, end := offsetOf(starts, topic, p), offsetOf(ends, topic, p)
		if start == nil || end == nil {
			reason := errors.Join(listError(starts, startsErr, topic, p), listError(ends, endsErr, topic, p))
			return nil, fmt.Errorf("ask for the offsets of partition %d of topic %q: %w", p, topic, reason)
		}
		s, err := span{*start, *end}.from(from, c.follow)
		if err != nil {
			return nil, fmt.Errorf("--offset: partition %d of topic %q %w", p, topic, err)
		}
		all[p] = s
	}
	return all, nil
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

// from moves the start. What is gone already is left out, as from the beginning;
// one can't wait for records at an offset that does not exist yet.
func (s span) from(offset int64, follow bool) (span, error) {
	switch {
	case offset == fromBeginning:
	case offset == fromEnd:
		s.start = s.end
	case offset > s.end && follow:
		return s, fmt.Errorf("ends at %d, before %d", s.end, offset)
	default:
		s.start = max(s.start, offset)
	}
	return s, nil
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
