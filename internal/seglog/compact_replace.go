package seglog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"syscall"
)

// replace makes one segment of a group, and puts it in the group's place. last
// says that the group is the last one below UpTo.
func (c *compaction) replace(group []extent, last bool) error {
	st := c.st
	st.Pass, st.Done = c.req.Seq, group[len(group)-1].last+1
	w := compactWriter{c: c, generation: st.Generation + 1}
	unchanged := len(group) == 1
	cleaner := batchCleaner{now: c.req.Now, horizon: c.req.Horizon}
	for i, x := range group {
		err := c.scan(x, func(b Batch) error {
			c.stats.Records += int64(b.NumRecords())
			hold := last && i == len(group)-1 && b.LastOffset() == x.last
			out, err := cleaner.clean(b, hold, c.superfluous)
			if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnknownCodec) {
				c.log.logger.Warn("a stored batch does not decode, compaction leaves it as it is", "dir", c.log.dir, "offset", b.BaseOffset(), "err", err)
				out, err = b, nil
			}
			if err != nil {
				return err
			}
			unchanged = unchanged && len(out) > 0 && &out[0] == &b[0]
			if len(out) == 0 {
				return nil
			}
			c.stats.Kept += int64(out.NumRecords())
			return w.append(out)
		})
		if err != nil {
			return errors.Join(err, w.abort())
		}
	}
	if unchanged {
		if err := w.abort(); err != nil {
			return err
		}
		c.advance(st)
		return nil
	}
	made, err := w.finish()
	if err != nil {
		return errors.Join(err, w.abort())
	}
	st.Generation++
	if made == nil {
		c.swap(group, nil, st)
	} else {
		c.swap(group, []*segment{made}, st)
	}
	return nil
}

// failCompact: a failed write or fsync is the log's end, as any other. Without
// space nothing is lost.
func (l *Log) failCompact(err error) error {
	if errors.Is(err, syscall.ENOSPC) || l.alive() != nil {
		return err
	}
	return l.failSync(err)
}

func (c *compaction) advance(st Compacted) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	c.st, c.log.compacted = st, st
}

// swap puts made, which is durable, or nothing, in the place of the group.
// Segments that have fallen below the log start meanwhile stay where they are.
func (c *compaction) swap(group []extent, made []*segment, st Compacted) {
	l := c.log
	in := make(map[*segment]bool, len(group))
	for _, x := range group {
		in[x.seg] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.st, l.compacted = st, st
	segs := make([]*segment, 0, len(l.segs))
	placed := false
	for _, s := range l.segs {
		if !in[s] {
			segs = append(segs, s)
			continue
		}
		if !placed {
			placed = true
			for _, m := range made {
				if m.last >= l.start {
					segs = append(segs, m)
				}
			}
		}
		s.obsolete, s.replaced = true, st.Generation
		l.stale = append(l.stale, s)
		c.stats.Segments++
		c.stats.Before += s.bytes
	}
	l.segs = segs
	for _, m := range made {
		if !placed || m.last < l.start { // the file goes with those that it replaces
			m.obsolete, m.replaced = true, st.Generation
			l.stale = append(l.stale, m)
			continue
		}
		c.stats.Made++
		c.stats.After += m.bytes
	}
}

// compactWriter writes one segment.
type compactWriter struct {
	c          *compaction
	generation int64
	seg        *segment // nil before the first batch
	entries    []indexEntry
	crc        uint32
	buf        []byte // page-aligned; what is not in the file yet
	written    int64
	closed     bool
}

// append takes a batch.
func (w *compactWriter) append(b Batch) error {
	l := w.c.log
	if w.seg == nil {
		w.seg = l.newSegment(segmentKey{b.BaseOffset(), w.generation})
		w.seg.sealed = true
		w.buf = alignedBuffer(scanBytes)[:0]
		if err := l.removeLeft(w.seg); err != nil {
			return err
		}
		if err := w.seg.openFiles(); err != nil {
			return l.failCompact(err)
		}
	}
	s := w.seg
	w.entries = addEntry(w.entries, s.base, b.BaseOffset(), s.bytes, s.maxTime, l.interval)
	w.crc = crc32.Update(w.crc, castagnoli, b)
	s.bytes += int64(len(b))
	s.last = b.LastOffset()
	s.maxTime = max(s.maxTime, b.maxTime())
	if at, ok := b.DeleteHorizon(); ok && (s.horizon == 0 || at < s.horizon) {
		s.horizon = at
	}
	for len(b) > 0 {
		n := min(len(b), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *compactWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.c.req.Wait(w.c.ctx, len(w.buf)); err != nil {
		return err
	}
	if err := w.c.log.writeDirect(w.seg, w.buf, w.written); err != nil {
		return w.c.log.failCompact(err)
	}
	w.written += int64(len(w.buf))
	w.c.stats.Written += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// finish makes the segment durable; nil is one without batches.
func (w *compactWriter) finish() (*segment, error) {
	if w.seg == nil {
		return nil, nil
	}
	l, s := w.c.log, w.seg
	if err := w.flush(); err != nil {
		return nil, err
	}
	if err := s.file.Sync(); err != nil {
		return nil, l.failCompact(fmt.Errorf("sync %s: %w", s.name, err))
	}
	err := w.close()
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	if err != nil {
		return nil, l.failCompact(err)
	}
	s.crc, s.written, s.synced, s.named = w.crc, s.bytes, s.bytes, true
	l.storeIndex(s, s.infoLocked(), w.entries)
	return s, nil
}

func (w *compactWriter) close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	return w.seg.closeFiles()
}

// abort removes what was written.
func (w *compactWriter) abort() error {
	if w.seg == nil {
		return nil
	}
	l := w.c.log
	err := w.close()
	l.forget(w.seg)
	return errors.Join(err, l.removeLeft(w.seg))
}

// removeLeft removes the files of a segment that is not part of the log.
func (l *Log) removeLeft(s *segment) error {
	return errors.Join(removeFile(l.fs, s.name), removeFile(l.fs, s.indexPath()))
}
