package replication

import (
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// TestFailoverIsMeasured: what survives a lost leader counts one leadership more and
// how long there was none; and the leader says how far the lost one is behind.
func TestFailoverIsMeasured(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose(numbers(0, 10)...)
	old := h.leader()
	eventually(t, "no lag", func() bool {
		lags := h.group[old].Lags()
		for _, l := range lags {
			if !l.Known || l.Entries > 0 {
				return false
			}
		}
		return len(lags) == 2
	})
	if n := measured(t, h.up[old].metrics.failover).GetHistogram().GetSampleCount(); n != 0 {
		t.Errorf("%d failovers were measured of a group that never had a leader", n)
	}
	if n := measured(t, h.up[old].metrics.gained).GetCounter().GetValue(); n != 1 {
		t.Errorf("%v leaderships were gained", n)
	}
	lost := h.group[old].Replica()
	h.stop(old)
	h.propose("x")
	now := h.leader()
	eventually(t, "a failover to be measured", func() bool {
		m := measured(t, h.up[now].metrics.failover).GetHistogram()
		return m.GetSampleCount() == 1 && m.GetSampleSum() > 0
	})
	eventually(t, "the lost node to be behind", func() bool {
		for _, l := range h.group[now].Lags() {
			if l.Replica == lost {
				return l.Entries > 0
			}
		}
		return false
	})
	for id, g := range h.group {
		if id != now && g.Lags() != nil {
			t.Errorf("node %d does not lead and tells of lags", id)
		}
	}
}

func measured(t *testing.T, from interface{ Write(*dto.Metric) error }) *dto.Metric {
	t.Helper()
	var m dto.Metric
	if err := from.Write(&m); err != nil {
		t.Fatal(err)
	}
	return &m
}
