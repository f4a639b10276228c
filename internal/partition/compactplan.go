package partition

import (
	"math"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

// planCompaction says whether a log is to be compacted now, and up to which
// offset. first tells the time in ms of a segment's first batch.
//
// Only sealed segments are compacted, up to the first that has a record younger
// than min.compaction.lag.ms. There has to be enough in them that was never
// compacted (min.cleanable.dirty.ratio), or something too old
// (max.compaction.lag.ms, KIP-354), or tombstones whose time has come.
func planCompaction(st seglog.State, s Settings, now time.Time, first func(base int64) (int64, bool)) (upTo int64, due bool) {
	if !s.CleanupCompact {
		return 0, false
	}
	upTo = st.Compacted.UpTo
	var clean, dirty int64 // bytes
	oldest, expired := int64(math.MaxInt64), false
	for i, seg := range st.Segments {
		if i == len(st.Segments)-1 && !st.Sealed {
			break
		}
		if seg.LastOffset < st.Compacted.UpTo {
			clean += seg.Bytes
			expired = expired || seg.DeleteHorizon > 0 && seg.DeleteHorizon <= now.UnixMilli()
			continue
		}
		if s.MinCompactionLag > 0 && seg.MaxTimestamp > now.Add(-s.MinCompactionLag).UnixMilli() {
			break
		}
		dirty += seg.Bytes
		upTo = seg.LastOffset + 1
		if s.MaxCompactionLag > 0 {
			if ts, ok := first(seg.Base); ok {
				oldest = min(oldest, ts)
			}
		}
	}
	switch {
	case dirty == 0:
		return upTo, expired
	case s.MaxCompactionLag > 0 && oldest < now.Add(-s.MaxCompactionLag).UnixMilli():
		return upTo, true
	}
	return upTo, expired || float64(dirty) > s.MinCleanableRatio*float64(clean+dirty)
}

// active is when the active segment was begun.
type active struct {
	base  int64
	since int64 // ms, of the entry with its first batch; 0 if that is not known
}

// begin notes that a segment may have become the active one.
func (a *active) begin(log *seglog.Log, time int64) {
	if base, ok := log.Active(); !ok {
		*a = active{}
	} else if base != a.base || a.since == 0 {
		*a = active{base, time}
	}
}

// old says whether the active segment has to be sealed: it is as old as segment.ms
// or, where records have to be compacted in time, as max.compaction.lag.ms.
func (a *active) old(s Settings, now time.Time) bool {
	limit := s.SegmentTime
	if s.CleanupCompact && s.MaxCompactionLag > 0 && (limit <= 0 || s.MaxCompactionLag < limit) {
		limit = s.MaxCompactionLag
	}
	return limit > 0 && a.since > 0 && now.UnixMilli()-a.since >= limit.Milliseconds()
}

// stays says whether the active segment is too new to be removed, whatever
// timestamps its records came with: it is younger than activeStay and retention.ms.
func (a *active) stays(s Settings, now time.Time) bool {
	limit := min(activeStay, s.RetentionTime)
	return a.since > 0 && now.UnixMilli()-a.since < limit.Milliseconds()
}
