package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// benchProduce are the settings of bench produce.
type benchProduce struct {
	benchFlags
	records     int64
	rate        float64
	clients     int
	inFlight    int
	acks        string
	compression string
	linger      time.Duration
}

func newBenchProduce() *cobra.Command {
	var b benchProduce
	cmd := &cobra.Command{
		Use:   "produce [TOPIC]",
		Short: "Measure how fast records are written and acknowledged",
		Long: `Writes records as fast as --in-flight allows, or at --rate, and measures the time
until each is acknowledged. With --rate the time counts from when a record was due,
so that a pause of the cluster counts for all that had to wait (no coordinated
omission). Without, most of the time is waiting in the client: for latencies use
--rate, or a small --in-flight.
` + benchTopicHelp,
		Example: `  raftsman bench produce
  raftsman bench produce --rate 5000 --size 200 --duration 1m
  raftsman bench produce orders --clients 4 --in-flight 1 -o json`,
		Args: atMostTopic,
		RunE: func(cmd *cobra.Command, args []string) error { return b.run(cmd, args) },
	}
	f := cmd.Flags()
	f.Int64Var(&b.records, "records", 0, "stop after so many records; 0: no limit")
	f.Float64Var(&b.rate, "rate", 0, "records in a second, of all clients together; 0: as many as go")
	f.IntVar(&b.clients, "clients", 1, "clients, each with connections of its own")
	f.IntVar(&b.inFlight, "in-flight", 10_000, "records that may wait for their acknowledgement, of each client")
	f.StringVar(&b.acks, "acks", "all", "whose acknowledgement to wait for: all or 1 (the leader)")
	f.StringVar(&b.compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	f.DurationVar(&b.linger, "linger", 0, "how long the client waits for further records of a batch")
	b.bind(cmd, 10*time.Second, 1024)
	return cmd
}

func (b *benchProduce) check() error {
	switch {
	case b.records < 0, b.rate < 0, b.linger < 0:
		return errors.New("--records, --rate and --linger must not be negative")
	case b.clients < 1 || b.clients > 1000:
		return fmt.Errorf("--clients is %d: it must be between 1 and 1000", b.clients)
	case b.inFlight < 1 || b.inFlight > 10_000_000:
		return fmt.Errorf("--in-flight is %d: it must be between 1 and 10000000", b.inFlight)
	case b.acks == "0":
		return errors.New("--acks 0: nothing is acknowledged then, and nothing could be measured")
	}
	return b.benchFlags.check()
}

func (b *benchProduce) run(cmd *cobra.Command, args []string) error {
	opts, err := writeOptions(b.acks, b.compression)
	if err = errors.Join(b.check(), err); err != nil {
		return usageError{err}
	}
	t, remove, err := b.topic(cmd, args)
	if err != nil {
		return err
	}
	opts = append(opts, kgo.MaxBufferedRecords(b.inFlight+1), kgo.ProducerLinger(b.linger), kgo.ProducerBatchMaxBytes(int32(max(1_000_012, b.size+1024))),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.DefaultProduceTopic(t.name))
	clients, closeAll, err := b.connect(cmd, b.clients, func(int) []kgo.Opt { return opts })
	if err != nil {
		return errors.Join(err, remove())
	}
	defer closeAll()
	m, err := b.write(cmd, clients)
	r := m.result("produce", "a record's acknowledgement", t, b.clients)
	r.Size, r.Acks = b.size, b.acks
	return b.finish(cmd, r, err, remove)
}

// write writes until --records or --duration are reached, or an interrupt.
func (b *benchProduce) write(cmd *cobra.Command, clients []*kgo.Client) (*meter, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), b.duration)
	defer cancel()
	m := newMeter()
	stop := report(cmd, m.line)
	defer stop()
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	for _, c := range clients {
		wg.Go(func() { b.writeOne(ctx, c, m, &next) })
	}
	wg.Wait()
	// What is on its way still counts, within reason.
	wait, cancelWait := context.WithTimeout(context.WithoutCancel(ctx), adminTimeout)
	defer cancelWait()
	for _, c := range clients {
		if err := c.Flush(wait); err != nil {
			return m, fmt.Errorf("%s not acknowledged within %s", plural(c.BufferedProduceRecords(), "record was", "records were"), adminTimeout)
		}
	}
	return m, nil
}

func (b *benchProduce) writeOne(ctx context.Context, c *kgo.Client, m *meter, next *atomic.Int64) {
	value, free := payload(b.size), make(chan struct{}, b.inFlight)
	for ctx.Err() == nil {
		n := next.Add(1)
		if b.records > 0 && n > b.records {
			return
		}
		var due time.Time
		if b.rate > 0 {
			due = m.began.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
			if !sleepUntil(ctx, due) {
				return
			}
		}
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if b.rate == 0 {
			due = time.Now()
		}
		// The end of the time does not cancel what is on its way.
		c.Produce(context.WithoutCancel(ctx), &kgo.Record{Value: value}, func(r *kgo.Record, err error) {
			m.acked(len(r.Value), time.Since(due), err)
			<-free
		})
	}
}

// sleepUntil waits for a time; false says that ctx has ended before.
func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
