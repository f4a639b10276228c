package replication

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stageMetrics are raftsman_catchup_*.
type stageMetrics struct {
	registerer prometheus.Registerer
	sending    prometheus.Gauge
	waiting    prometheus.Gauge
	sent       prometheus.Counter
	received   prometheus.Counter
	rounds     prometheus.Counter
	done       *prometheus.GaugeVec
	total      *prometheus.GaugeVec
}

func newStageMetrics(r prometheus.Registerer) (*stageMetrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "raftsman", Subsystem: "catchup", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	labels := []string{"partition", "replica"}
	m := &stageMetrics{
		registerer: r,
		sending:    gauge("sending", "Followers that this node is sending segments to."),
		waiting:    gauge("waiting", "Followers that wait for another one's catch-up to end."),
		sent:       counter("sent_bytes_total", "Bytes of segments sent to followers that were too far behind."),
		received:   counter("received_bytes_total", "Bytes of segments fetched from leaders."),
		rounds:     counter("rounds_total", "Manifests whose segments were sent, each with the difference to the one before."),
		done: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("staged_bytes",
			"Of a replica here that is catching up: bytes of the leader's segments that it has.")), labels),
		total: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("staged_total_bytes",
			"Of a replica here that is catching up: bytes of the leader's segments in all.")), labels),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.collectors() {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		m.unregister()
		return nil, err
	}
	return m, nil
}

func (m *stageMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.sending, m.waiting, m.sent, m.received, m.rounds, m.done, m.total}
}

func (m *stageMetrics) unregister() {
	if m == nil || m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

// receiveWatch follows one staging on the follower.
type receiveWatch struct {
	metrics     *stageMetrics
	group       *Group
	labels      []string
	done, total atomic.Int64
	got         int64
	began, told time.Time
}

func (m *stageMetrics) receive(g *Group) *receiveWatch {
	now := time.Now()
	return &receiveWatch{metrics: m, group: g, began: now, told: now,
		labels: []string{g.cfg.Name, strconv.FormatUint(g.replica, 10)}}
}

func (w *receiveWatch) fetched(n int) {
	w.got += int64(n)
	w.metrics.received.Add(float64(n))
}

// progress comes from the one goroutine that stages.
func (w *receiveWatch) progress(done, total int64) {
	w.done.Store(done)
	w.total.Store(total)
	w.metrics.done.WithLabelValues(w.labels...).Set(float64(done))
	w.metrics.total.WithLabelValues(w.labels...).Set(float64(total))
	if now := time.Now(); now.Sub(w.told) >= progressEvery {
		w.told = now
		w.group.log.Info("fetching segments", "staged_bytes", done, "total_bytes", total,
			"fetched_bytes", w.got, "for", now.Sub(w.began).Round(time.Second))
	}
}

// end takes the replica's gauges away: it is not being staged any more.
func (w *receiveWatch) end() {
	w.metrics.done.DeleteLabelValues(w.labels...)
	w.metrics.total.DeleteLabelValues(w.labels...)
}
