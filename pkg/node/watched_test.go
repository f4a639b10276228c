package node

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A disk counts as slow by the last minute alone, not by all since the start.
func TestSlowestSyncsOfTheLastMinute(t *testing.T) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "raftsman_wal_fsync_seconds", Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)})
	observe := func(n int, v float64) {
		for range n {
			h.Observe(v)
		}
	}
	var w watched
	if got := w.slowest(); got != 0 {
		t.Errorf("before the first sample: %v", got)
	}
	observe(1000, 5) // long ago
	w.sample(h)
	observe(fewSyncs-1, 1)
	w.sample(h)
	if got := w.slowest(); got != 0 {
		t.Errorf("few syncs: %v", got)
	}
	observe(980, 0.003)
	w.sample(h)
	if got := w.slowest(); got != 512*time.Millisecond { // the bucket of 1 s begins there
		t.Errorf("two in a hundred took a second: %v", got)
	}
	for range syncsKept {
		observe(100, 0.003)
		w.sample(h)
	}
	if got := w.slowest(); got != 2*time.Millisecond {
		t.Errorf("a minute later: %v", got)
	}
	if len(w.syncs) != syncsKept {
		t.Errorf("%d samples are kept", len(w.syncs))
	}
}

// The time is that of the first look, until the node or etcd answers again.
func TestSinceWhenAway(t *testing.T) {
	var w watched
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	if got := w.node(2, true, at); got != nil {
		t.Errorf("a node that answers is away since %v", got)
	}
	w.node(2, false, at)
	w.etcd(false, at)
	later := at.Add(time.Hour)
	if node, etcd := w.node(2, false, later), w.etcd(false, later); !node.Equal(at) || !etcd.Equal(at) {
		t.Errorf("away since %v and %v, want %v", node, etcd, at)
	}
	if node, etcd := w.node(2, true, later), w.etcd(true, later); node != nil || etcd != nil {
		t.Errorf("back, and away since %v and %v", node, etcd)
	}
	if node, etcd := w.node(2, false, later), w.etcd(false, later); !node.Equal(later) || !etcd.Equal(later) {
		t.Errorf("away again since %v and %v, want %v", node, etcd, later)
	}
}
