package node

import (
	"slices"
	"testing"
	"time"
)

// TestSuccessor: who takes over from replica 1. Those in lately have been fit for a
// moment only; the nodes of those in fresh were restarted not long ago.
func TestSuccessor(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name              string
		order, voters     []uint64
		fit, lately       []uint64
		fresh             []uint64
		shedding, settled bool
		want              uint64
	}{
		{name: "the preferred leader leads", order: []uint64{1, 2, 3}, fit: []uint64{2, 3}, want: 0},
		{name: "another is preferred and fit", order: []uint64{2, 1, 3}, fit: []uint64{2, 3}, want: 2},
		{name: "another is preferred and not fit", order: []uint64{2, 1, 3}, fit: []uint64{3}, want: 0},
		{name: "another is preferred and just came back", order: []uint64{2, 1, 3}, lately: []uint64{2}, want: 0},
		{name: "the second goes before the third", order: []uint64{3, 2, 1}, fit: []uint64{2}, want: 2},
		{name: "no detour while the first comes back", order: []uint64{3, 2, 1}, fit: []uint64{2}, lately: []uint64{3}, want: 0},
		{name: "the preferred one is no voter yet", order: []uint64{4, 1, 2}, voters: []uint64{1, 2, 3}, fit: []uint64{4, 2}, want: 0},
		{name: "the balancer is paused", order: []uint64{2, 1, 3}, fit: []uint64{2, 3}, settled: true, want: 0},
		{name: "shedding, in order", order: []uint64{1, 2, 3}, fit: []uint64{2, 3}, shedding: true, want: 2},
		{name: "shedding, paused all the same", order: []uint64{1, 2, 3}, fit: []uint64{3}, shedding: true, settled: true, want: 3},
		{name: "shedding, to one that just came back", order: []uint64{1, 2, 3}, lately: []uint64{3}, shedding: true, want: 3},
		{name: "shedding, to a voter that is leaving", order: []uint64{1, 4}, voters: []uint64{1, 2, 3}, fit: []uint64{2}, shedding: true, want: 2},
		{name: "another is preferred, and clients may know it from before its restart", order: []uint64{2, 1, 3}, fit: []uint64{2, 3}, fresh: []uint64{2}, want: 0},
		{name: "shedding, rather not to one that was restarted", order: []uint64{1, 2, 3}, fit: []uint64{2, 3}, fresh: []uint64{2}, shedding: true, want: 3},
		{name: "shedding, to one that was restarted if need be", order: []uint64{1, 2, 3}, fit: []uint64{2}, fresh: []uint64{2}, shedding: true, want: 2},
		{name: "shedding, but nobody is fit", order: []uint64{1, 2, 3}, shedding: true, want: 0},
		{name: "not placed", fit: []uint64{2}, want: 0},
	} {
		voters := c.voters
		if voters == nil {
			voters = []uint64{1, 2, 3}
		}
		x := candidacy{
			self: 1, order: c.order, voters: voters, shedding: c.shedding, settled: c.settled, now: now,
			fresh: func(r uint64) bool { return slices.Contains(c.fresh, r) },
			fit:   func(r uint64) bool { return slices.Contains(c.fit, r) || slices.Contains(c.lately, r) },
			since: func(r uint64) time.Time {
				if slices.Contains(c.lately, r) {
					return now.Add(-steady / 2)
				}
				return now.Add(-2 * steady)
			},
		}
		if got := x.successor(); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// TestHandoverBacksOff: a transfer that fails, or a leadership that comes back,
// is tried later and later; what is shed is tried again soon.
func TestHandoverBacksOff(t *testing.T) {
	h := newHandover(nil)
	id := partitionID{"t", 0}
	now := time.Unix(1000, 0)
	var last time.Duration
	for range 10 {
		h.noteLocked(id, true, false, now)
		wait := h.retry[id].again.Sub(now)
		if wait < steady || wait > maxRetry || wait < last {
			t.Fatalf("a leadership that came back is moved again after %v, after %v the time before", wait, last)
		}
		last = wait
		now = now.Add(wait)
	}
	if last != maxRetry {
		t.Fatalf("ten times back and forth: the last pause is %v", last)
	}
	h.noteLocked(id, false, true, now)
	if wait := h.retry[id].again.Sub(now); wait > maxUrgentRetry {
		t.Fatalf("a leadership that is shed is tried again after %v", wait)
	}
	now = now.Add(3 * maxRetry)
	h.noteLocked(id, false, false, now)
	if wait := h.retry[id].again.Sub(now); wait != steady {
		t.Fatalf("after long calm the pause is %v, want %v", wait, steady)
	}
}
