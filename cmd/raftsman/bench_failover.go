package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

// benchFailover are the settings of bench failover.
type benchFailover struct {
	benchFlags
	ask       opFlags
	rate      float64
	threshold time.Duration
	transfers int
	every     time.Duration
}

// gapResult is how long partitions acknowledged nothing.
type gapResult struct {
	ThresholdMS float64 `json:"threshold_ms"`
	Transfers   int     `json:"transfers"` // leaderships that this command handed over
	Longest     float64 `json:"longest_ms"`
	Count       int     `json:"count"` // all of them; some are not listed if they are many
	Gaps        []gap   `json:"gaps"`
}

// gap is a time without an acknowledgement in one partition.
type gap struct {
	Partition int32     `json:"partition"`
	At        time.Time `json:"at"` // the last acknowledgement before
	MS        float64   `json:"ms"`
	Leader    int32     `json:"leader"` // that acknowledged the next record; -1: none has yet
}

const maxGaps = 1000

func newBenchFailover() *cobra.Command {
	var b benchFailover
	cmd := &cobra.Command{
		Use:   "failover [TOPIC]",
		Short: "Measure how long partitions acknowledge nothing while leaders change",
		Long: `Writes a steady stream to every partition of a topic, and shows each time that a
partition has acknowledged nothing for longer than --threshold: how long, and who
leads it then. Meanwhile kill, stop, drain or cut off nodes as you like; or let
--transfer hand leaderships over, one every --every. A record is tried until it is
acknowledged, so none fails; its time counts from when it was due.
` + benchTopicHelp,
		Example: `  raftsman bench failover --duration 2m            # and kill nodes meanwhile
  raftsman bench failover --transfer 10 --every 3s
  raftsman bench failover orders --rate 1000 --threshold 50ms -o json`,
		Args: atMostTopic,
		RunE: func(cmd *cobra.Command, args []string) error { return b.run(cmd, args) },
	}
	f := cmd.Flags()
	f.Float64Var(&b.rate, "rate", 100, "records in a second, to each partition")
	f.DurationVar(&b.threshold, "threshold", 100*time.Millisecond, "shortest time without an acknowledgement that is shown")
	f.IntVar(&b.transfers, "transfer", 0, "leaderships to hand over; needs --http")
	f.DurationVar(&b.every, "every", 3*time.Second, "with --transfer: time between two")
	b.ask.to.bind(cmd)
	b.bind(cmd, 30*time.Second, 100)
	return cmd
}

func (b *benchFailover) check() error {
	switch {
	case b.rate <= 0 || b.rate > 100_000:
		return fmt.Errorf("--rate is %g: it must be above 0, and at most 100000", b.rate)
	case b.threshold < time.Millisecond || b.threshold.Seconds() < 2/b.rate:
		return fmt.Errorf("--threshold is %s: it must be at least 1ms, and the time of two records at --rate (%s)", b.threshold, time.Duration(2/b.rate*float64(time.Second)))
	case b.transfers < 0:
		return fmt.Errorf("--transfer is %d: it must not be negative", b.transfers)
	case b.every < 100*time.Millisecond:
		return fmt.Errorf("--every is %s: it must be at least 100ms", b.every)
	}
	return b.benchFlags.check()
}

func (b *benchFailover) run(cmd *cobra.Command, args []string) error {
	if err := b.check(); err != nil {
		return usageError{err}
	}
	t, remove, err := b.topic(cmd, args)
	if err != nil {
		return err
	}
	clients, closeAll, err := b.connect(cmd, 1, func(int) []kgo.Opt {
		return []kgo.Opt{kgo.DefaultProduceTopic(t.name), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1 << 20),
			kgo.RetryTimeout(0), kgo.RecordDeliveryTimeout(0)}
	})
	if err != nil {
		return errors.Join(err, remove())
	}
	defer closeAll()
	w := &gapWatch{client: clients[0], topic: t.name, threshold: b.threshold, m: newMeter(), last: make([]time.Time, t.partitions)}
	err = b.measure(cmd, w)
	r := w.m.result("failover", "a record's acknowledgement", t, 1)
	r.Size, r.Acks, r.Failover = b.size, "all", w.result()
	return b.finish(cmd, r, err, remove)
}

// measure writes until the time is over, or an interrupt.
func (b *benchFailover) measure(cmd *cobra.Command, w *gapWatch) error {
	if err := w.warmUp(cmd.Context(), b.size); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), b.duration)
	defer cancel()
	stop := report(cmd, w.line)
	defer stop()
	var wg sync.WaitGroup
	for p := range w.last {
		wg.Go(func() { b.writeOne(ctx, w, int32(p)) })
	}
	moved := make(chan error, 1)
	go func() { moved <- b.transfer(ctx, cmd, w) }()
	wg.Wait()
	err := <-moved
	wait, cancelWait := context.WithTimeout(context.WithoutCancel(ctx), adminTimeout)
	defer cancelWait()
	if flushErr := w.client.Flush(wait); flushErr != nil {
		w.stillSilent()
		err = errors.Join(err, fmt.Errorf("%s not acknowledged within %s after the end", plural(w.client.BufferedProduceRecords(), "record was", "records were"), adminTimeout))
	}
	return err
}

