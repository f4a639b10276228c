package wal

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector

	fsyncs       prometheus.Counter
	bytes        prometheus.Counter
	fsyncSeconds prometheus.Histogram
	batchEntries prometheus.Histogram
}

func newMetrics(l *Log, r prometheus.Registerer) *metrics {
	m := &metrics{
		registerer: r,
		fsyncs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_wal_fsyncs_total", Help: "Batches made durable by an fdatasync of the write-ahead log."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_wal_bytes_written_total", Help: "Bytes of batches written to the write-ahead log."}),
		fsyncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raftsman_wal_fsync_seconds", Help: "Duration of an fdatasync of the write-ahead log.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18)}),
		batchEntries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raftsman_wal_batch_entries", Help: "Raft entries, votes, values and removals that shared an fdatasync.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12)}),
	}
	m.all = []prometheus.Collector{
		m.fsyncs, m.bytes, m.fsyncSeconds, m.batchEntries,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "raftsman_wal_bytes_copied_total", Help: "Bytes of live frames copied forward within the write-ahead log, of those written."},
			func() float64 { l.mu.Lock(); defer l.mu.Unlock(); return float64(l.copied) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_wal_write_amplification", Help: "Bytes written to the write-ahead log since its start for each byte appended."},
			func() float64 { return l.Stats().WriteAmplification() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_wal_size_bytes", Help: "Bytes of all files of the write-ahead log."},
			func() float64 { l.mu.Lock(); defer l.mu.Unlock(); return float64(l.sizeLocked()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_wal_files", Help: "Files of the write-ahead log that hold frames."},
			func() float64 { l.mu.Lock(); defer l.mu.Unlock(); return float64(len(l.files)) }),
	}
	return m
}

func (m *metrics) register() error {
	if m.registerer == nil {
		return nil
	}
	for i, c := range m.all {
		if err := m.registerer.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return fmt.Errorf("register metrics of the write-ahead log: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

// Fsyncs is the histogram of how long fsyncs took, raftsman_wal_fsync_seconds.
func (l *Log) Fsyncs() prometheus.Metric { return l.metrics.fsyncSeconds }
