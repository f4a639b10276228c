package node

import (
	"math"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// What peers say of this node's replicas counts for a while, and nonsense does no
// harm.
func TestToldLag(t *testing.T) {
	var s slowDisk
	for node, ms := range map[int32]int64{1: 0, 2: 1500, 3: -5, 4: math.MaxInt64, 5: math.MinInt64} {
		msg, err := cluster.Encode(diskReport{Behind: ms})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.hear(node, msg); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.hear(6, []byte(`{"behind_ms":1e400}`)); err == nil {
		t.Error("a number that is none was taken")
	}
	now := time.Now()
	told := s.behind(now)
	for node, want := range map[int32]time.Duration{1: 0, 2: 1500 * time.Millisecond, 3: 0, 5: 0} {
		if got, ok := told[node]; !ok || got != want {
			t.Errorf("node %d: told %v %v, want %v", node, got, ok, want)
		}
	}
	if told[4] < 24*time.Hour {
		t.Errorf("a huge lag became %v", told[4])
	}
	if _, ok := told[6]; ok {
		t.Error("nonsense counts")
	}
	if told = s.behind(now.Add(2 * staleReport)); len(told) != 0 {
		t.Errorf("old reports count: %v", told)
	}
}
