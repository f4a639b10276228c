package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newBench() *cobra.Command {
	return group("bench", "Measure how fast the cluster writes, reads and fails over", newBenchProduce(), newBenchConsume(), newBenchFailover())
}

const benchTopicHelp = `
Without a TOPIC one is made, and deleted at the end. With -o json the result is an
object, with the histogram; how it goes is shown on standard error.`

// benchFlags are those of all benchmarks.
type benchFlags struct {
	kafka      kafkaFlags
	format     outputFormat
	duration   time.Duration
	size       int
	partitions int32
	replicas   int16
	keep       bool
}

func (b *benchFlags) bind(cmd *cobra.Command, duration time.Duration, size int) {
	f := cmd.Flags()
	f.DurationVar(&b.duration, "duration", duration, "how long to go on; Ctrl-C ends it earlier, and shows the result")
	f.IntVar(&b.size, "size", size, "bytes of a record's value; random, so that they can't be compressed")
	f.Int32Var(&b.partitions, "partitions", 3, "partitions of the topic that is made")
	f.Int16Var(&b.replicas, "replication-factor", -1, "replicas of each of them; -1: the cluster's default")
	f.BoolVar(&b.keep, "keep", false, "keep the topic that is made")
	b.kafka.bind(cmd)
	b.format.bind(cmd)
	cmd.ValidArgsFunction = b.kafka.completeTopics
}

func (b *benchFlags) check() error {
	switch {
	case b.duration <= 0:
		return fmt.Errorf("--duration is %s: it must be positive", b.duration)
	case b.size < 1 || b.size > maxLine:
		return fmt.Errorf("--size is %d: it must be between 1 and %d", b.size, maxLine)
	case b.partitions < 1:
		return fmt.Errorf("--partitions is %d: it must be at least 1", b.partitions)
	}
	return nil
}

func atMostTopic(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("%s takes one TOPIC at most, got %d arguments; see %s --help", commandName(cmd), len(args), cmd.CommandPath())}
	}
	return nil
}

// benchTopic is what is written to.
type benchTopic struct {
	name       string
	partitions int32
	made       bool
}

// topic finds the topic of the arguments, or makes one; remove deletes that again.
func (b *benchFlags) topic(cmd *cobra.Command, args []string) (t benchTopic, remove func() error, err error) {
	err = b.kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
		if len(args) == 1 {
			d, err := topicMetadata(ctx, adm, args[0])
			t = benchTopic{args[0], int32(len(d.Partitions)), false}
			return err
		}
		t = benchTopic{"raftsman-bench-" + strings.ToLower(rand.Text()[:8]), b.partitions, true}
		if resp, err := adm.CreateTopic(ctx, b.partitions, b.replicas, nil, t.name); err != nil {
			return fmt.Errorf("create topic %q: %w", t.name, explained(err, resp.ErrMessage))
		}
		_, err := awaitLeaders(ctx, adm, t.name)
		return err
	})
	if !t.made || b.keep {
		return t, func() error { return nil }, err
	}
	return t, func() error { return b.remove(cmd, t.name) }, err
}

// remove deletes the topic, though the command was interrupted.
func (b *benchFlags) remove(cmd *cobra.Command, topic string) error {
	cmd.SetContext(context.WithoutCancel(cmd.Context()))
	return b.kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
		resps, err := adm.DeleteTopics(ctx, topic)
		if err = errors.Join(err, resps[topic].Err); err != nil {
			return fmt.Errorf("delete topic %q, which was made for the benchmark: %w; raftsman topic delete %s", topic, err, topic)
		}
		return nil
	})
}

// connect returns a client of its own for each of n writers or readers.
func (b *benchFlags) connect(cmd *cobra.Command, n int, opts func(i int) []kgo.Opt) (clients []*kgo.Client, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range clients {
			c.Close()
		}
	}
	for i := range n {
		c, err := b.kafka.connect(cmd, opts(i)...)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		clients = append(clients, c)
	}
	return clients, closeAll, nil
}

// payload is random bytes.
func payload(size int) []byte {
	b := make([]byte, size)
	src := mrand.NewChaCha8([32]byte{})
	_, _ = src.Read(b) // never fails
	return b
}

// Latencies are counted in microseconds, to three digits, up to an hour.
const (
	latencyUnit = time.Microsecond
	latencyMost = int64(time.Hour / latencyUnit)
)

// meter counts what a benchmark does. It may be used at once.
type meter struct {
	began time.Time

	mu              sync.Mutex
	latency, recent *hdrhistogram.Histogram
	records, bytes  int64
	failed          int64
	first           error
	lastRecords     int64 // at the last line
	lastBytes       int64
	lastLine        time.Time
}

func newMeter() *meter {
	now := time.Now()
	return &meter{began: now, lastLine: now, latency: hdrhistogram.New(1, latencyMost, 3), recent: hdrhistogram.New(1, latencyMost, 3)}
}

// add counts records that were written or read.
func (m *meter) add(records, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records += records
	m.bytes += bytes
}

// took counts how long one thing took.
func (m *meter) took(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tookLocked(d)
}

func (m *meter) tookLocked(d time.Duration) {
	v := min(max(int64(d/latencyUnit), 1), latencyMost)
	_ = m.latency.RecordValue(v) // it is within the bounds
	_ = m.recent.RecordValue(v)
}

// acked counts a record that was acknowledged, or was not.
func (m *meter) acked(bytes int, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failed++
		if m.first == nil {
			m.first = err
		}
		return
	}
	m.records++
	m.bytes += int64(bytes)
	m.tookLocked(took)
}

func (m *meter) count() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records
}

// line says what was done since the last line.
func (m *meter) line() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	seconds := max(now.Sub(m.lastLine).Seconds(), 0.001)
	text := fmt.Sprintf("%4.0fs  %9.0f records/s  %7.1f MB/s  p50 %s  p99 %s  max %s", now.Sub(m.began).Seconds(),
		float64(m.records-m.lastRecords)/seconds, float64(m.bytes-m.lastBytes)/1e6/seconds,
		milliseconds(m.recent.ValueAtQuantile(50)), milliseconds(m.recent.ValueAtQuantile(99)), milliseconds(m.recent.Max()))
	if m.failed > 0 {
		text += fmt.Sprintf("  %d failed", m.failed)
	}
	m.lastLine, m.lastRecords, m.lastBytes = now, m.records, m.bytes
	m.recent.Reset()
	return text
}

// linePeriod is how often a benchmark says how it goes; to a file only every
// quietLines times.
const (
	linePeriod = time.Second
	quietLines = 5
)

// report shows a line again and again, until stop.
func report(cmd *cobra.Command, line func() string) (stop func()) {
	p := newProgress(cmd.ErrOrStderr())
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(linePeriod)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-quit:
				p.end()
				return
			case <-tick.C:
				if p.terminal || n%quietLines == 0 {
					text := line()
					p.show(text, text)
				}
			}
		}
	}()
	return func() { close(quit); <-ended }
}

// finish removes the topic and shows the result, whatever came before.
func (b *benchFlags) finish(cmd *cobra.Command, r *benchResult, err error, remove func() error) error {
	err = errors.Join(err, remove())
	if renderErr := render(cmd, b.format, r, r.table); renderErr != nil && !errors.Is(renderErr, os.ErrClosed) {
		err = errors.Join(err, renderErr)
	}
	if r.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%s; the first: %s", plural(r.Failed, "record failed", "records failed"), r.FirstError))
	}
	return err
}
