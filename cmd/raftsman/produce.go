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
	kafka        kafkaFlags
	file         string
	keySeparator string
	partition    int32
	acks         string
	compression  string
	timeout      time.Duration
	batchBytes   int32
}

func newProduce() *cobra.Command {
	var p produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write lines to a topic, a record each",
		Long: `Reads lines from standard input or a file and writes each as a record, without
its newline. Exits with 1 if a record was not acknowledged.`,
		Example: `  echo hello | raftsman produce greetings
  raftsman produce orders --file orders.txt --key-separator : --compression zstd`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&p.file, "file", "-", "file to read; -: standard input")
	f.StringVar(&p.keySeparator, "key-separator", "", "text between key and value in a line (default: lines have no keys)")
	f.Int32Var(&p.partition, "partition", -1, "partition to write to; -1: by key, or spread")
	f.StringVar(&p.acks, "acks", "all", "whose acknowledgement to wait for: all, 1 (the leader) or 0 (nobody); below all, a retry may duplicate records")
	f.StringVar(&p.compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	f.DurationVar(&p.timeout, "timeout", 30*time.Second, "how long a record may take before it has failed")
	f.Int32Var(&p.batchBytes, "max-message-bytes", 1_000_012, "largest batch, and so the largest record; the topic's max.message.bytes must allow it")
	p.kafka.bind(cmd)
	return cmd
}

// options checks the flags.
func (p *produceFlags) options() ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[p.compression]
	switch {
	case !ok:
		return nil, fmt.Errorf("--compression %q: it must be none, gzip, snappy, lz4 or zstd", p.compression)
	case p.partition < -1:
		return nil, fmt.Errorf("--partition is %d: it must be at least 0, or -1 for any", p.partition)
	case p.timeout < time.Second:
		return nil, fmt.Errorf("--timeout is %s: it must be at least 1s", p.timeout)
	case p.batchBytes < 1<<10 || p.batchBytes > maxLine:
		return nil, fmt.Errorf("--max-message-bytes is %d: it must be between %d and %d", p.batchBytes, 1<<10, maxLine)
	}
	opts := []kgo.Opt{
		kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(p.batchBytes),
		kgo.MaxBufferedRecords(maxBufferedRecords), kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.RecordDeliveryTimeout(p.timeout), kgo.AllowAutoTopicCreation(),
	}
	switch p.acks {
	case "all":
		// A record that failed is not written again by this command.
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowIdempotentProduceCancellation())
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, fmt.Errorf("--acks %q: it must be all, 1 or 0", p.acks)
	}
	if p.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

func (p *produceFlags) run(cmd *cobra.Command, topic string) error {
	opts, err := p.options()
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

	errs := cmd.ErrOrStderr()
	s := &sender{client: client, topic: topic, partition: max(p.partition, 0), separator: []byte(p.keySeparator)}
	stop := s.progress(errs)
	err = s.sendAll(cmd.Context(), in)
	stop()
	fmt.Fprintln(errs, plural(s.written.Load(), "record", "records"))
	return s.result(err)
}

// sender writes lines and counts what became of them.
type sender struct {
	client    *kgo.Client
	topic     string
	partition int32 // used by a manual partitioner
	separator []byte

	written, failed atomic.Int64
	mu              sync.Mutex
	first           error // the first failure
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
		key, value, ok := splitKey(bytes.Clone(lines.Bytes()), s.separator)
		if !ok {
			s.fail(fmt.Errorf("line %d has no key: %q is not in it", n, s.separator))
			continue
		}
		// Produce blocks while too much is waiting. Its context is not ours: an
		// interrupt lets what was read already be written.
		r := &kgo.Record{Topic: s.topic, Partition: s.partition, Key: key, Value: value}
		s.client.Produce(context.WithoutCancel(ctx), r, s.done)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func (s *sender) done(_ *kgo.Record, err error) {
	if err != nil {
		s.fail(err)
		return
	}
	s.written.Add(1)
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

// progress shows the count now and then, if a person sees it, until stop.
func (s *sender) progress(w io.Writer) (stop func()) {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(w, "\r\x1b[K%d written, %d failed", s.written.Load(), s.failed.Load())
			}
		}
	}()
	return func() { close(quit); <-ended }
}

// splitLines cuts at newlines and keeps everything else, carriage returns too.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// splitKey cuts a line at the first separator; without one there is no key,
// which is not an empty one.
func splitKey(line, separator []byte) (key, value []byte, ok bool) {
	if line == nil {
		line = []byte{} // an empty value, not a missing one
	}
	if len(separator) == 0 {
		return nil, line, true
	}
	return bytes.Cut(line, separator)
}
