package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"
)

// What may wait to be sent: reading stops when it is reached, so that a file
// of any size can be produced.
const (
	maxBufferedRecords = 100_000
	maxBufferedBytes   = 64 << 20
	maxLine            = 64 << 20
)

// produceFlags are the settings of raftsman produce.
type produceFlags struct {
	kafka          kafkaFlags
	file           string
	format         string
	key            string
	keySeparator   string
	headers        []string
	partition      int32
	keepPartitions bool
	acks           string
	compression    string
	rate           float64
	timeout        time.Duration
	batchBytes     int32
	output         outputFormat
}

func newProduce() *cobra.Command {
	var p produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write lines to a topic, a record each",
		Long: `Reads lines from standard input or a file and writes each as a record, without
its newline. With --format json a line is a JSON object as raftsman consume
--format json writes it: key, value, headers and timestamp, of which all may be
missing; what is no UTF-8 is in key_base64 and value_base64, and a value that is
null is a tombstone. Topic and offset are ignored, and so is the partition unless
--keep-partitions.

Exits with 1 if a line could not be read or a record was not acknowledged.`,
		Example: `  echo hello | raftsman produce greetings
  raftsman produce orders --file orders.txt --key-separator : --compression zstd
  seq 100 | raftsman produce orders --key customer-7 --header source=import --rate 10
  raftsman consume orders --format json | raftsman produce copy --format json --keep-partitions`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&p.file, "file", "-", "file to read; -: standard input")
	f.StringVar(&p.format, "format", "lines", "what a line is: lines: a value, after a key if there is a --key-separator; json: an object")
	f.StringVar(&p.key, "key", "", "key of every record (default: none)")
	f.StringVar(&p.keySeparator, "key-separator", "", "text between key and value in a line (default: lines have no keys)")
	f.StringArrayVarP(&p.headers, "header", "H", nil, "header of every record, NAME=VALUE; may be repeated")
	f.Int32Var(&p.partition, "partition", -1, "partition to write to; -1: by key, or spread")
	f.BoolVar(&p.keepPartitions, "keep-partitions", false, "with --format json: write each record to the partition that its line names")
	f.StringVar(&p.acks, "acks", "all", "whose acknowledgement to wait for: all, 1 (the leader) or 0 (nobody); below all, a retry may duplicate records")
	f.StringVar(&p.compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	f.Float64Var(&p.rate, "rate", 0, "records to write in a second; 0: no limit")
	f.DurationVar(&p.timeout, "timeout", 30*time.Second, "how long a record may take before it has failed")
	f.Int32Var(&p.batchBytes, "max-message-bytes", 1_000_012, "largest batch, and so the largest record; the topic's max.message.bytes must allow it")
	p.kafka.bind(cmd)
	p.output.bind(cmd)
	cmd.ValidArgsFunction = p.kafka.completeTopics
	for flag, values := range map[string][]string{
		"format": {"lines", "json"}, "acks": {"all", "1", "0"}, "compression": {"none", "gzip", "snappy", "lz4", "zstd"},
	} {
		completeFlag(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// options checks the flags.
func (p *produceFlags) options() ([]kgo.Opt, error) {
	switch {
	case p.partition < -1:
		return nil, fmt.Errorf("--partition is %d: it must be at least 0, or -1 for any", p.partition)
	case p.timeout < time.Second:
		return nil, fmt.Errorf("--timeout is %s: it must be at least 1s", p.timeout)
	case p.batchBytes < 1<<10 || p.batchBytes > maxLine:
		return nil, fmt.Errorf("--max-message-bytes is %d: it must be between %d and %d", p.batchBytes, 1<<10, maxLine)
	case p.format != "lines" && p.format != "json":
		return nil, fmt.Errorf("--format %q: it must be lines or json", p.format)
	case p.format == "json" && (p.keySeparator != "" || p.key != ""):
		return nil, errors.New("--key and --key-separator are for --format lines: in JSON each line has its key")
	case p.key != "" && p.keySeparator != "":
		return nil, errors.New("--key and --key-separator exclude each other")
	case p.keepPartitions && (p.format != "json" || p.partition >= 0):
		return nil, errors.New("--keep-partitions is for --format json, without --partition")
	case p.rate < 0:
		return nil, fmt.Errorf("--rate is %g: it must not be negative", p.rate)
	}
	opts := []kgo.Opt{
		kgo.ProducerBatchMaxBytes(p.batchBytes), kgo.MaxBufferedRecords(maxBufferedRecords), kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.RecordDeliveryTimeout(p.timeout), kgo.AllowAutoTopicCreation(),
	}
	more, err := writeOptions(p.acks, p.compression)
	if err != nil {
		return nil, err
	}
	if p.partition >= 0 || p.keepPartitions {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return append(opts, more...), nil
}

// writeOptions are those of --acks and --compression.
func writeOptions(acks, compression string) ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[compression]
	if !ok {
		return nil, fmt.Errorf("--compression %q: it must be none, gzip, snappy, lz4 or zstd", compression)
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec)}
	switch acks {
	case "all":
		// A record that failed is not written again by this command.
		return append(opts, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowIdempotentProduceCancellation()), nil
	case "1":
		return append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()), nil
	case "0":
		return append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()), nil
	}
	return nil, fmt.Errorf("--acks %q: it must be all, 1 or 0", acks)
}

