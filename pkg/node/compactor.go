package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	compactRetry    = 5 * time.Second
	compactRetryMax = 5 * time.Minute
)

// compactor carries out the compactions that leaders have decided for the replicas
// of this node, one at a time, at Config.CompactionRate.
type compactor struct {
	n    *Node
	log  *slog.Logger
	pace pace
	kick chan struct{}

	mu      sync.Mutex
	waiting map[uint64]*compactionJob // by replica
	running bool                      // one that is not among them is being compacted

	metrics compactionMetrics
}

// compactionJob is a replica that has something to compact.
type compactionJob struct {
	id    partitionID
	since time.Time
	next  time.Time // of the next try
	delay time.Duration
}

func (n *Node) newCompactor() (*compactor, error) {
	c := &compactor{
		n: n, log: n.log, pace: pace{rate: n.cfg.CompactionRate}, kick: make(chan struct{}, 1),
		waiting: make(map[uint64]*compactionJob),
	}
	if err := c.metrics.register(c); err != nil {
		return nil, fmt.Errorf("register metrics of compaction: %w", err)
	}
	return c, nil
}

// add has a replica compacted. It does not block.
func (c *compactor) add(id partitionID, replica uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[replica] == nil {
		c.waiting[replica] = &compactionJob{id: id, since: time.Now(), delay: compactRetry}
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// run compacts what waits until ctx ends.
func (c *compactor) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-tick.C:
		}
		for ctx.Err() == nil {
			replica, job, ok := c.due(time.Now())
			if !ok {
				break
			}
			c.try(ctx, replica, job)
		}
	}
}

// due returns the replica that has waited longest.
func (c *compactor) due(now time.Time) (replica uint64, job compactionJob, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r, j := range c.waiting {
		if !now.Before(j.next) && (!ok || j.since.Before(job.since)) {
			replica, job, ok = r, *j, true
		}
	}
	return replica, job, ok
}

// try carries out one compaction of a replica.
func (c *compactor) try(ctx context.Context, replica uint64, job compactionJob) {
	p, open := c.n.replicas.byReplica(replica)
	if !open {
		if !c.n.replicas.holds(replica, job.id) {
			c.settle(replica, nil, false)
			return
		}
		c.settle(replica, nil, true) // it is being opened
		return
	}
	c.mu.Lock()
	delete(c.waiting, replica) // what is decided from now on is added again
	c.running = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.mu.Unlock()
	}()
	began := time.Now()
	stats, more, err := p.Compact(ctx, partition.CompactLimits{
		Memory: c.n.cfg.CompactionMemory,
		Wait:   func(ctx context.Context, bytes int) error { return c.pace.wait(ctx, int64(bytes)) },
	})
	if ctx.Err() != nil || !more && err == nil {
		return
	}
	took := time.Since(began)
	c.metrics.add(stats, took, err)
	c.report(p, job, stats, took, err)
	c.mu.Lock()
	if c.waiting[replica] == nil {
		c.waiting[replica] = &job // there may be more
	}
	c.mu.Unlock()
	c.settle(replica, err, true)
}

// settle says when a replica is tried again.
func (c *compactor) settle(replica uint64, err error, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.waiting[replica]
	switch {
	case j == nil:
	case !again:
		delete(c.waiting, replica)
	case err != nil:
		j.next = time.Now().Add(j.delay)
		j.delay = min(2*j.delay, compactRetryMax)
	default:
		j.since, j.delay = time.Now(), compactRetry // others first
		if _, open := c.n.replicas.byReplica(replica); !open {
			j.next = j.since.Add(time.Second)
		}
	}
}

func (c *compactor) report(p *partition.Partition, job compactionJob, stats seglog.CompactStats, took time.Duration, err error) {
	if err != nil {
		c.log.Error("a compaction failed, trying again; what it has replaced stays replaced, and nothing is lost",
			"topic", p.Topic(), "partition", job.id.index, "retry_in", job.delay, "err", err)
		return
	}
	c.log.Debug("compacted a partition", "topic", p.Topic(), "partition", job.id.index, "segments", stats.Segments, "made", stats.Made,
		"before_bytes", stats.Before, "after_bytes", stats.After, "records", stats.Records, "kept", stats.Kept, "passes", stats.Passes, "for", took.Round(time.Millisecond))
}

// compactionMetrics count what compactions have done.
type compactionMetrics struct {
	done, failed, read, written, reclaimed, seconds prometheus.Counter
}

func (m *compactionMetrics) register(c *compactor) error {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m.done = counter("raftsman_compactions_total", "Compactions of partitions on this node that were carried out.")
	m.failed = counter("raftsman_compactions_failed_total", "Compactions that failed and are tried again.")
	m.read = counter("raftsman_compaction_read_bytes_total", "Bytes that compactions have read.")
	m.written = counter("raftsman_compaction_written_bytes_total", "Bytes that compactions have written.")
	m.reclaimed = counter("raftsman_compaction_reclaimed_bytes_total", "Bytes by which segments became less through compactions.")
	m.seconds = counter("raftsman_compaction_seconds_total", "Time that compactions have taken.")
	pending := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raftsman_compactions_pending", Help: "Replicas on this node with a compaction that was decided and not carried out yet."},
		func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.running {
				return float64(len(c.waiting) + 1)
			}
			return float64(len(c.waiting))
		})
	dirty := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raftsman_compaction_dirty_bytes", Help: "Bytes of sealed segments of compacted topics on this node that were never compacted."},
		func() (bytes float64) {
			c.n.replicas.each(func(_ partitionID, p *partition.Partition) { bytes += float64(p.DirtyBytes()) })
			return bytes
		})
	for _, x := range []prometheus.Collector{m.done, m.failed, m.read, m.written, m.reclaimed, m.seconds, pending, dirty} {
		if err := c.n.cfg.Registerer.Register(x); err != nil {
			return err
		}
		c.n.onClose("metric of compaction", func() error { c.n.cfg.Registerer.Unregister(x); return nil })
	}
	return nil
}

func (m *compactionMetrics) add(stats seglog.CompactStats, took time.Duration, err error) {
	if err != nil {
		m.failed.Inc()
	} else {
		m.done.Inc()
	}
	m.read.Add(float64(stats.Read))
	m.written.Add(float64(stats.Written))
	m.reclaimed.Add(float64(max(stats.Before-stats.After, 0)))
	m.seconds.Add(took.Seconds())
}
