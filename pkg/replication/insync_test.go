package replication

import (
	"testing"
	"time"
)

func TestLag(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	behind := func(l *lag, term uint64, now int) int {
		d, ok := l.since(term, 2, at(now))
		if !ok {
			return -1
		}
		return int(d / time.Second)
	}
	for name, c := range map[string]struct {
		steps []struct{ match, end uint64 } // one each second
		want  int                           // behind after the last
	}{
		"has everything":                          {[]struct{ match, end uint64 }{{5, 5}, {9, 9}}, 0},
		"has what there was a second ago":         {[]struct{ match, end uint64 }{{0, 5}, {5, 9}, {9, 13}}, 1},
		"a constant two seconds behind":           {[]struct{ match, end uint64 }{{0, 10}, {0, 20}, {10, 30}, {20, 40}, {30, 50}}, 2},
		"stands still":                            {[]struct{ match, end uint64 }{{5, 5}, {5, 6}, {5, 7}, {5, 8}}, 3},
		"never had what there was":                {[]struct{ match, end uint64 }{{0, 1000}, {10, 2000}, {20, 3000}}, -1},
		"few large entries behind are as bad too": {[]struct{ match, end uint64 }{{0, 3}, {1, 3}, {2, 3}}, -1},
	} {
		var l lag
		for i, s := range c.steps {
			l.note(7, 2, s.match, s.end, at(i))
		}
		if got := behind(&l, 7, len(c.steps)-1); got != c.want {
			t.Errorf("%s: %d s behind, want %d", name, got, c.want)
		}
		if got := behind(&l, 8, len(c.steps)-1); got != -1 {
			t.Errorf("%s: known in another term: %d", name, got)
		}
	}
	var l lag
	l.noteCalm(7, at(0))
	if got := behind(&l, 7, 4); got != 4 {
		t.Errorf("calm 4 s ago: %d", got)
	}
}

// TestInSync: a follower is in sync while it keeps up, in an idle group too, and
// no more when its node is gone.
func TestInSync(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose(numbers(0, 10)...)
	count := func(n int) func() bool {
		return func() bool { return len(h.group[h.leader()].InSync(10*time.Second)) == n }
	}
	eventually(t, "three in sync", count(3))
	scans := h.up[h.leader()].failover.scans.Load()
	eventually(t, "scans of an idle group", func() bool { return h.up[h.leader()].failover.scans.Load() > scans+10 })
	if !count(3)() {
		t.Error("a follower of an idle group fell out")
	}
	h.stop(h.leader()%3 + 1)
	eventually(t, "two in sync", count(2))
	h.propose("x")
	if !count(2)() {
		t.Error("want the two that are left in sync")
	}
}
