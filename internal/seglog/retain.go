package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// SetStart raises the log start; a lower offset than it is changes nothing,
// one above the next offset counts as that. Segments wholly below become
// unreadable at once, the active one too: the next Append begins another.
// Their files stay until RemoveObsolete.
func (l *Log) SetStart(offset int64) {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = max(l.start, min(offset, l.next))
	n := 0
	for n < len(l.segs) && l.segs[n].last < l.start && l.segs[n].bytes > 0 {
		l.sealLocked(l.segs[n])
		l.segs[n].obsolete = true
		n++
	}
	if n > 0 {
		l.stale = append(l.stale, l.segs[:n]...)
		l.segs = append([]*segment(nil), l.segs[n:]...)
	}
}

// RemoveObsolete removes the files of segments that lie wholly below the start
// of upTo, the State of a durable manifest, or had been replaced by compaction
// when that was taken; those that a Pin holds go when it is closed.
func (l *Log) RemoveObsolete(upTo State) error {
	named := make(map[segmentKey]bool, len(upTo.Segments))
	for _, info := range upTo.Segments {
		named[info.key()] = true
	}
	l.mu.Lock()
	for _, s := range l.stale {
		over := s.last < upTo.Start || s.replaced > 0 && s.replaced <= upTo.Compacted.Generation
		s.doomed = s.doomed || over && !named[s.segmentKey]
	}
	l.mu.Unlock()
	return l.reap()
}

// reap removes the files of doomed segments that nothing pins.
func (l *Log) reap() (err error) {
	var gone []*segment
	var chunks []*chunk
	l.syncMu.Lock()
	l.wmu.Lock()
	l.mu.Lock()
	var keep []*segment
	for _, s := range l.stale {
		if !s.doomed || s.pins > 0 {
			keep = append(keep, s)
			continue
		}
		s.gone = true
		gone = append(gone, s)
		chunks = append(chunks, s.chunks...)
		s.chunks = nil
	}
	l.stale = keep
	if len(gone) > 0 {
		var unwritten []*segment
		for _, s := range l.unwritten {
			if !s.gone {
				unwritten = append(unwritten, s)
			}
		}
		l.unwritten = unwritten
	}
	l.mu.Unlock()
	for _, s := range gone {
		err = errors.Join(err, s.closeFiles())
	}
	l.wmu.Unlock()
	l.syncMu.Unlock()

	l.w.tails.discard(chunks)
	for _, s := range gone {
		l.forget(s)
		for _, name := range []string{s.name, s.indexPath()} {
			if e := l.fs.Remove(name); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, fmt.Errorf("remove obsolete segment: %w", e))
			}
		}
	}
	return err
}

// Pin keeps the files that exist when it is made readable until Close,
// whatever becomes of the log start.
type Pin struct {
	log  *Log
	st   State
	segs map[segmentKey]extent
	// named are the segments that a base offset stands for.
	named map[int64]segmentKey
}

// Pin pins all files.
func (l *Log) Pin() *Pin {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &Pin{log: l, st: l.stateLocked()}
	p.segs = make(map[segmentKey]extent, len(l.stale)+len(l.segs))
	for _, list := range [2][]*segment{l.stale, l.segs} {
		for _, s := range list {
			s.pins++
			p.segs[s.segmentKey] = s.extentLocked()
		}
	}
	p.name(p.st)
	return p
}

func (p *Pin) name(st State) {
	p.named = make(map[int64]segmentKey, len(st.Segments))
	for _, info := range st.Segments {
		p.named[info.Base] = info.key()
	}
}

// Serve makes base offsets stand for the segments of an older State of the log
// from now on. It is an error if one of them is gone.
func (p *Pin) Serve(st State) error {
	for _, info := range st.Segments {
		if x, ok := p.segs[info.key()]; !ok || x.end < info.Bytes {
			return fmt.Errorf("segment %d of generation %d is gone: %w", info.Base, info.Generation, fs.ErrNotExist)
		}
	}
	p.name(st)
	return nil
}

// extent is what a base offset stands for.
func (p *Pin) extent(base int64) (extent, bool) {
	key, ok := p.named[base]
	if !ok {
		return extent{}, false
	}
	x, ok := p.segs[key]
	return x, ok
}

// State is that of the log when the Pin was made. Segments that were obsolete
// then, but not removed, are pinned too and not in it.
func (p *Pin) State() State { return p.st }

// Len returns the length that a segment had when the Pin was made.
func (p *Pin) Len(base int64) (bytes int64, ok bool) {
	x, ok := p.extent(base)
	return x.end, ok
}

// keeps says whether the log has exactly this segment, sealed and durable, so
// that its file can stay where it is. A nil Pin keeps nothing.
func (p *Pin) keeps(info SegmentInfo) bool {
	if p == nil {
		return false
	}
	x, ok := p.segs[info.key()]
	if !ok {
		return false
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	s := x.seg
	return s.sealed && !s.obsolete && s.named && s.synced >= s.bytes && s.infoLocked() == info
}

// Held is the size of the files that exist only because pins hold them.
func (p *Pin) Held() (bytes int64) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	for _, x := range p.segs {
		if x.seg.doomed {
			bytes += x.seg.bytes
		}
	}
	return bytes
}

// ReadAt reads the file of a segment at off, as io.ReaderAt does, up to the
// length it had when the Pin was made.
func (p *Pin) ReadAt(base int64, buf []byte, off int64) (n int, err error) {
	x, ok := p.extent(base)
	if !ok {
		return 0, fmt.Errorf("segment %d is not pinned: %w", base, fs.ErrNotExist)
	}
	return p.readExtent(x, buf, off)
}

func (p *Pin) readExtent(x extent, buf []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read segment %d at %d: %w", x.seg.base, off, fs.ErrInvalid)
	}
	if off+int64(len(buf)) > x.end {
		buf, err = buf[:max(x.end-off, 0)], io.EOF
	}
	l := p.log
	if l.closed() {
		return 0, ErrClosed
	}
	l.mu.Lock()
	inFile := min(max(x.seg.written-off, 0), int64(len(buf)))
	l.mu.Unlock()
	if inFile > 0 { // not through the cache: it is read once
		if e := x.seg.readFile(buf[:inFile], off); e != nil {
			return 0, e
		}
	}
	if inFile < int64(len(buf)) {
		v, e := l.view(x, off+inFile, off+int64(len(buf)))
		if e != nil {
			return int(inFile), e
		}
		at := inFile
		for _, b := range v.bufs {
			at += int64(copy(buf[at:], b))
		}
		v.release()
	}
	return len(buf), err
}

// Close lets go; files that are obsolete by now are removed. A second call
// does nothing.
func (p *Pin) Close() error {
	l := p.log
	l.mu.Lock()
	reap := false
	for _, x := range p.segs {
		x.seg.pins--
		reap = reap || x.seg.doomed && x.seg.pins == 0
	}
	p.segs = nil
	l.mu.Unlock()
	if !reap {
		return nil
	}
	return l.reap()
}
