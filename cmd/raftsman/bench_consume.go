package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// benchConsume are the settings of bench consume.
type benchConsume struct {
	benchFlags
	records int64
	clients int
	fill    int64
}

func newBenchConsume() *cobra.Command {
	var b benchConsume
	cmd := &cobra.Command{
		Use:   "consume [TOPIC]",
		Short: "Measure how fast records are read",
		Long: `Reads a topic from its start to the end that it has now, and measures how long each
fetch takes that brings records. A topic that is made for it is filled first.
` + benchTopicHelp,
		Example: `  raftsman bench consume orders
  raftsman bench consume orders --clients 3 --records 1000000 -o json
  raftsman bench consume --fill 500000 --size 200`,
		Args: atMostTopic,
		RunE: func(cmd *cobra.Command, args []string) error { return b.run(cmd, args) },
	}
	f := cmd.Flags()
	f.Int64Var(&b.records, "records", 0, "stop after so many records; 0: at the end")
	f.IntVar(&b.clients, "clients", 1, "clients, which share the partitions")
	f.Int64Var(&b.fill, "fill", 200_000, "without a TOPIC: records to fill it with")
	b.bind(cmd, time.Minute, 1024)
	return cmd
}

func (b *benchConsume) run(cmd *cobra.Command, args []string) error {
	err := b.check()
	switch {
	case err != nil:
	case b.records < 0:
		err = fmt.Errorf("--records is %d: it must not be negative", b.records)
	case b.fill < 1:
		err = fmt.Errorf("--fill is %d: it must be at least 1", b.fill)
	case b.clients < 1 || b.clients > 1000:
		err = fmt.Errorf("--clients is %d: it must be between 1 and 1000", b.clients)
	}
	if err != nil {
		return usageError{err}
	}
	t, remove, err := b.topic(cmd, args)
	if err != nil {
		return err
	}
	var m *meter
	if t.made {
		err = b.fillTopic(cmd, t)
	}
	if err == nil {
		m, err = b.read(cmd, t)
	}
	if m == nil {
		return errors.Join(err, remove())
	}
	return b.finish(cmd, m.result("consume", "a fetch", t, min(b.clients, int(t.partitions))), err, remove)
}

// fillTopic writes what is to be read.
func (b *benchConsume) fillTopic(cmd *cobra.Command, t benchTopic) error {
	w := benchProduce{benchFlags: b.benchFlags, records: b.fill, inFlight: 10_000}
	w.duration = time.Hour
	clients, closeAll, err := b.connect(cmd, 1, func(int) []kgo.Opt {
		return []kgo.Opt{kgo.DefaultProduceTopic(t.name), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MaxBufferedRecords(w.inFlight + 1)}
	})
	if err != nil {
		return err
	}
	defer closeAll()
	fmt.Fprintf(cmd.ErrOrStderr(), "filling %s with %s\n", t.name, plural(b.fill, "record", "records"))
	m, err := w.write(cmd, clients)
	if err == nil && m.first != nil {
		err = m.first
	}
	if err == nil && cmd.Context().Err() != nil {
		err = errors.New("interrupted")
	}
	return err
}

// read reads all partitions with some clients.
func (b *benchConsume) read(cmd *cobra.Command, t benchTopic) (*meter, error) {
	var all spans
	c := consumeFlags{from: where{kind: toEarliest}}
	err := b.kafka.admin(cmd, func(ctx context.Context, adm *kadm.Client) (err error) {
		all, err = c.spans(ctx, adm, t.name)
		return err
	})
	if err != nil {
		return nil, err
	}
	all.dropEmpty()
	shares := make([]spans, min(b.clients, max(len(all), 1)))
	for i := range shares {
		shares[i] = make(spans)
	}
	i := 0
	for p, s := range all {
		shares[i%len(shares)][p] = s
		i++
	}
	m := newMeter()
	clients, closeAll, err := b.connect(cmd, len(shares), func(i int) []kgo.Opt {
		return []kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.name: shares[i].starts()}), kgo.WithHooks(fetchHook{m}),
			kgo.FetchMaxPartitionBytes(8 << 20), kgo.FetchMaxBytes(32 << 20)}
	})
	if err != nil {
		return nil, err
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(cmd.Context(), b.duration)
	defer cancel()
	stop := report(cmd, m.line)
	defer stop()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed error
	)
	for i, c := range clients {
		wg.Go(func() {
			err := b.readOne(ctx, c, m, shares[i])
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	return m, failed
}

func (b *benchConsume) readOne(ctx context.Context, c *kgo.Client, m *meter, left spans) error {
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
		var records, bytes int64
		fetches.EachRecord(func(r *kgo.Record) {
			s, ok := left[r.Partition]
			if !ok || r.Offset >= s.end {
				return
			}
			records++
			bytes += int64(len(r.Key) + len(r.Value))
			if r.Offset == s.end-1 {
				delete(left, r.Partition)
			}
		})
		m.add(records, bytes)
		if b.records > 0 && m.count() >= b.records {
			return nil
		}
	}
	return nil
}

// fetchHook measures fetches that bring something.
type fetchHook struct{ m *meter }

const (
	fetchKey      = 1
	emptyFetchMax = 512 // bytes of an answer without records
)

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (h fetchHook) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == fetchKey && e.Err() == nil && e.BytesRead > emptyFetchMax {
		h.m.took(e.DurationE2E())
	}
}
