package node

import (
	"testing"
	"time"
)

func report(ms float64) diskReport {
	return diskReport{Commits: 100, Median: int64(ms * float64(time.Millisecond)), Bytes: 10_000}
}

// TestSlowDiskJudged: each line is what a node sees for a minute, once a second,
// and whether it hands its leaderships over after that.
func TestSlowDiskJudged(t *testing.T) {
	few, small, shedding := report(0.5), report(0.5), report(60)
	few.Commits, small.Bytes, shedding.Slow = 5, 100, true
	idle, crawling := diskReport{}, report(900)
	crawling.Commits = 5
	for _, c := range []struct {
		name  string
		own   diskReport
		peers []diskReport
		nodes int
		slow  bool
	}{
		{"slower than two quick ones", report(60), []diskReport{report(1), report(2)}, 3, true},
		{"so slow that there is little of it", crawling, []diskReport{report(1), report(2)}, 3, true},
		{"slow, but not ten times", report(60), []diskReport{report(8), report(8)}, 3, false},
		{"ten times, but quick", report(15), []diskReport{report(1), report(1)}, 3, false},
		{"all are slow", report(60), []diskReport{report(50), report(70)}, 3, false},
		{"one of two others is slow", report(60), []diskReport{report(1), report(70)}, 3, false},
		{"two of five are slow", report(60), []diskReport{report(1), report(70), report(1), report(1)}, 5, true},
		{"three of five are slow", report(60), []diskReport{report(1), report(70), report(80), report(1)}, 5, false},
		{"another sheds already", report(90), []diskReport{report(1), shedding, report(1)}, 4, false},
		{"two nodes: both are a majority", report(60), []diskReport{report(1)}, 2, false},
		{"nothing is written here", idle, []diskReport{report(1), report(1)}, 3, false},
		{"little is written there", report(60), []diskReport{few, few}, 3, false},
		{"small things are written there", report(60), []diskReport{small, small}, 3, false},
		{"nobody reports", report(60), nil, 3, false},
	} {
		var j slowJudge
		at := time.Unix(0, 0)
		for range 60 {
			at = at.Add(slowCheck)
			j.look(at, c.own, c.peers, c.nodes)
		}
		if j.slow != c.slow {
			t.Errorf("%s: slow is %t", c.name, j.slow)
		}
	}
}

// TestSlowDiskHysteresis: it takes seconds to be slow and half a minute to be
// well again, and every break begins anew.
func TestSlowDiskHysteresis(t *testing.T) {
	var j slowJudge
	at, quick := time.Unix(0, 0), []diskReport{report(1), report(1)}
	until := func(own diskReport, peers []diskReport, most int) (seconds int) {
		was := j.slow
		for seconds = 0; seconds < most && j.slow == was; seconds++ {
			at = at.Add(slowCheck)
			if changed, _ := j.look(at, own, peers, 3); changed != (j.slow != was) {
				t.Fatal("a change was not said")
			}
		}
		return seconds
	}
	until(report(60), quick, 5)
	until(report(1), quick, 1)
	if n := until(report(60), quick, 100); n != 6 {
		t.Errorf("slow after %d looks, want 6", n)
	}
	// Between well and slow nothing changes, and nothing does while it is idle.
	if until(report(25), []diskReport{report(5), report(5)}, 100); !j.slow {
		t.Error("well at five times the others' latency")
	}
	if until(diskReport{}, quick, 100); !j.slow {
		t.Error("well without a write")
	}
	until(report(2), quick, 25)
	until(report(60), quick, 1)
	if n := until(report(2), quick, 100); n != 31 {
		t.Errorf("well after %d looks, want 31", n)
	}
}
