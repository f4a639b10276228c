package wal

import (
	"maps"
	"slices"
	"time"
)

// copyForward copies what is live in the oldest file to the head, when that is
// worth it and possible, so that the file can be recycled.
func (c *committer) copyForward() {
	l := c.log
	for c.forward {
		r := l.gather(c.copyRoom(), c.credit)
		if r == nil || !c.fill(r) {
			c.forward = false
			return
		}
		size := r.size
		c.credit -= size
		if err := c.commit([]*request{r}); err != nil {
			c.forward = false
			return
		}
		l.mu.Lock()
		l.copied += uint64(size)
		busy := len(l.queue) > l.lazies
		l.mu.Unlock()
		if busy { // the rest after the next batch
			return
		}
	}
}

// headroom is what the log keeps below its limit for files that are on their way:
// the next one, one that copies fill, and one that is being released.
func (o *Options) headroom() int64 {
	return min(max(o.SizeLimit/4, 3*o.FileSize), o.SizeLimit/2)
}

// forwardAbove is how much the begun files may take before live frames of the
// oldest one are copied forward.
func (o *Options) forwardAbove() int64 {
	return max(o.SizeLimit-o.headroom()-o.FileSize-o.reserveSize(), 2*o.FileSize)
}

const (
	// copyBytes is what one copy holds at most, so that appends need not wait long.
	copyBytes = 8 << 20
	// aloneShare of a file is the most that is copied to let go of empty files
	// behind it while the log is small anyway.
	aloneShare = 16
)

// gather decides what to copy next, if anything. Nothing is in flight while it
// runs, since the committer calls it; what is queued comes after the copy.
//
// While all that is live takes no more than half of forwardAbove, copying pays and
// comes to an end: a turn through the whole log leaves it half full at most. When
// more is live it is the groups' owners who have to take snapshots; see
// Stats.PinnedBy.
//
// What is copied is bounded by what was appended (credit): else groups whose live
// entries take most of a small log would have it copied round and round. Without
// credit the log grows instead.
func (l *Log) gather(room, credit int64) *request {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := 0
	for i < len(l.files)-1 && l.files[i].live == 0 { // on its way out
		i++
	}
	if i == len(l.files)-1 {
		return nil
	}
	oldest, size, live := l.files[i], int64(0), int64(0)
	for _, f := range l.files[i:] {
		size += f.size
		live += f.liveBytes
	}
	above := l.opts.forwardAbove()
	switch {
	case size > above:
		if live > above/2 || credit <= 0 {
			l.tooSmallLocked(live, credit)
			return nil
		}
	case len(l.files)-i < 4 || l.files[i+1].live > 0 || oldest.liveBytes > l.opts.maxRequest()/aloneShare:
		return nil
	}
	r := newRequest(nil, opForward)
	limit := min(room, copyBytes)
	for _, id := range slices.Sorted(maps.Keys(l.groups)) {
		if !r.gatherGroup(l.groups[id], oldest.seq, &limit) {
			break
		}
	}
	if len(r.copies) == 0 { // what pins the file is a removal still queued
		r.recycle()
		return nil
	}
	return r
}

// copyRoom is what one copy may take: what is left of the current file, unless
// that is hardly anything. A copy that did not fit would leave it unused.
func (c *committer) copyRoom() int64 {
	if room := c.room(); room > c.log.opts.maxRequest()/aloneShare {
		return room
	}
	return c.log.opts.maxRequest()
}

// earn gives credit for bytes that were appended, up to a log's worth.
func (c *committer) earn(bytes int64) { c.credit = min(c.credit+bytes, c.log.opts.SizeLimit) }

// warnAgain is how long the log says nothing more of a limit that is too small.
const warnAgain = 10 * time.Minute

