package seglog

import (
	"math"
	"sort"
	"sync/atomic"

	"github.com/raftsman/raftsman/internal/vfs"
)

// segment is one file of a log and what of it is in memory. Fields without a
// remark are guarded by Log.mu.
type segment struct {
	reported   atomic.Bool // damage was logged
	log        *Log        // fixed
	segmentKey             // fixed
	name       string      // path of the file; fixed

	// Published: what readers and State see. Fixed once sealed.
	bytes   int64
	crc     uint32
	maxTime int64
	last    int64
	sealed  bool

	// entries is the index of the active segment, and of a sealed one until it
	// is in its file. Only appended to: a copy of the slice may be read
	// without the lock.
	entries []indexEntry

	chunks  []*chunk // in file order; evicted ones at the front, until pruned
	written int64    // bytes in the file; grows under Log.wmu
	synced  int64    // bytes fsynced; grows under Log.syncMu
	named   bool     // its name is durable

	firstTime  int64 // see Log.FirstTimestamp
	firstKnown bool

	horizon  int64 // see SegmentInfo.DeleteHorizon; fixed
	obsolete bool  // below the log start, or replaced: not read any more
	replaced int64 // Compacted.Generation since which another one is in its place; 0 is none
	doomed   bool  // no durable manifest names it: remove once no Pin holds it
	gone     bool  // removed
	pins     int

	// The files open for writing, changed under Log.wmu. SyncTo uses file
	// without it: it is set under Log.mu, and closed by holders of Log.syncMu.
	file, direct vfs.File
}

// newSegment is an empty one.
func (l *Log) newSegment(key segmentKey) *segment {
	return &segment{log: l, segmentKey: key, name: vfs.Join(l.dir, key.fileName(logSuffix)), maxTime: -1, last: key.base - 1}
}

func (s *segment) indexPath() string { return vfs.Join(s.log.dir, s.fileName(indexSuffix)) }

func (s *segment) damage(at int64, reason string) *DamageError {
	return &DamageError{File: s.name, Offset: at, Reason: reason}
}

func (s *segment) infoLocked() SegmentInfo {
	return SegmentInfo{Base: s.base, Bytes: s.bytes, CRC: s.crc, MaxTimestamp: s.maxTime, LastOffset: s.last,
		Generation: s.generation, DeleteHorizon: s.horizon}
}

// fits says whether a batch of that size and last offset may be appended.
func (s *segment) fits(size, last, segmentBytes int64) bool {
	return s.bytes == 0 || s.bytes+size <= segmentBytes && last-s.base <= math.MaxInt32
}

// extent is what a reader knows of a segment: fixed when it looked.
type extent struct {
	seg     *segment
	end     int64 // bytes
	last    int64 // offset of the last record
	maxTime int64
	entries []indexEntry // nil: to be loaded
}

func (s *segment) extentLocked() extent {
	return extent{seg: s, end: s.bytes, last: s.last, maxTime: s.maxTime, entries: s.entries}
}

// pruneLocked forgets evicted chunks.
func (s *segment) pruneLocked() {
	n := 0
	for n < len(s.chunks) && s.chunks[n].refs.Load() == 0 {
		s.chunks[n] = nil
		n++
	}
	s.chunks = s.chunks[n:]
}

// tailLocked is the position up to which the segment's bytes are placed,
// published or not.
func (s *segment) tailLocked() int64 {
	if n := len(s.chunks); n > 0 {
		return max(s.chunks[n-1].end, s.written)
	}
	return s.written
}

// firstFrom returns the index of the first of the sorted segments that ends
// at or behind offset.
func firstFrom(segs []*segment, offset int64) int {
	return sort.Search(len(segs), func(i int) bool { return segs[i].last >= offset || segs[i].bytes == 0 })
}
