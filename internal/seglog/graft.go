package seglog

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoGraft says that another replica's segments can't take the place of this
// log's now. Once both were compacted as far it may be possible.
var ErrNoGraft = errors.New("the other replica's segments do not fit")

// Graft puts the segments of another replica, of the same records but compacted
// further, in the place of those of this log that begin it: for a damaged segment
// that nobody has any more just so. from is the other log's State, and fetch reads
// its segments. What is fetched is verified and durable before anything changes,
// and has generations of its own here. The old files go as after a compaction.
//
// It goes up to where both logs end a sealed segment, behind the damaged one and
// behind all that either of them has compacted: what one of them has removed
// because of a later record must not meet what the other one has removed.
func (l *Log) Graft(ctx context.Context, damaged int64, from State, fetch Fetch) error {
	defer l.tell()
	l.compactMu.Lock()
	defer l.compactMu.Unlock()
	pin := l.Pin()
	err := l.graft(ctx, pin, damaged, from, fetch)
	err = errors.Join(err, pin.Close())
	if err != nil {
		return fmt.Errorf("replace the beginning of %s: %w", l.dir, err)
	}
	return nil
}

func (l *Log) graft(ctx context.Context, pin *Pin, damaged int64, from State, fetch Fetch) error {
	if err := from.Validate(); err != nil {
		return err
	}
	own := pin.st
	info, ok := own.Segment(damaged)
	if !ok {
		return nil // not needed any more
	}
	end, ok := graftEnd(own, from, info)
	if !ok {
		return ErrNoGraft
	}
	c := compaction{log: l, ctx: ctx, pin: pin, st: own.Compacted}
	for _, info := range own.Segments {
		if info.LastOffset < end {
			c.segs = append(c.segs, pin.segs[info.key()])
		}
	}
	st := Compacted{Seq: from.Compacted.Seq, UpTo: max(own.Compacted.UpTo, from.Compacted.UpTo),
		Generation: max(own.Compacted.Generation, from.Compacted.Generation)}
	var made []*segment
	for _, info := range from.Segments {
		if info.LastOffset >= end {
			break
		}
		st.Generation++
		s, err := c.fetchSegment(info, st.Generation, fetch)
		if err != nil {
			for _, s := range made {
				err = errors.Join(err, l.removeLeft(s))
			}
			return err
		}
		made = append(made, s)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return l.failCompact(err)
	}
	c.swap(c.segs, made, st)
	return nil
}

// fetchSegment makes a verified, durable copy of another log's segment.
func (c *compaction) fetchSegment(info SegmentInfo, generation int64, fetch Fetch) (*segment, error) {
	l := c.log
	s := l.newSegment(segmentKey{info.Base, generation})
	if err := l.removeLeft(s); err != nil {
		return nil, err
	}
	f, err := l.fs.Create(s.name)
	if err != nil {
		return nil, err
	}
	ended := func(base int64, p []byte, off int64) (int, error) {
		if err := errors.Join(context.Cause(c.ctx), l.alive()); err != nil {
			return 0, err
		}
		return fetch(base, p, off)
	}
	stage := stager{fs: l.fs, dir: l.dir, fetch: ended, buf: make([]byte, stageBytes)}
	err = stage.fill(f, info)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, l.removeLeft(s))
	}
	s.bytes, s.crc, s.maxTime, s.last, s.horizon = info.Bytes, info.CRC, info.MaxTimestamp, info.LastOffset, info.DeleteHorizon
	s.written, s.synced, s.named, s.sealed = info.Bytes, info.Bytes, true, true
	return s, nil
}

// graftEnd is where Graft ends.
func graftEnd(own, from State, damaged SegmentInfo) (end int64, ok bool) {
	if from.Compacted.Seq < own.Compacted.Seq {
		return 0, false
	}
	least := max(damaged.LastOffset+1, own.Compacted.UpTo, from.Compacted.UpTo)
	ends := []int64{least}
	for _, info := range own.Segments {
		ends = append(ends, max(info.LastOffset+1, least))
	}
	for _, end := range ends {
		if endsAt(own, end) && endsAt(from, end) {
			return end, true
		}
	}
	return 0, false
}

// endsAt says whether all segments that begin before an offset are sealed, and end
// before it.
func endsAt(st State, end int64) bool {
	for i, info := range st.Segments {
		if info.Base >= end {
			return true
		}
		if info.LastOffset >= end || i == len(st.Segments)-1 && !st.Sealed {
			return false
		}
	}
	return st.Next >= end
}

// Same says whether two replicas have the same bytes in a segment.
func (s SegmentInfo) Same(other SegmentInfo) bool {
	s.Generation, other.Generation = 0, 0
	return s == other
}
