package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A workload is what is done in a round, with partitions that are there and empty.
type workload struct {
	name       string
	help       string
	partitions int // unless told otherwise
	run        func(ctx context.Context, e *env) (figures, error)
	onDisk     bool // says nothing of a system in memory
	once       bool // one long round
	root       bool
}

var workloads = []workload{
	{name: "pipelined", partitions: 1, run: pipelined, help: "-window messages outstanding, as many as go through"},
	{name: "single", partitions: 1, run: single, help: "one message at a time"},
	{name: "connections", partitions: 1, run: connections, help: "-connections producers, each with one message at a time"},
	{name: "read-warm", partitions: 1, run: readWarm, help: "catch-up reads of -read-bytes from the page cache"},
	{name: "read-cold", partitions: 1, run: readCold, onDisk: true, root: true, help: "the same, with the page cache dropped before each; needs root"},
	{name: "tail", partitions: 1000, run: tailing, help: "-consumers at the end of the partitions, -rate messages a second"},
	{name: "failover", partitions: 1, run: failover, onDisk: true, help: "the leader of partition 0 killed under load, -kills times"},
	{name: "idle", partitions: 1000, run: idle, onDisk: true, help: "what partitions cost that nobody uses"},
	{name: "soak", partitions: 16, run: soak, onDisk: true, once: true, help: "pipelined for -soak, with memory and goroutines watched"},
}

// defaultWorkloads are those of the limits, but for the long ones.
const defaultWorkloads = "pipelined:1,pipelined:16,pipelined:100,pipelined:1000,single,connections,read-warm,read-cold,tail,failover:1,failover:1000,idle:1000"

func workloadHelp() string {
	var b strings.Builder
	for _, w := range workloads {
		fmt.Fprintf(&b, "  %-12s %s\n", w.name, w.help)
	}
	return b.String()
}

// A choice is a workload with its number of partitions.
type choice struct {
	*workload
	partitions int
}

// String is the workload's name in results and limits.
func (c *choice) String() string { return fmt.Sprintf("%s:%d", c.name, c.partitions) }

// maxPartitions is what a run may ask of a system.
const maxPartitions = 20_000

func choose(text string) (*choice, error) {
	name, number, given := strings.Cut(text, ":")
	for i := range workloads {
		w := &workloads[i]
		if w.name != name {
			continue
		}
		c := &choice{workload: w, partitions: w.partitions}
		if given {
			var err error
			if c.partitions, err = strconv.Atoi(number); err != nil || c.partitions < 1 || c.partitions > maxPartitions {
				return nil, fmt.Errorf("%q: want a number of partitions from 1 to %d after the colon", text, maxPartitions)
			}
		}
		if w.root && os.Geteuid() != 0 {
			return nil, fmt.Errorf("%s needs root, to drop the page cache", w.name)
		}
		return c, nil
	}
	return nil, fmt.Errorf("there is no %q; there are\n%s", name, workloadHelp())
}

// why says why a workload is not for a system, "" if it is.
func (w *workload) why(s *system) string {
	if w.onDisk && s.inMemory {
		return "it keeps nothing on disk"
	}
	return ""
}

// perMessage are the figures of a span in which n messages went through.
func (e *env) perMessage(n uint64) figures {
	return figures{
		"rate":         float64(n) / e.used.Seconds,
		"client_us":    e.used.Client * 1e6 / float64(n),
		"servers_us":   e.used.servers() * 1e6 / float64(n),
		"client_cores": e.used.Client / e.used.Seconds,
		"server_cores": e.used.servers() / e.used.Seconds,
	}
}

// steady lets a load warm up, then counts for a round.
func (e *env) steady(ctx context.Context, l *load) (figures, error) {
	if err := pass(ctx, e.cfg.warm); err != nil {
		return nil, err
	}
	h := new(histogram)
	var n uint64
	err := e.measure(func() error {
		l.latency.Store(h)
		n = l.acked.Load()
		err := pass(ctx, e.cfg.round)
		n = l.acked.Load() - n
		return err
	})
	l.latency.Store(new(histogram))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("nothing was acknowledged in %v%s", e.cfg.round, l.said())
	}
	f := e.perMessage(n)
	f["p50_ms"], f["p99_ms"] = millis(h.quantile(0.5)), millis(h.quantile(0.99))
	if failed := l.failed.Load(); failed > 0 {
		f["failed"] = float64(failed)
	}
	return f, nil
}

// loaded runs a load, warms up, counts, and ends it.
func (e *env) loaded(ctx context.Context, how loading) (figures, error) {
	l, err := startLoad(ctx, e, how)
	if err != nil {
		return nil, err
	}
	f, err := e.steady(ctx, l)
	if err != nil {
		l.close()
		return nil, err
	}
	return f, l.finish(ctx)
}

func pipelined(ctx context.Context, e *env) (figures, error) {
	return e.loaded(ctx, loading{window: e.cfg.window, clients: e.cfg.clients})
}

func single(ctx context.Context, e *env) (figures, error) {
	return e.loaded(ctx, loading{window: 1, clients: 1})
}

func connections(ctx context.Context, e *env) (figures, error) {
	n := e.cfg.connections
	return e.loaded(ctx, loading{lanes: n, window: n, clients: n})
}
