package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sort"
)

const minEpoch = math.MinInt32

// Read returns whole batches from the one that holds offset (or, if none does,
// the next one) on: at most maxBytes, of one segment, none that begins at or
// above limit. If minOneBatch, the first is returned whatever its length. For
// an offset that is the next one, or not below limit, the Data is empty.
//
// Every header is checked before it is returned, and the CRC of what comes from
// a file. What lies before damage is returned; a DamageError means that the file
// is not what was written from the batch that was asked for on. Offsets outside
// of the log are ErrOutOfRange.
func (l *Log) Read(offset int64, maxBytes int, minOneBatch bool, limit int64) (Data, error) {
	for {
		x, from, ok, err := l.locate(offset, limit)
		if err != nil || !ok {
			return Data{}, err
		}
		d, err := l.readSegment(x, from, offset, min(max(maxBytes, 0), 1<<30), minOneBatch, limit)
		if err != nil {
			if l.outdated(x.seg) {
				continue // it became obsolete under us: say what that means
			}
			l.report(x.seg, err)
			return Data{}, err
		}
		return d, nil
	}
}

// place is a batch's position in a segment, and its base offset.
type place struct{ pos, offset int64 }

// locate returns the segment that holds offset and a place in it at or before
// the batch, from memory alone if it can: from.pos is -1 if it can't. ok is
// false when there is nothing to read yet.
func (l *Log) locate(offset, limit int64) (x extent, from place, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed() {
		return x, from, false, ErrClosed
	}
	if offset < l.start || offset > l.next {
		return x, from, false, fmt.Errorf("read at %d of [%d, %d): %w", offset, l.start, l.next, ErrOutOfRange)
	}
	i := firstFrom(l.segs, offset)
	if offset == l.next || offset >= limit || i == len(l.segs) || l.segs[i].bytes == 0 {
		return x, from, false, nil
	}
	s := l.segs[i]
	x, from = s.extentLocked(), place{pos: -1}
	if x.entries == nil {
		x.entries, _ = l.w.indexes.get(s)
	}
	if len(x.entries) > 0 {
		e := byOffset(x.entries, s.base, max(offset, s.base))
		from = place{int64(e.pos), s.base + int64(e.rel)}
	}
	// What is in memory is better, even if the walk to the batch is longer.
	for k := len(s.chunks) - 1; k >= 0; k-- {
		c := s.chunks[k]
		if c.refs.Load() == 0 || c.first >= 0 && c.first <= from.pos {
			break
		}
		if c.first >= 0 && c.firstOffset <= offset {
			from = place{c.first, c.firstOffset}
			break
		}
	}
	return x, from, true, nil
}

// outdated says whether the segment was given up.
func (l *Log) outdated(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.obsolete || l.closed()
}

func (l *Log) readSegment(x extent, from place, offset int64, maxBytes int, minOne bool, limit int64) (Data, error) {
	if from.pos < 0 {
		entries, err := l.index(x)
		if err != nil {
			return Data{}, err
		}
		e := byOffset(entries, x.seg.base, max(offset, x.seg.base))
		from = place{int64(e.pos), x.seg.base + int64(e.rel)}
	}
	want := int64(maxBytes) + l.interval + BatchHeaderLen
	for {
		v, short := l.viewPart(x, from.pos, min(x.end, from.pos+want))
		need, err := v.pick(x, from, offset, int64(maxBytes), minOne, limit, short)
		if v.size > 0 && err != nil {
			// Good batches come before it. Whoever asks for what is behind them is
			// told; that there is damage is known now.
			l.w.blocks.forget(x.seg)
			if !l.outdated(x.seg) {
				l.report(x.seg, err)
			}
			return Data{v}, nil
		}
		if err == nil && need == 0 {
			if v.size == 0 {
				v.release()
				return Data{}, nil
			}
			return Data{v}, nil
		}
		v.release()
		if err != nil {
			l.w.blocks.forget(x.seg)
			return Data{}, err
		}
		want = need - from.pos
	}
}

