package seglog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
)

var errOutdated = errors.New("segment became obsolete")

// OffsetForTimestamp returns offset and timestamp of the first record, from
// the log start on, whose timestamp is ts or later. It decodes the batch that
// holds it. ok is false when there is none.
func (l *Log) OffsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error) {
	for {
		offset, timestamp, ok, err = l.offsetForTimestamp(max(ts, 0))
		if err != errOutdated {
			return offset, timestamp, ok, err
		}
	}
}

func (l *Log) offsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error) {
	start, xs, err := l.extents()
	if err != nil {
		return 0, 0, false, err
	}
	for _, x := range xs {
		if x.maxTime < ts {
			continue
		}
		err := l.scanTimes(x, ts, start,
			func(top int64) bool { return top >= ts },
			func(o, t int64) bool {
				if t >= ts {
					offset, timestamp, ok = o, t, true
				}
				return !ok
			})
		if err != nil || ok {
			return offset, timestamp, ok && err == nil, err
		}
	}
	return 0, 0, false, nil
}

// MaxTimestamp returns offset and timestamp of the record with the greatest
// timestamp, the first of them if several have it. ok is false when the log
// holds no record with a timestamp.
func (l *Log) MaxTimestamp() (offset, ts int64, ok bool, err error) {
	for {
		offset, ts, err = l.maxTimestamp()
		if err != errOutdated {
			return offset, ts, err == nil && ts >= 0, err
		}
	}
}

func (l *Log) maxTimestamp() (offset, ts int64, err error) {
	offset, ts = -1, -1
	start, xs, err := l.extents()
	if err != nil {
		return offset, ts, err
	}
	// The best segment first. What it says may lie below the log start, so
	// that the next one wins after all.
	sort.SliceStable(xs, func(i, j int) bool { return xs[i].maxTime > xs[j].maxTime })
	for _, x := range xs {
		if x.maxTime <= ts {
			break
		}
		from := x.maxTime
		if x.seg.base < start {
			from = 0 // the greatest one may be hidden: look at all the rest
		}
		err := l.scanTimes(x, from, start,
			func(top int64) bool { return top > ts },
			func(o, t int64) bool {
				if t > ts {
					offset, ts = o, t
				}
				return ts < x.maxTime
			})
		if err != nil {
			return -1, -1, err
		}
	}
	return offset, ts, nil
}

// extents are the log start and the segments that have anything.
func (l *Log) extents() (start int64, xs []extent, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed() {
		return 0, nil, ErrClosed
	}
	for _, s := range l.segs {
		if s.bytes > 0 {
			xs = append(xs, s.extentLocked())
		}
	}
	return l.start, xs, nil
}

// scanTimes calls fn for the records of x at or above start, in order, until
// it returns false. It skips the front of the segment as far as all timestamps
// there are below from, and batches whose greatest timestamp want rejects. An
// obsolete segment is errOutdated.
func (l *Log) scanTimes(x extent, from, start int64, want func(top int64) bool, fn func(offset, ts int64) bool) error {
	entries, err := l.index(x)
	if err == nil {
		e := byTime(entries, from)
		if o := byOffset(entries, x.seg.base, max(start, x.seg.base)); o.pos > e.pos {
			e = o
		}
		err = l.walk(x, place{int64(e.pos), x.seg.base + int64(e.rel)}, func(h Batch, pos int64) (bool, error) {
			if h.LastOffset() < start || !want(h.maxTime()) {
				return true, nil
			}
			more := true
			err := l.times(x, h, pos, func(o, t int64) bool {
				if o >= start {
					more = fn(o, t)
				}
				return more
			})
			return more, err
		})
	}
	if err != nil && l.outdated(x.seg) {
		return errOutdated
	}
	l.report(x.seg, err)
	return err
}

// walk calls fn with the checked headers from a place on, until it says no
// more or the segment ends.
func (l *Log) walk(x extent, from place, fn func(h Batch, pos int64) (more bool, err error)) error {
	w := walker{seg: x.seg.name, pos: from.pos, end: x.end, last: x.last, next: from.offset, exact: true, epoch: minEpoch}
	var buf [BatchHeaderLen]byte
	var v *view
	defer func() {
		if v != nil {
			v.release()
		}
	}()
	for w.pos < x.end {
		pos := w.pos
		if x.end-pos < BatchHeaderLen {
			return x.seg.damage(pos, "no room for a batch header")
		}
		if v == nil || pos+BatchHeaderLen > v.end() {
			if v != nil {
				v.release()
				v = nil
			}
			var err error
			if v, err = l.view(x, pos, min(x.end, pos+scanAhead)); err != nil {
				return err
			}
		}
		h := v.header(pos, &buf)
		if err := w.check(h); err != nil {
			l.w.blocks.forget(x.seg)
			return err
		}
		if more, err := fn(h, pos); err != nil || !more {
			return err
		}
	}
	return nil
}

// times calls fn for the records of the batch at pos. Nobody has decoded the
// batch before: one that can't be, though its CRC is right, counts as a single
// record.
func (l *Log) times(x extent, h Batch, pos int64, fn func(offset, ts int64) bool) error {
	v, err := l.view(x, pos, pos+h.Size())
	if err != nil {
		return err
	}
	defer v.release()
	buf := buffer()
	defer putBuffer(buf)
	b := Batch(v.contiguous(buf))
	if crc := crc32.Checksum(b[posAttributes:], castagnoli); crc != b.CRC() {
		l.w.blocks.forget(x.seg)
		return x.seg.damage(pos, fmt.Sprintf("batch has crc %08x, its header says %08x", crc, b.CRC()))
	}
	err = Records(b, func(offset, ts int64, _, _ []byte) bool { return fn(offset, ts) })
	if err != nil {
		l.logger.Warn("stored batch does not decode", "dir", l.dir, "offset", b.BaseOffset(), "err", err)
		fn(b.BaseOffset(), b.maxTime())
	}
	return nil
}
