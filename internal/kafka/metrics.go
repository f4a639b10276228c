package kafka

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the door's counters. Those of one API are resolved once and
// live in its table entry.
type metrics struct {
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
	gauge := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	used := func(f func() (int64, int64)) func() int64 {
		return func() int64 { n, _ := f(); return n }
	}
	return []prometheus.Collector{
		gauge("raftsman_kafka_request_memory_bytes", "Requests in flight, of all connections.", used(s.requests.inUse)),
		gauge("raftsman_kafka_request_memory_limit_bytes", "Bound on raftsman_kafka_request_memory_bytes.", func() int64 { return s.requests.limit }),
		gauge("raftsman_kafka_response_memory_bytes", "Responses not yet written, of all connections.", used(s.outgoing.inUse)),
		gauge("raftsman_kafka_response_memory_limit_bytes", "Bound on raftsman_kafka_response_memory_bytes.", func() int64 { return s.outgoing.limit }),
	}
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_kafka_received_bytes_total", Help: "Bytes of request frames read."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_kafka_sent_bytes_total", Help: "Bytes of responses written."}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "raftsman_kafka_connections", Help: "Open client connections."}, []string{"listener"}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_kafka_accepted_connections_total", Help: "Client connections accepted."}, []string{"listener"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_kafka_rejected_connections_total",
			Help: "Client connections closed because of what the peer did or because there were too many."}, []string{"reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_kafka_requests_total", Help: "Requests read."}, []string{"api"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "raftsman_kafka_request_duration_seconds",
			Help:    "From the request's last byte to the response's; includes a fetch's wait for data.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16)}, []string{"api"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_kafka_partition_errors_total",
			Help: "Partitions that Produce or Fetch answered with an error."}, []string{"api", "error"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.received, m.sent, m.connections, m.accepted, m.rejected, m.requests, m.latency, m.errors} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
