package partition

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what the leaders among a node's partitions commit. They are
// touched once for each raft entry, not for each record.
type Metrics struct {
	seconds prometheus.Histogram
	records prometheus.Counter
	bytes   prometheus.Counter
	topics  *topicMetrics
}

// NewMetrics makes and registers them. As many topics have counters of their own as
// there are places; without any there are none.
func NewMetrics(r prometheus.Registerer, places int) (*Metrics, error) {
	m := &Metrics{
		topics: newTopicMetrics(places),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "raftsman_commit_seconds",
			Help:    "Of entries of records: from when the leader proposes one until a majority has it on disk and it is applied.",
			Buckets: prometheus.ExponentialBuckets(0.000125, 2, 17)}),
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_committed_records_total", Help: "Records that partitions led here have stored, those of internal topics too."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_committed_bytes_total", Help: "Bytes of the record batches of raftsman_committed_records_total, as stored."}),
	}
	var errs []error
	for _, c := range m.collectors() {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		m.Unregister(r)
		return nil, err
	}
	return m, nil
}

func (m *Metrics) collectors() []prometheus.Collector {
	return append(m.topics.collectors(), m.seconds, m.records, m.bytes)
}

// Unregister takes them away again.
func (m *Metrics) Unregister(r prometheus.Registerer) {
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}

// recordsAt is where a batch of magic 2 has the number of its records.
const recordsAt = 57

// committed counts an entry's batches that were stored.
func (p *Partition) committed(f flight, out *outcome) {
	m := p.cfg.Metrics
	if m == nil {
		return
	}
	m.seconds.Observe(time.Since(f.began).Seconds())
	records, bytes := 0, 0
	for i, it := range f.items {
		if b := out.batches[i]; b.err == nil && !b.duplicate && len(it.batch) >= recordsAt+4 {
			records += int(binary.BigEndian.Uint32(it.batch[recordsAt:]))
			bytes += len(it.batch)
		}
	}
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
	if t := p.topic; t != nil {
		t.records.Add(float64(records))
		t.bytes.Add(float64(bytes))
	}
}
