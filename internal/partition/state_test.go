package partition

import (
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

func TestCommandRoundTrip(t *testing.T) {
	for k := kindBatches; k <= lastKind; k++ {
		want := command{kind: k, time: 1700000000000}
		for i := range args(k) {
			want.arg[i] = int64(i) - 5
		}
		got, err := decodeCommand(want.encode())
		if err != nil || got != want {
			t.Errorf("kind %d: got %+v, %v", k, got, err)
		}
	}
}

func TestEpochs(t *testing.T) {
	var e epochs
	e = e.begin(1, 0).begin(3, 10).begin(4, 10).begin(7, 25) // 3 wrote nothing
	for _, c := range []struct {
		ask, epoch int32
		end        int64
	}{
		{0, 0, 0}, {1, 1, 10}, {2, 1, 10}, {3, 1, 10}, {4, 4, 25}, {6, 4, 25}, {7, 7, 40}, {8, -1, -1},
	} {
		epoch, end := e.end(c.ask, 7, 40)
		if epoch != c.epoch || end != c.end {
			t.Errorf("end of %d: got %d, %d, want %d, %d", c.ask, epoch, end, c.epoch, c.end)
		}
	}
	for offset, want := range map[int64]int32{0: 1, 9: 1, 10: 4, 24: 4, 25: 7, 99: 7} {
		if got := e.at(offset); got != want {
			t.Errorf("epoch at %d: got %d, want %d", offset, got, want)
		}
	}
	if got := e.trim(12); len(got) != 2 || got[0].Epoch != 4 {
		t.Errorf("after trimming below 12: %v", got)
	}
}

func TestSegmentBytes(t *testing.T) {
	for _, c := range []struct {
		want     int64
		segments int
		size     int64
	}{
		{14, 0, 14}, {14, 255, 14}, {14, 256, 1 << 10}, {14, 287, 1 << 10}, {14, 288, 2 << 10}, {14, 576, 1 << 20}, {14, 1 << 30, 1 << 20},
		{1500, 256, 1500}, {1500, 288, 2 << 10}, {1 << 20, 1 << 30, 1 << 20}, {2 << 30, 1 << 30, 2 << 30},
	} {
		if got := segmentBytes(c.want, c.segments); got != c.size {
			t.Errorf("%d wanted with %d segments: %d", c.want, c.segments, got)
		}
	}
}

func TestRetain(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	seg := func(base, bytes, ts int64) seglog.SegmentInfo {
		return seglog.SegmentInfo{Base: base, Bytes: bytes, MaxTimestamp: ts}
	}
	three := []seglog.SegmentInfo{seg(0, 100, 100_000), seg(10, 100, 500_000), seg(20, 50, 900_000)}
	for name, c := range map[string]struct {
		s     Settings
		start int64
	}{
		"no limits":               {Settings{CleanupDelete: true, RetentionTime: -1, RetentionBytes: -1}, 0},
		"one is too old":          {Settings{CleanupDelete: true, RetentionTime: 600 * time.Second, RetentionBytes: -1}, 10},
		"all but the active":      {Settings{CleanupDelete: true, RetentionTime: 200 * time.Second, RetentionBytes: -1}, 20},
		"all, the active as well": {Settings{CleanupDelete: true, RetentionTime: 50 * time.Second, RetentionBytes: -1}, 25},
		"too many bytes":          {Settings{CleanupDelete: true, RetentionTime: -1, RetentionBytes: 150}, 10},
		"just enough bytes":       {Settings{CleanupDelete: true, RetentionTime: -1, RetentionBytes: 151}, 0},
		"never by cleanup.policy": {Settings{CleanupCompact: true, RetentionTime: 1, RetentionBytes: 1}, 0},
		"the active stays":        {Settings{CleanupDelete: true, RetentionTime: -1, RetentionBytes: 0}, 20},
	} {
		start := retain(seglog.State{Next: 25, Segments: three}, c.s, now, false)
		if start != c.start {
			t.Errorf("%s: got start %d, want %d", name, start, c.start)
		}
		start = retain(seglog.State{Next: 25, Segments: three}, c.s, now, true)
		if want := min(c.start, 20); start != want {
			t.Errorf("%s, the active segment is new: got start %d, want %d", name, start, want)
		}
	}
}