func (p *produceFlags) run(cmd *cobra.Command, topic string) error {
	opts, err := p.options()
	if err != nil {
		return usageError{err}
	}
	parse, err := p.parser()
	if err != nil {
		return usageError{err}
	}
	in := cmd.InOrStdin()
	if p.file != "-" {
		f, err := os.Open(p.file)
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		defer f.Close()
		in = f
	}
	client, err := p.kafka.connect(cmd, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	partitions, err := ensureTopic(cmd.Context(), client, topic)
	if err != nil {
		return err
	}
	if p.partition >= partitions {
		return fmt.Errorf("--partition %d: topic %q has %s", p.partition, topic, plural(int(partitions), "partition", "partitions"))
	}

	began := time.Now()
	s := &sender{client: client, topic: topic, parse: parse, partitions: partitions, pace: newPace(p.rate)}
	stop := live(cmd.ErrOrStderr(), func() string { return fmt.Sprintf("%d written, %d failed", s.written.Load(), s.failed.Load()) })
	err = s.sendAll(cmd.Context(), in)
	stop()
	sum := produceSummary{topic, s.written.Load(), s.failed.Load(), s.bytes.Load(), time.Since(began).Seconds()}
	if p.output == "table" {
		fmt.Fprintln(cmd.ErrOrStderr(), plural(sum.Records, "record", "records"))
	} else if err := render(cmd, p.output, sum, nil); err != nil {
		return err
	}
	return s.result(err)
}

// produceSummary is what produce -o json and yaml show.
type produceSummary struct {
	Topic   string  `json:"topic"`
	Records int64   `json:"records"` // acknowledged
	Failed  int64   `json:"failed"`
	Bytes   int64   `json:"bytes"` // of keys and values that were acknowledged
	Seconds float64 `json:"seconds"`
}

// newPace limits how many records are written in a second; 0 is no limit.
func newPace(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/100)))
}

// sender writes lines and counts what became of them.
type sender struct {
	client     *kgo.Client
	topic      string
	partitions int32 // that the topic has
	parse      lineParser
	pace       *rate.Limiter

	written, failed, bytes atomic.Int64
	mu                     sync.Mutex
	first                  error // the first failure
}

// sendAll writes all lines and waits for their acknowledgements, or until ctx
// ends. The reader may be stuck in a terminal then: it is left behind, its
// client refuses its records.
func (s *sender) sendAll(ctx context.Context, in io.Reader) error {
	read := make(chan error, 1)
	go func() { read <- s.sendLines(ctx, in) }()
	var err error
	select {
	case err = <-read:
	case <-ctx.Done():
		err = errors.New("interrupted")
	}
	wait := ctx
	if ctx.Err() != nil { // what was read already may still arrive
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
	}
	if flushErr := s.client.Flush(wait); flushErr != nil {
		err = errors.Join(err, fmt.Errorf("%s not acknowledged", plural(s.client.BufferedProduceRecords(), "record was", "records were")))
	}
	return err
}

func (s *sender) sendLines(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 256<<10), maxLine)
	lines.Split(splitLines)
	for n := int64(1); lines.Scan(); n++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r, err := s.parse(bytes.Clone(lines.Bytes()))
		if err == nil && r.Partition >= s.partitions {
			err = fmt.Errorf("partition %d: topic %q has %s, from 0", r.Partition, s.topic, plural(s.partitions, "partition", "partitions"))
		}
		if err != nil {
			s.fail(fmt.Errorf("line %d: %w", n, err))
			continue
		}
		r.Topic = s.topic
		if err := s.pace.Wait(ctx); err != nil {
			return err
		}
		// Produce blocks while too much is waiting. Its context is not ours: an
		// interrupt lets what was read already be written.
		s.client.Produce(context.WithoutCancel(ctx), r, s.done)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func (s *sender) done(r *kgo.Record, err error) {
	if err != nil {
		s.fail(err)
		return
	}
	s.written.Add(1)
	s.bytes.Add(int64(len(r.Key) + len(r.Value)))
}

func (s *sender) fail(err error) {
	s.failed.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		s.first = err
	}
}

// result adds the records that failed to err.
func (s *sender) result(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.failed.Load(); n > 0 {
		err = errors.Join(fmt.Errorf("%s; the first: %w", plural(n, "record failed", "records failed"), s.first), err)
	}
	return err
}
