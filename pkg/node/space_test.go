package node

import "testing"

func TestSpaceThreshold(t *testing.T) {
	var s space
	for i, step := range []struct {
		free          uint64
		changed, full bool
	}{
		{2000, false, false}, {1000, false, false}, {999, true, true}, {0, false, true},
		{1000, false, true}, {1249, false, true}, {1250, true, false}, {1001, false, false}, {1 << 63, false, false},
	} {
		if changed := s.check(step.free, 1000); changed != step.changed || s.full.Load() != step.full {
			t.Errorf("step %d, %d free: changed %v, full %v; want %+v", i, step.free, changed, s.full.Load(), step)
		}
	}
	var unlimited space
	if unlimited.check(0, -1) {
		t.Error("a negative threshold counts")
	}
}
