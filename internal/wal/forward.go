package wal

import (
	"maps"
	"slices"
)

// copyForward copies what is live in the oldest file to the head, when that is
// worth it and possible, so that the file can be recycled.
func (c *committer) copyForward() {
	l := c.log
	for c.forward {
		r := l.gather()
		if r == nil || !c.fill(r) {
			c.forward = false
			return
		}
		size := r.size
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

// gather decides what to copy next, if anything. Nothing is in flight while it
// runs, since the committer calls it; what is queued comes after the copy.
func (l *Log) gather() *request {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, i := l.sizeLocked(), 0
	for i < len(l.files)-1 && l.files[i].live == 0 { // on its way out
		size -= l.files[i].size
		i++
	}
	if i == len(l.files)-1 {
		return nil
	}
	oldest := l.files[i].seq
	over := size > l.opts.SizeLimit
	alone := len(l.files)-i >= 4 && l.files[i+1].live == 0
	if !over && !alone {
		return nil
	}
	perGroup := l.opts.maxRequest() / 2
	if !over {
		perGroup /= 8
	}
	var ids []uint64
	for id, g := range l.groups {
		if len(g.slots) > 0 && g.slots[0].seq == oldest && g.liveLocked() > perGroup {
			return nil // it pins the file whatever becomes of the others
		}
		if !g.emptyLocked() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	r := newRequest(nil, opForward)
	var total int64
	for _, id := range ids {
		before := len(r.copies)
		total += r.gatherGroup(l.groups[id], oldest)
		if total > l.opts.maxRequest() {
			r.copies = r.copies[:before]
			break
		}
	}
	if len(r.copies) == 0 { // what pins the file is a removal still queued
		r.recycle()
		return nil
	}
	return r
}

// gatherGroup notes what to copy of one group and returns the size of the copy.
func (r *request) gatherGroup(g *Group, oldest uint64) (size int64) {
	note := func(c copied) {
		r.copies = append(r.copies, c)
		size += max(frameHead, int64(c.from.size))
	}
	if g.vote.size > 0 && g.vote.seq == oldest {
		note(copied{group: g, kind: KindVote, from: g.vote.place})
	}
	for _, key := range slices.Sorted(maps.Keys(g.stable)) {
		if v := g.stable[key]; v.seq == oldest {
			note(copied{group: g, kind: KindStable, from: v.place})
		}
	}
	if len(g.slots) == 0 || g.slots[0].seq != oldest {
		return size
	}
	note(copied{group: g, kind: KindRewrite, index: g.first, count: len(g.slots)})
	for i, s := range g.slots {
		note(copied{group: g, kind: KindEntry, index: g.first + uint64(i), from: place{seq: s.seq, off: s.off, size: s.size}})
	}
	return size
}

// fill reads the frames to be copied and checks them. It gives the request back
// and returns false when one can't be read: its group then keeps the file, and
// reads of the entry say what is wrong.
func (c *committer) fill(r *request) bool {
	l := c.log
	for _, cp := range r.copies {
		h := frameHeader{kind: cp.kind, group: cp.group.id, index: cp.index, term: uint64(cp.count)}
		if cp.kind == KindRewrite {
			r.add(h, nil, nil)
			continue
		}
		l.mu.Lock()
		f := l.fileLocked(cp.from.seq) // stays: only the committer makes frames dead
		l.mu.Unlock()
		frame, err := f.read(int64(cp.from.off), int64(cp.from.size))
		if err == nil && (frame.Kind != cp.kind || frame.Group != h.group || frame.Index != cp.index) {
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
	case KindEntry:
		if len(g.slots) == 0 || c.index < g.first || c.index > g.lastLocked() {
			return
		}
		s := &g.slots[c.index-g.first]
		if (place{seq: s.seq, off: s.off, size: s.size}) != c.from {
			return
		}
		s.seq, s.off = to.seq, to.off
		l.pinLocked(to)
		l.unpinPlaceLocked(c.from)
	}
}
