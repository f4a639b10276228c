package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/group"
)

// Metrics are those of all coordinators of a node. No label has a group's name:
// there may be any number of them.
type Metrics struct {
	registerer prometheus.Registerer

	coordinators *prometheus.GaugeVec
	groups       *prometheus.GaugeVec
	members      prometheus.Gauge
	rebalances   prometheus.Counter
	durations    prometheus.Histogram
	expired      prometheus.Counter
	commits      prometheus.Counter
	forgotten    prometheus.Counter
	tooLarge     prometheus.Counter
	loads        prometheus.Histogram
}

// NewMetrics makes the metrics and registers them if r is not nil.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m := &Metrics{
		registerer:   r,
		coordinators: gauge("raftsman_group_coordinators", "Partitions of __consumer_offsets that this node coordinates, by state: loading or serving.", "state"),
		groups:       gauge("raftsman_groups", "Consumer groups that this node coordinates, by state.", "state"),
		members:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "raftsman_group_members", Help: "Members of the groups that this node coordinates."}),
		rebalances:   counter("raftsman_group_rebalances_total", "Rebalances of groups that have begun."),
		durations: histogram("raftsman_group_rebalance_duration_seconds",
			"From when a group was no longer stable until each member could have its assignment.", prometheus.ExponentialBuckets(0.005, 2, 17)),
		expired:   counter("raftsman_group_expired_members_total", "Members that were removed because they were not heard for their session timeout."),
		commits:   counter("raftsman_group_offset_commits_total", "Offsets that were committed, one for each partition."),
		forgotten: counter("raftsman_group_expired_offsets_total", "Committed offsets that were removed because of their age."),
		tooLarge:  counter("raftsman_group_oversized_writes_total", "Records of groups that were refused because they are larger than max.message.bytes of __consumer_offsets."),
		loads: histogram("raftsman_group_load_duration_seconds",
			"From when a partition of __consumer_offsets could be read until its groups were served.", prometheus.ExponentialBuckets(0.001, 2, 17)),
	}
	for _, s := range []state{loading, serving} {
		m.coordinators.WithLabelValues(stateNames[s])
	}
	none := group.Stats{}
	none.EachState(func(state string, _ int) { m.groups.WithLabelValues(state) })
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.collectors() {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		m.Close()
		return nil, fmt.Errorf("register metrics of groups: %w", err)
	}
	return m, nil
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.coordinators, m.groups, m.members, m.rebalances, m.durations, m.expired, m.commits, m.forgotten, m.tooLarge, m.loads}
}

// Close unregisters them.
func (m *Metrics) Close() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

// enter counts a coordinator that goes from one state to another.
func (m *Metrics) enter(from, to state) {
	if from != over {
		m.coordinators.WithLabelValues(stateNames[from]).Dec()
	}
	if to != over {
		m.coordinators.WithLabelValues(stateNames[to]).Inc()
	}
}

func (m *Metrics) loaded(took time.Duration) { m.loads.Observe(took.Seconds()) }

func (m *Metrics) rebalanced(took time.Duration) { m.durations.Observe(took.Seconds()) }

// stats counts what has become of a machine since the last time. What grows does
// not begin anew with another machine, whose last is zero.
func (m *Metrics) stats(last, now *group.Stats) {
	if *last == *now {
		return
	}
	before := last.Groups
	i := 0
	now.EachState(func(state string, n int) {
		if n != before[i] {
			m.groups.WithLabelValues(state).Add(float64(n - before[i]))
		}
		i++
	})
	m.members.Add(float64(now.Members - last.Members))
	for _, c := range []struct {
		counter     prometheus.Counter
		before, now uint64
	}{
		{m.rebalances, last.Rebalances, now.Rebalances},
		{m.expired, last.ExpiredMembers, now.ExpiredMembers},
		{m.commits, last.Commits, now.Commits},
		{m.forgotten, last.ExpiredOffsets, now.ExpiredOffsets},
	} {
		if c.now > c.before {
			c.counter.Add(float64(c.now - c.before))
		}
	}
}
