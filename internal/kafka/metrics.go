package kafka

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the door's counters. Those of one API are resolved once and
// live in its table entry.
type metrics struct {
	registerer  prometheus.Registerer  // may be nil
	all         []prometheus.Collector // that are registered
	received    prometheus.Counter
	sent        prometheus.Counter
	connections *prometheus.GaugeVec
	accepted    *prometheus.CounterVec
	rejected    *prometheus.CounterVec
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	errors      *prometheus.CounterVec
}

// memoryMetrics show what the node's bounds on client memory hold.
func (s *Server) memoryMetrics() []prometheus.Collector {
	prefix := s.opts.MetricPrefix
	gauge := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	used := func(f func() (int64, int64)) func() int64 {
		return func() int64 { n, _ := f(); return n }
	}
	return []prometheus.Collector{
		gauge(prefix+"request_memory_bytes", "Requests in flight, of all connections.", used(s.requests.inUse)),
		gauge(prefix+"request_memory_limit_bytes", "Bound on "+prefix+"request_memory_bytes.", func() int64 { return s.requests.limit }),
		gauge(prefix+"response_memory_bytes", "Responses not yet written, of all connections.", used(s.outgoing.inUse)),
		gauge(prefix+"response_memory_limit_bytes", "Bound on "+prefix+"response_memory_bytes.", func() int64 { return s.outgoing.limit }),
		gauge(prefix+"fetch_sessions", "Incremental fetch sessions.", func() int64 { n, _, _ := s.sessions.counts(); return n }),
		gauge(prefix+"fetch_session_partitions", "Partitions of all incremental fetch sessions.", func() int64 { _, n, _ := s.sessions.counts(); return n }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: prefix + "fetch_session_evictions_total", Help: "Incremental fetch sessions that made way for another.",
		}, func() float64 { _, _, n := s.sessions.counts(); return float64(n) }),
	}
}

func newMetrics(reg prometheus.Registerer, prefix string) (*metrics, error) {
	m := &metrics{
		registerer: reg,
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "received_bytes_total", Help: "Bytes of request frames read."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "sent_bytes_total", Help: "Bytes of responses written."}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "connections", Help: "Open client connections."}, []string{"listener"}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "accepted_connections_total", Help: "Client connections accepted."}, []string{"listener"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "rejected_connections_total",
			Help: "Client connections closed because of what the peer did or because there were too many."}, []string{"reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "requests_total", Help: "Requests read."}, []string{"api"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "request_duration_seconds",
			Help:    "From the request's last byte to the response's; includes a fetch's wait for data.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16)}, []string{"api"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "partition_errors_total",
			Help: "Partitions that Produce or Fetch answered with an error."}, []string{"api", "error"}),
	}
	return m, m.register(m.received, m.sent, m.connections, m.accepted, m.rejected, m.requests, m.latency, m.errors)
}

// register adds metrics, or takes all away if that fails.
func (m *metrics) register(more ...prometheus.Collector) error {
	if m.registerer == nil {
		return nil
	}
	for _, c := range more {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return err
		}
		m.all = append(m.all, c)
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}