func (b *benchFailover) writeOne(ctx context.Context, w *gapWatch, partition int32) {
	value := payload(b.size)
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
		if !sleepUntil(ctx, due) || ctx.Err() != nil {
			return
		}
		w.client.Produce(context.WithoutCancel(ctx), &kgo.Record{Partition: partition, Value: value}, func(r *kgo.Record, err error) { w.acked(r, due, err) })
	}
}

// transfer hands leaderships over, one partition after the other.
func (b *benchFailover) transfer(ctx context.Context, cmd *cobra.Command, w *gapWatch) error {
	tick := time.NewTicker(b.every)
	defer tick.Stop()
	for n := range b.transfers {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		op, err := b.nextLeader(cmd, w.topic, int32(n%len(w.last)))
		if err == nil {
			_, err = b.ask.ask(cmd, op)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("--transfer: %w", err)
		}
		w.mu.Lock()
		w.transfers++
		w.mu.Unlock()
	}
	return nil
}

// nextLeader chooses an in-sync replica that does not lead.
func (b *benchFailover) nextLeader(cmd *cobra.Command, topic string, partition int32) (cluster.Op, error) {
	var list []health.Partition
	if err := b.ask.to.getJSON(cmd, "/partitions?topic="+topic, &list); err != nil {
		return cluster.Op{}, err
	}
	for _, p := range list {
		if p.TP().Partition != partition {
			continue
		}
		at := slices.Index(p.InSync, p.Leader)
		if len(p.InSync) < 2 {
			return cluster.Op{}, fmt.Errorf("partition %d of topic %q has no other in-sync replica; raftsman partition list --topic %s", partition, topic, topic)
		}
		return cluster.Op{Kind: cluster.OpTransfer, Topic: topic, Partition: partition, Node: p.InSync[(at+1)%len(p.InSync)]}, nil
	}
	return cluster.Op{}, fmt.Errorf("the node knows no partition %d of topic %q yet", partition, topic)
}

// gapWatch notes when each partition has acknowledged.
type gapWatch struct {
	client    *kgo.Client
	topic     string
	threshold time.Duration
	m         *meter

	mu        sync.Mutex
	last      []time.Time // by partition
	gaps      []gap
	count     int
	longest   time.Duration
	transfers int
}

// warmUp has each partition acknowledge once: connections are made by then.
func (w *gapWatch) warmUp(ctx context.Context, size int) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	for p := range w.last {
		if err := w.client.ProduceSync(ctx, &kgo.Record{Partition: int32(p), Value: payload(size)}).FirstErr(); err != nil {
			return fmt.Errorf("write to partition %d of topic %q: %w", p, w.topic, err)
		}
	}
	w.m.began, w.m.lastLine = time.Now(), time.Now()
	for p := range w.last {
		w.last[p] = w.m.began
	}
	return nil
}

func (w *gapWatch) acked(r *kgo.Record, due time.Time, err error) {
	now := time.Now()
	w.m.acked(len(r.Value), now.Sub(due), err)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.last[r.Partition]
	w.last[r.Partition] = now
	if length := now.Sub(last); length >= w.threshold {
		leader, _, err := w.client.PartitionLeader(w.topic, r.Partition)
		if err != nil {
			leader = -1
		}
		w.addLocked(r.Partition, last, length, leader)
	}
}

// stillSilent adds the gaps that have not ended.
func (w *gapWatch) stillSilent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, last := range w.last {
		if length := time.Since(last); length >= w.threshold {
			w.addLocked(int32(p), last, length, -1)
		}
	}
}

func (w *gapWatch) addLocked(partition int32, at time.Time, length time.Duration, leader int32) {
	w.count++
	w.longest = max(w.longest, length)
	if len(w.gaps) < maxGaps {
		w.gaps = append(w.gaps, gap{partition, at.UTC(), float64(length) / float64(time.Millisecond), leader})
	}
}

// line says how it goes, and what is silent just now.
func (w *gapWatch) line() string {
	text := w.m.line()
	w.mu.Lock()
	defer w.mu.Unlock()
	text += fmt.Sprintf("  %s, the longest %s", plural(w.count, "gap", "gaps"), msText(float64(w.longest)/float64(time.Millisecond)))
	var silent []int32
	for p, last := range w.last {
		if time.Since(last) >= w.threshold {
			silent = append(silent, int32(p))
		}
	}
	if len(silent) > 0 {
		text += "; silent now: " + numbers(silent)
	}
	return text
}

func (w *gapWatch) result() *gapResult {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &gapResult{
		ThresholdMS: float64(w.threshold) / float64(time.Millisecond), Transfers: w.transfers,
		Longest: float64(w.longest) / float64(time.Millisecond), Count: w.count, Gaps: listOf(w.gaps),
	}
}

func (g *gapResult) table(w io.Writer) {
	fmt.Fprintln(w)
	cells(w, "leaderships handed over", g.Transfers)
	cells(w, "times without an acknowledgement", fmt.Sprintf("%d of %s or more", g.Count, msText(g.ThresholdMS)))
	cells(w, "the longest", msText(g.Longest))
	if len(g.Gaps) == 0 {
		return
	}
	fmt.Fprintln(w)
	heading(w, "PARTITION", "AFTER", "LASTED", "LED BY")
	for _, one := range g.Gaps {
		leader := "?"
		if one.Leader >= 0 {
			leader = fmt.Sprint(one.Leader)
		}
		cells(w, one.Partition, one.At.Format("15:04:05.000"), msText(one.MS), leader)
	}
	if more := g.Count - len(g.Gaps); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}
