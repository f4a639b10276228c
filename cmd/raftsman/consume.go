package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeFlags are the settings of raftsman consume.
type consumeFlags struct {
	kafka         kafkaFlags
	partitions    []int32
	offset, until string
	max           int64
	follow        bool
	format        string
	printKey      bool
	printOffset   bool
	key, value    string
	headers       []string
	timeout       time.Duration
	group         string

	// Read from the flags:
	from   where
	to     *where // nil: no --until
	print  printer
	filter filter
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
consumer group is used, and nothing is committed.

Formats:
  value       the value and a newline
  raw         the value's bytes, and nothing between records
  json        a JSON object in a line; raftsman produce --format json reads it
  yaml        a YAML document
  hex         partition, offset, key and value in hexadecimal, between tabs
  '%p %k\n'   a format: %t topic, %p partition, %o offset, %d timestamp, %k key, %v value,
              %h{%k=%v } headers; \n, \t; %v{hex}, %v{base64}, %d{strftime[%F %T]}
  '{{.Key}}'  a Go template and a newline, with .Topic .Partition .Offset .Timestamp
              .Key .Value .Headers (.Key, .Value), and the functions hex, base64, json

--key, --value and --header choose records: each takes a text that must be in it,
or a regular expression between slashes. What they leave out counts neither for
--max nor as printed; with --group it is committed all the same.`,
		Example: `  raftsman consume orders
  raftsman consume orders --follow --offset end --print-key
  raftsman consume orders --partition 0,2 --offset 100 --max 10 --format json
  raftsman consume orders --offset -5                         # the last 5 of each partition
  raftsman consume orders --offset @-1h --until @-30m --value '/"total":[0-9]{4}/'
  raftsman consume orders --group orders-billing
  raftsman consume orders --format '%p %o %d{go[2006-01-02T15:04:05Z07:00]} %k %v\n'
  raftsman consume orders --format '{{.Offset}} {{json .Value}}' --header trace-id`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.Int32SliceVar(&c.partitions, "partition", nil, "partitions to read, N,... (default: all)")
	f.StringVar(&c.offset, "offset", "start", "where to start: "+whereHelp)
	f.StringVar(&c.until, "until", "", "where to stop, before what is there: as --offset (default: the end as it is at the start; with --follow never)")
	f.Int64VarP(&c.max, "max", "n", 0, "stop after so many records; 0: no limit")
	f.BoolVarP(&c.follow, "follow", "f", false, "wait for further records at the end")
	f.StringVarP(&c.format, "format", "o", "value", "how to print a record: value, raw, json, yaml, hex, a format with %k and so on, or a Go template")
	f.BoolVar(&c.printKey, "print-key", false, "with --format value: the key and a tab first")
	f.BoolVar(&c.printOffset, "print-offset", false, "with --format value: partition, tab, offset and a tab first")
	f.StringVar(&c.key, "key", "", "only records whose key matches: "+matchHelp)
	f.StringVar(&c.value, "value", "", "only records whose value matches: "+matchHelp)
	f.StringArrayVar(&c.headers, "header", nil, "only records with this header, NAME or NAME=VALUE, where VALUE is "+matchHelp+"; may be repeated")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "without --follow: how long to wait for the next record before giving up")
	f.StringVar(&c.group, "group", "", "read as a member of this consumer group")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name { // what they were called
		case "output":
			name = "format"
		case "count":
			name = "max"
		}
		return pflag.NormalizedName(name)
	})
	c.kafka.bind(cmd)
	cmd.ValidArgsFunction = c.kafka.completeTopics
	completeFlag(cmd, "offset", completeWhere)
	completeFlag(cmd, "until", completeWhere)
	completeFlag(cmd, "format", cobra.FixedCompletions(recordFormats, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "group", c.kafka.completeGroups)
	return cmd
}

// parse checks the flags.
func (c *consumeFlags) parse() (err error) {
	now := time.Now()
	if c.from, err = parseWhere("--offset", c.offset, now); err != nil {
		return err
	}
	if c.until != "" {
		to, err := parseWhere("--until", c.until, now)
		if err != nil {
			return err
		}
		c.to = &to
	}
	for _, p := range c.partitions {
		if p < 0 {
			return fmt.Errorf("--partition is %d: it must be at least 0", p)
		}
	}
	switch {
	case c.max < 0:
		return fmt.Errorf("--max is %d: it must not be negative", c.max)
	case c.timeout <= 0:
		return fmt.Errorf("--timeout is %s: it must be positive", c.timeout)
	}
	if c.filter, err = newFilter(c.key, c.value, c.headers); err != nil {
		return err
	}
	c.print, err = newPrinter(c.format, c.printKey, c.printOffset)
	return err
}

func (c *consumeFlags) run(cmd *cobra.Command, topic string) error {
	if err := c.parse(); err != nil {
		return usageError{err}
	}
	if c.group != "" {
		return c.runGroup(cmd, topic)
	}
	var spans spans
	err := c.kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) (err error) {
		spans, err = c.spans(ctx, adm, topic)
		return err
	})
	if err != nil {
		return err
	}
	spans.dropEmpty()
	if len(spans) == 0 {
		return nil
	}
	client, err := c.kafka.connect(cmd, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: spans.starts()}),
		kgo.FetchMaxPartitionBytes(8<<20), kgo.FetchMaxBytes(32<<20), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	p := c.printing(cmd)
	err = c.copy(cmd.Context(), client, p, spans)
	return errors.Join(err, p.end())
}

// lastPatience is how long --follow waits for a record when --until is over.
const lastPatience = time.Second

// deadline is when --follow has waited long enough for a next record, though none
// comes that is as late as --until.
func (c *consumeFlags) deadline() (time.Time, bool) {
	if !c.follow || c.to == nil || c.to.kind != toTime {
		return time.Time{}, false
	}
	return time.UnixMilli(max(c.to.ms, time.Now().Add(lastPatience).UnixMilli())), true
}

// printing is the output with its filter, and how far it is.
type printing struct {
	c             *consumeFlags
	out           *bufio.Writer
	line          []byte
	seen, printed atomic.Int64
	stop          func() // of the live line
}

// printing begins to print. A person whose records go into a file sees how many
// they are.
func (c *consumeFlags) printing(cmd *cobra.Command) *printing {
	p := &printing{c: c, out: bufio.NewWriterSize(cmd.OutOrStdout(), 256<<10), stop: func() {}}
	if !screenOf(cmd.OutOrStdout()).terminal {
		p.stop = live(cmd.ErrOrStderr(), func() string {
			return fmt.Sprintf("%s read, %d printed", plural(p.seen.Load(), "record", "records"), p.printed.Load())
		})
	}
	return p
}

// record prints a record that is chosen; enough says that --max is reached.
func (p *printing) record(r *kgo.Record) (enough bool, err error) {
	p.seen.Add(1)
	if !p.c.filter.wants(r) {
		return false, nil
	}
	p.line = p.c.print(p.line[:0], r)
	if _, err := p.out.Write(p.line); err != nil {
		return false, fmt.Errorf("write: %w", err)
	}
	return p.printed.Add(1) == p.c.max, nil
}

func (p *printing) end() error {
	p.stop()
	return p.out.Flush()
}

// copy prints records until all spans are done, enough were printed, or ctx ends.
func (c *consumeFlags) copy(ctx context.Context, client *kgo.Client, out *printing, left spans) error {
	for {
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
			if c.follow && c.to != nil && c.to.kind == toTime && r.Timestamp.UnixMilli() >= c.to.ms {
				s.end = r.Offset
			}
			if r.Offset < s.end {
				if enough, err := out.record(r); enough || err != nil {
					return err
				}
			}
			if r.Offset >= s.end-1 {
				delete(left, r.Partition)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if err := out.out.Flush(); err != nil { // there is nothing more to print just now
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
	at, ends := c.deadline()
	switch {
	case ends:
		wait, cancel = context.WithDeadline(ctx, at)
	case !c.follow:
		wait, cancel = context.WithTimeout(ctx, c.timeout)
	}
	defer cancel()
	fetches := client.PollFetches(wait)
	switch {
	case ctx.Err() != nil && c.follow:
		return nil, nil // how one ends --follow
	case ctx.Err() != nil:
		return nil, errors.New("interrupted")
	case ends && wait.Err() != nil && fetches.NumRecords() == 0:
		return nil, nil // --until is over
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