// tooSmallLocked says, now and then, that the limit is too small for what the
// groups keep.
func (l *Log) tooSmallLocked(live, credit int64) {
	if l.usedLocked() <= l.opts.SizeLimit || time.Since(l.warned) < warnAgain {
		return
	}
	l.warned = time.Now()
	l.opts.Logger.Warn("the limit of the write-ahead log is too small for what its groups keep live: the log exceeds it; raise --wal-size-limit",
		"limit", l.opts.SizeLimit, "size", l.usedLocked(), "live", live, "groups", len(l.groups), "copied", l.copied, "credit", credit)
}

// gatherGroup notes what to copy of one group, within a limit of bytes that it
// counts down; false when that is used up. At least one frame is taken.
func (r *request) gatherGroup(g *Group, oldest uint64, limit *int64) bool {
	note := func(c copied) bool {
		*limit -= int64(c.from.size)
		if *limit < 0 && len(r.copies) > 0 {
			return false
		}
		r.copies = append(r.copies, c)
		return true
	}
	if g.vote.size > 0 && g.vote.seq == oldest && !note(copied{group: g, kind: KindVote, from: g.vote.place}) {
		return false
	}
	for _, key := range slices.Sorted(maps.Keys(g.stable)) {
		if v := g.stable[key]; v.seq == oldest && !note(copied{group: g, kind: KindStable, from: v.place}) {
			return false
		}
	}
	for i, s := range g.slots {
		if s.seq != oldest {
			if g.scattered {
				continue
			}
			break // the others are in later files
		}
		c := copied{group: g, kind: KindMoved, index: g.first + uint64(i), from: place{seq: s.seq, off: s.off, size: s.size}}
		if !note(c) {
			return false
		}
	}
	return true
}

// fill reads the frames to be copied and checks them. It gives the request back
// and returns false when one can't be read: its group then keeps the file, and
// reads of the entry say what is wrong.
func (c *committer) fill(r *request) bool {
	l := c.log
	for _, cp := range r.copies {
		h := frameHeader{kind: cp.kind, group: cp.group.id, index: cp.index}
		l.mu.Lock()
		f := l.fileLocked(cp.from.seq) // stays: only the committer makes frames dead
		l.mu.Unlock()
		frame, err := f.read(int64(cp.from.off), int64(cp.from.size))
		same := frame.Kind == cp.kind || cp.kind == KindMoved && frame.Kind == KindEntry
		if err == nil && (!same || frame.Group != h.group || frame.Index != cp.index) {
			err = &DamageError{File: f.path, Offset: int64(cp.from.off), Reason: "another frame is in its place"}
		}
		if err != nil {
			l.opts.Logger.Error("can't copy a frame within the write-ahead log; its file stays",
				"group", h.group, "kind", cp.kind.String(), "index", cp.index, "err", err)
			r.recycle()
			return false
		}
		h.typ, h.term, h.at = frame.Type, frame.Term, frame.AppendedAt
		r.add(h, frame.Data, frame.Extensions)
	}
	return true
}

// movedLocked takes over one copied frame, unless what it copies was removed or
// replaced meanwhile: then nothing needs the copy.
func (l *Log) movedLocked(c copied, part part, to place) {
	g := c.group
	switch c.kind {
	case KindVote:
		if g.vote.place == c.from {
			g.vote.place = to
			l.pinLocked(to)
			l.unpinPlaceLocked(c.from)
		}
	case KindStable:
		if v, ok := g.stable[string(part.data)]; ok && v.place == c.from {
			v.place = to
			g.stable[string(part.data)] = v
			l.pinLocked(to)
			l.unpinPlaceLocked(c.from)
		}
	case KindMoved:
		if len(g.slots) == 0 || c.index < g.first || c.index > g.lastLocked() {
			return
		}
		s := &g.slots[c.index-g.first]
		if (place{seq: s.seq, off: s.off, size: s.size}) != c.from {
			return
		}
		s.seq, s.off = to.seq, to.off
		g.scattered = true
		l.pinLocked(to)
		l.unpinPlaceLocked(c.from)
	}
}