// pick cuts the view, which begins with the batch at from, to what Read
// returns. need is the position up to which the view has to reach for that;
// 0: it was enough. short says why the view can't reach further, if so. With an
// error the view is cut to the good batches before it, if any.
func (v *view) pick(x extent, from place, offset, maxBytes int64, minOne bool, limit int64, short error) (need int64, err error) {
	w := walker{seg: x.seg.name, pos: from.pos, end: x.end, last: x.last, next: from.offset, exact: true, epoch: minEpoch}
	var buf [BatchHeaderLen]byte
	begin, end := int64(-1), from.pos
	last := from.pos                     // where the batch before end begins
	next, lastNext := int64(0), int64(0) // the offsets behind end, and behind last
	for w.pos < x.end && err == nil {
		pos := w.pos
		if x.end-pos < BatchHeaderLen {
			err = x.seg.damage(pos, "no room for a batch header")
			break
		}
		if pos+BatchHeaderLen > v.end() {
			reach := min(x.end, begin+maxBytes)
			if begin < 0 {
				reach = min(x.end, pos+BatchHeaderLen+max(maxBytes, scanAhead))
			}
			if reach <= v.end() {
				break
			}
			if short == nil {
				return reach, nil
			}
			err = short
			break
		}
		h := v.header(pos, &buf)
		base := h.BaseOffset()
		if err = w.check(h); err != nil {
			end, next = last, lastNext // its length or its offset may be what is wrong
			break
		}
		if base >= limit {
			break
		}
		if w.next <= offset {
			continue // wholly below
		}
		if begin < 0 {
			begin, end, last = pos, pos, pos
		}
		if w.pos-begin > maxBytes && !(minOne && pos == begin) {
			break
		}
		if w.pos > v.end() {
			if short == nil {
				return max(w.pos, min(x.end, begin+maxBytes)), nil
			}
			err = short
			break
		}
		last, lastNext, end, next = pos, next, w.pos, w.next
	}
	if begin < 0 {
		begin, end = from.pos, from.pos
	}
	if good, before, bad := v.verify(x.seg.name, begin, end); bad != nil {
		end, next, err = good, before, bad
	}
	v.next = next
	v.cut(begin, end)
	return 0, err
}

// scanAhead is how far a walk to a batch looks at least when it goes on.
const scanAhead = 64 << 10

// view holds the bytes [pos, end) of a segment, which must be published: from
// the tail what is there, the rest from the file.
func (l *Log) view(x extent, pos, end int64) (*view, error) {
	v, err := l.viewPart(x, pos, end)
	if err != nil {
		v.release()
		return nil, err
	}
	return v, nil
}

// viewPart is view, but with an error the view has what comes before it.
func (l *Log) viewPart(x extent, pos, end int64) (*view, error) {
	s := x.seg
	v := newView(pos)
	var tailRoom [8]*chunk
	tail := tailRoom[:0] // newest first

	l.mu.Lock()
	fileEnd, written := end, s.written
	n := sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].start >= end })
	for n--; n >= 0 && fileEnd > pos && s.chunks[n].tryRetain(); n-- {
		c := s.chunks[n]
		tail = append(tail, c)
		fileEnd = c.start
	}
	err := l.alive()
	l.mu.Unlock()

	switch {
	case pos < fileEnd && fileEnd > written:
		// Only the end of the log takes away what was not written.
		err = fmt.Errorf("read segment %d in %s: %w", s.base, l.dir, cmp.Or(err, ErrClosed))
	case !errors.Is(err, ErrClosed):
		err = l.viewFile(v, s, pos, fileEnd, written)
	}
	for i := len(tail) - 1; i >= 0; i-- {
		c := tail[i]
		if err != nil {
			c.release()
			continue
		}
		to := end
		if i > 0 {
			to = tail[i-1].start
		}
		v.add(c, max(pos, c.start), to)
	}
	return v, err
}

// viewFile adds the bytes [pos, end) from the file, through the block cache.
func (l *Log) viewFile(v *view, s *segment, pos, end, written int64) error {
	if pos >= end {
		return nil
	}
	cache := l.w.blocks
	first, last := pos/blockBytes, (end-1)/blockBytes
	sequential := first == 0 || cache.cache.has(blockKey{s, first - 1}) || cache.cache.has(blockKey{s, first})
	if sequential {
		cache.ahead(s, first+1, last+1+readAhead, written)
	} else if last > first {
		cache.ahead(s, first+1, last+1, written)
	}
	for n := first; n <= last; n++ {
		upTo := min(end, (n+1)*blockBytes)
		blk, _, err := cache.get(s, n, written, upTo)
		if err != nil {
			return err
		}
		v.add(&blk.chunk, max(pos, n*blockBytes), upTo)
	}
	return nil
}
