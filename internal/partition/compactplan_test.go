package partition

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

func TestPlanCompaction(t *testing.T) {
	const never = math.MaxInt64
	seg := func(base, bytes, ts, horizon int64) seglog.SegmentInfo {
		return seglog.SegmentInfo{Base: base, Bytes: bytes, MaxTimestamp: ts, LastOffset: base + 9, DeleteHorizon: horizon}
	}
	// Three segments of ten offsets each, the last of them the active one, at 1,000 s.
	state := func(upTo, horizon int64, sealed bool) seglog.State {
		return seglog.State{Next: 30, Sealed: sealed, Compacted: seglog.Compacted{UpTo: upTo}, Segments: []seglog.SegmentInfo{
			seg(0, 300, 100_000, horizon), seg(10, 100, 500_000, 0), seg(20, 50, 900_000, 0)}}
	}
	compact := Settings{CleanupCompact: true, MinCleanableRatio: 0.5}
	with := func(change func(s *Settings)) Settings {
		s := compact
		change(&s)
		return s
	}
	for _, c := range []struct {
		name string
		st   seglog.State
		s    Settings
		upTo int64
		due  bool
	}{
		{"not compacted", state(0, 0, false), Settings{CleanupDelete: true}, 0, false},
		{"all is dirty", state(0, 0, false), compact, 20, true},
		{"the last one is sealed too", state(0, 0, true), compact, 30, true},
		{"a quarter is dirty, half is wanted", state(10, 0, false), compact, 20, false},
		{"a quarter is dirty, a quarter is wanted", state(10, 0, false), with(func(s *Settings) { s.MinCleanableRatio = 0.25 }), 20, false},
		{"a quarter is dirty, less is wanted", state(10, 0, false), with(func(s *Settings) { s.MinCleanableRatio = 0.24 }), 20, true},
		{"nothing is dirty", state(20, 0, false), with(func(s *Settings) { s.MinCleanableRatio = 0 }), 20, false},
		{"tombstones whose time has come", state(20, 999_000, false), compact, 20, true},
		{"tombstones, and something dirty", state(10, 999_000, false), compact, 20, true},
		{"tombstones whose time comes", state(20, 1_001_000, false), compact, 20, false},
		{"the second is too young", state(0, 0, false), with(func(s *Settings) { s.MinCompactionLag = 600 * time.Second }), 10, true},
		{"all are too young", state(0, 0, false), with(func(s *Settings) { s.MinCompactionLag = 950 * time.Second }), 0, false},
		{"too old to wait", state(10, 0, false), with(func(s *Settings) { s.MaxCompactionLag = 499 * time.Second }), 20, true},
		{"old enough to wait", state(10, 0, false), with(func(s *Settings) { s.MaxCompactionLag = 501 * time.Second }), 20, false},
	} {
		first := func(base int64) (int64, bool) {
			for _, s := range c.st.Segments {
				if s.Base == base {
					return s.MaxTimestamp, true
				}
			}
			return never, false
		}
		upTo, due := planCompaction(c.st, c.s, time.UnixMilli(1_000_000), first)
		if upTo != c.upTo || due != c.due {
			t.Errorf("%s: up to %d, %t, want up to %d, %t", c.name, upTo, due, c.upTo, c.due)
		}
	}
}

func TestActiveIsOld(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		since int64
		s     Settings
		old   bool
	}{
		{900_000, Settings{}, false},
		{900_000, Settings{SegmentTime: 100 * time.Second}, true},
		{900_001, Settings{SegmentTime: 100 * time.Second}, false},
		{0, Settings{SegmentTime: 100 * time.Second}, false},
		{900_000, Settings{SegmentTime: time.Hour, MaxCompactionLag: time.Second}, false},
		{900_000, Settings{SegmentTime: time.Hour, MaxCompactionLag: time.Second, CleanupCompact: true}, true},
		{900_000, Settings{MaxCompactionLag: time.Second, CleanupCompact: true}, true},
	} {
		if got := (&active{since: c.since}).old(c.s, now); got != c.old {
			t.Errorf("since %d, %+v: %t", c.since, c.s, got)
		}
	}
}

// TestNewActiveStays: records that come with old timestamps are not removed at once.
func TestNewActiveStays(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		since     int64
		retention time.Duration
		stays     bool
	}{
		{999_999, 168 * time.Hour, true},
		{700_001, 168 * time.Hour, true},
		{700_000, 168 * time.Hour, false},
		{0, 168 * time.Hour, false},
		{999_001, time.Second, true},
		{999_000, time.Second, false},
		{999_999, time.Millisecond, false},
		{999_999, -1, false},
	} {
		if got := (&active{since: c.since}).stays(Settings{RetentionTime: c.retention}, now); got != c.stays {
			t.Errorf("since %d, retention %v: %t", c.since, c.retention, got)
		}
	}
}

// TestManifestVersions: a manifest that has nothing of compaction can be read by
// programs that do not know it.
func TestManifestVersions(t *testing.T) {
	for _, c := range []struct {
		m    Manifest
		want int
	}{
		{Manifest{}, 1},
		{Manifest{ActiveSince: 5}, 1},
		{Manifest{CompactSeq: 1}, 2},
		{Manifest{Log: seglog.State{Sealed: true}}, 2},
		{Manifest{Log: seglog.State{Segments: []seglog.SegmentInfo{{Generation: 1}}}}, 2},
		{Manifest{Log: seglog.State{Compacted: seglog.Compacted{Seq: 1}}}, 2},
		{Manifest{Refill: 5}, 3},
		{Manifest{Refill: 5, CompactSeq: 1}, 3},
	} {
		if got := c.m.versioned().Version; got != c.want {
			t.Errorf("%+v has version %d, want %d", c.m, got, c.want)
		}
	}
	for name, text := range map[string]string{
		"refilled by nobody":   `{"version":3,"log":{"start":0,"next":5},"segment_bytes":100,"refill":-1}`,
		"version 4":            `{"version":4,"log":{"start":0,"next":5},"segment_bytes":100}`,
		"carried out before":   `{"version":2,"log":{"start":0,"next":5,"compacted":{"seq":2}},"compactions":[{"seq":2,"segment_bytes":9}],"compact_seq":2,"segment_bytes":100}`,
		"not decided yet":      `{"version":2,"log":{"start":0,"next":5},"compactions":[{"seq":2,"segment_bytes":9}],"compact_seq":1,"segment_bytes":100}`,
		"in another order":     `{"version":2,"log":{"start":0,"next":5},"compactions":[{"seq":2,"segment_bytes":9},{"seq":1,"segment_bytes":9}],"compact_seq":2,"segment_bytes":100}`,
		"no room in a segment": `{"version":2,"log":{"start":0,"next":5},"compactions":[{"seq":1}],"compact_seq":2,"segment_bytes":100}`,
	} {
		if _, err := DecodeManifest([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "manifest") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
