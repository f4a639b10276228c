package dashboard

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Figures are what a node measures of itself; its metrics say the same.
type Figures struct {
	Node        int32   `json:"node"`
	Time        float64 `json:"time"` // seconds since 1970, by the node's clock
	Records     float64 `json:"records"`
	Bytes       float64 `json:"bytes"`
	Received    float64 `json:"received"`
	Sent        float64 `json:"sent"`
	CPU         float64 `json:"cpu"` // seconds
	Memory      float64 `json:"memory"`
	Stored      float64 `json:"stored"`
	Log         float64 `json:"log"`
	DiskFree    float64 `json:"disk_free"`
	DiskMinFree float64 `json:"disk_min_free"`
	Connections float64 `json:"connections"`
	Ready       bool    `json:"ready"`

	Produce Histogram `json:"produce"`
	Commit  Histogram `json:"commit"`
	Fsync   Histogram `json:"fsync"`

	// Lags are those of other nodes' replicas of what this node leads.
	Lags map[int32]Lag `json:"lags"`
	// Winners are the latest that this node has seen.
	Winners []Win `json:"winners"`
}

// Lag is that of the worst of a node's replicas.
type Lag struct {
	Seconds float64 `json:"seconds"`
	Entries float64 `json:"entries"`
}

// Win is a term of a winner as one node has seen it.
type Win struct {
	Node     int32     `json:"node"`
	Revision int64     `json:"revision"` // of etcd, at which it stood for election: the term's name
	Seen     time.Time `json:"seen"`
	Before   bool      `json:"before,omitempty"` // it was the winner when the node first looked: since when is not known
}

// gather reads a node's figures from its metrics. Those that are missing are 0.
func gather(g prometheus.Gatherer) (Figures, error) {
	families, err := g.Gather()
	if err != nil && len(families) == 0 {
		return Figures{}, fmt.Errorf("gather metrics: %w", err)
	}
	f := Figures{Lags: make(map[int32]Lag)}
	numbers := map[string]*float64{
		"raftsman_time_seconds":               &f.Time,
		"raftsman_committed_records_total":    &f.Records,
		"raftsman_committed_bytes_total":      &f.Bytes,
		"raftsman_kafka_received_bytes_total": &f.Received,
		"raftsman_kafka_sent_bytes_total":     &f.Sent,
		"raftsman_segment_bytes":              &f.Stored,
		"raftsman_wal_size_bytes":             &f.Log,
		"raftsman_disk_free_bytes":            &f.DiskFree,
		"raftsman_disk_min_free_bytes":        &f.DiskMinFree,
		"raftsman_kafka_connections":          &f.Connections,
		"process_cpu_seconds_total":           &f.CPU,
		"process_resident_memory_bytes":       &f.Memory,
	}
	for _, family := range families {
		name := family.GetName()
		for _, m := range family.GetMetric() {
			if number, ok := numbers[name]; ok {
				*number += value(m) // of all listeners
				continue
			}
			switch name {
			case "raftsman_ready":
				f.Ready = value(m) == 1
			case "raftsman_kafka_request_duration_seconds":
				if label(m, "api") == "Produce" {
					f.Produce = histogram(m)
				}
			case "raftsman_commit_seconds":
				f.Commit = histogram(m)
			case "raftsman_wal_fsync_seconds":
				f.Fsync = histogram(m)
			case "raftsman_follower_lag_seconds", "raftsman_follower_lag_entries":
				node, err := strconv.ParseInt(label(m, "node"), 10, 32)
				if err != nil {
					continue
				}
				lag := f.Lags[int32(node)]
				if name == "raftsman_follower_lag_seconds" {
					lag.Seconds = value(m)
				} else {
					lag.Entries = value(m)
				}
				f.Lags[int32(node)] = lag
			}
		}
	}
	return f, nil
}

func value(m *dto.Metric) float64 {
	if m.Counter != nil {
		return m.GetCounter().GetValue()
	}
	return m.GetGauge().GetValue()
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Histogram is one of Prometheus' kind.
type Histogram struct {
	Count  float64   `json:"count"`
	Bounds []float64 `json:"bounds,omitempty"` // upper ones, without infinity
	UpTo   []float64 `json:"up_to,omitempty"`  // observations up to each bound
}

func histogram(m *dto.Metric) Histogram {
	from := m.GetHistogram()
	h := Histogram{Count: float64(from.GetSampleCount())}
	for _, b := range from.GetBucket() {
		h.Bounds, h.UpTo = append(h.Bounds, b.GetUpperBound()), append(h.UpTo, float64(b.GetCumulativeCount()))
	}
	return h
}

// since is what was observed after an earlier state of the histogram; ok is false
// when there was another one meanwhile.
func (h Histogram) since(old Histogram) (d Histogram, ok bool) {
	if len(old.Bounds) == 0 && old.Count == 0 {
		return h, len(h.UpTo) == len(h.Bounds)
	}
	if len(old.UpTo) != len(h.UpTo) || len(h.UpTo) != len(h.Bounds) || h.Count < old.Count {
		return Histogram{}, false
	}
	d = Histogram{Count: h.Count - old.Count, Bounds: h.Bounds, UpTo: make([]float64, len(h.UpTo))}
	for i := range h.UpTo {
		d.UpTo[i] = h.UpTo[i] - old.UpTo[i]
	}
	return d, true
}

// add adds what another node has observed. One with other bounds is left out.
func (h *Histogram) add(other Histogram) {
	switch {
	case other.Count == 0:
	case h.Count == 0:
		*h = Histogram{other.Count, other.Bounds, append([]float64(nil), other.UpTo...)}
	case len(h.UpTo) == len(other.UpTo):
		h.Count += other.Count
		for i := range h.UpTo {
			h.UpTo[i] += other.UpTo[i]
		}
	}
}

// quantile estimates one as Prometheus does; nil when nothing was observed.
func (h Histogram) quantile(q float64) *float64 {
	if h.Count == 0 || len(h.Bounds) == 0 {
		return nil
	}
	rank, low, below := q*h.Count, 0.0, 0.0
	for i, upTo := range h.UpTo {
		if upTo >= rank {
			at := h.Bounds[i]
			if upTo > below {
				at = low + (h.Bounds[i]-low)*(rank-below)/(upTo-below)
			}
			return &at
		}
		low, below = h.Bounds[i], upTo
	}
	return &low // above all bounds: the last one
}
