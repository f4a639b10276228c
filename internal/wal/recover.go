package wal

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/raftsman/raftsman/internal/vfs"
)

// recover reads the log, or begins it, and leaves l ready for its goroutines.
func (l *Log) recover() error {
	fsys, dir := l.opts.FS, l.opts.Dir
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	set, err := openSources(dir, names, fsys.OpenWrite, &l.opts.Identity)
	var last *source
	var torn *bad
	if err == nil {
		err = l.checkBounds(set)
	}
	if err == nil {
		err = checkChain(set)
	}
	if err == nil {
		last, torn, err = scanAll(set, l.replay)
	}
	if err == nil && last != nil {
		err = l.adopt(set, last, torn)
	}
	if err != nil {
		for _, s := range set {
			err = errors.Join(err, s.file.Close())
		}
		l.files, l.next = nil, nil
		return err
	}
	if last == nil {
		return l.begin(set)
	}
	return l.openSpares(names)
}

// adopt takes over the files after the scan.
func (l *Log) adopt(set []*source, last *source, torn *bad) error {
	for i, s := range set {
		f := &logFile{life: s.life, file: s.file, path: s.file.Name(), size: s.size, begun: s.begun, end: s.end}
		switch {
		case s.begun:
			l.files = append(l.files, f)
		case l.next == nil && s.size == l.opts.FileSize && i == len(set)-1:
			l.next = f
		default:
			if i < len(set)-1 {
				return s.damage(linkOffset, "more than one file is not begun")
			}
			// Prepared for another file size.
			if l.bounds != nil {
				if err := l.mustEnd(s.seq - 1); err != nil {
					return fmt.Errorf("remove %s: %w", f.path, err)
				}
			}
			if err := errors.Join(s.file.Close(), l.opts.FS.Remove(f.path)); err != nil {
				return fmt.Errorf("remove %s: %w", f.path, err)
			}
			set[i] = &source{file: nopFile{}}
		}
	}
	if torn.reason != endOfBatches {
		l.opts.Logger.Info("left out a torn batch at the end of the write-ahead log", "file", last.file.Name(), "offset", torn.off, "reason", torn.reason)
	}
	// What is not there at this start must not be there at the next: a later
	// write, torn too, could bring the very bytes that the torn batch lacks.
	if n := min(batchHead, last.size-last.end); n > 0 {
		if _, err := last.file.WriteAt(make([]byte, n), last.end); err != nil {
			return fmt.Errorf("erase what is torn at byte %d of %s: %w", last.end, last.file.Name(), err)
		}
	}
	// After a crash of the process alone, the last batch may be whole in the
	// cache and not on the disk; so may a name.
	if err := last.file.Sync(); err != nil {
		return fmt.Errorf("sync write-ahead log: %w", err)
	}
	if err := l.opts.FS.SyncDir(l.opts.Dir); err != nil {
		return fmt.Errorf("sync write-ahead log: %w", err)
	}
	if err := l.joinLoose(); err != nil {
		return err
	}
	if err := l.adoptBounds(); err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	l.countLive()
	return nil
}

// countLive counts what each file holds for the groups.
func (l *Log) countLive() {
	for _, g := range l.groups {
		for _, s := range g.slots {
			l.pinLocked(place{seq: s.seq, off: s.off, size: s.size})
		}
		for _, v := range g.stable {
			l.pinLocked(v.place)
		}
		if g.vote.size > 0 {
			l.pinLocked(g.vote.place)
		}
	}
}

// begin makes the first file of an empty log. set has at most a file 1 that was
// prepared and not begun.
func (l *Log) begin(set []*source) error {
	fail := func(err error) error { return fmt.Errorf("begin write-ahead log: %w", err) }
	for _, s := range set {
		if err := errors.Join(s.file.Close(), l.opts.FS.Remove(s.file.Name())); err != nil {
			return fail(err)
		}
	}
	var err error
	if l.bounds == nil {
		path := vfs.Join(l.opts.Dir, boundsName)
		if l.bounds, err = createBounds(l.opts.FS, path, l.opts.Identity, 1, 0); err != nil {
			return fail(err)
		}
	}
	s, err := l.allocate(l.sparePath(), l.opts.FileSize)
	if err != nil {
		return fail(err)
	}
	f := &logFile{file: s.file, path: l.path(1), size: l.opts.FileSize, begun: true, end: dataOffset}
	l.files = []*logFile{f}
	if f.life, err = l.name(s, 1); err != nil {
		return fail(err)
	}
	if err := l.opts.FS.SyncDir(filepath.Dir(l.opts.Dir)); err != nil {
		return fail(err)
	}
	if _, err := f.file.WriteAt(encodeLink(f.life, link{}), linkOffset); err != nil {
		return fail(err)
	}
	if err := f.file.Sync(); err != nil {
		return fail(err)
	}
	if err := l.mustEnd(1); err != nil {
		return fail(err)
	}
	return nil
}

// openSpares takes over allocated files of an earlier run, and removes what is
// not of the right size.
func (l *Log) openSpares(names []string) error {
	for _, name := range names {
		if !strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		path := vfs.Join(l.opts.Dir, name)
		hex := strings.TrimSuffix(strings.TrimPrefix(name, sparePrefix), tmpSuffix)
		if n, err := strconv.ParseUint(hex, 16, 63); err == nil {
			l.lastSpare = max(l.lastSpare, n)
		}
		f, err := l.opts.FS.OpenWrite(path)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		s := &spare{file: f, path: path}
		size, err := f.Size()
		switch {
		case err != nil:
			return errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
		case name == reserveName && size == l.opts.reserveSize():
			l.reserve = s
		case name != reserveName && size == l.opts.FileSize && len(l.spares) < maxSpares:
			l.spares = append(l.spares, s)
		default:
			if err := l.discard(s); err != nil {
				return fmt.Errorf("remove %s: %w", path, err)
			}
		}
	}
	return nil
}

// replay applies a batch to the groups. Every frame checks; one that makes no
// sense is damage all the same.
func (l *Log) replay(s *source, frames []Frame) error {
	for _, f := range frames {
		if reason := l.replayFrame(f); reason != "" {
			return s.damage(f.Offset, reason)
		}
	}
	return nil
}

func (l *Log) replayFrame(f Frame) (reason string) {
	g := l.groupLocked(f.Group)
	p := place{seq: f.FileSeq, off: uint32(f.Offset), size: uint32(f.Size)}
	switch f.Kind {
	case KindEntry:
		if last := g.lastLocked(); f.Index == 0 || last > 0 && f.Index != last+1 {
			return fmt.Sprintf("entry %d of group %d follows entry %d", f.Index, f.Group, last)
		}
		g.appendLocked(f.Index, f.Term, p)
	case KindTruncate:
		maps.DeleteFunc(g.loose, func(i uint64, _ slot) bool { return i >= f.Index })
		if len(g.slots) > 0 && f.Index <= g.lastLocked() {
			keep := max(f.Index, g.first) - g.first
			g.bytes = g.slots[keep].before
			g.slots = g.slots[:keep]
		}
	case KindRelease:
		maps.DeleteFunc(g.loose, func(i uint64, _ slot) bool { return i <= f.Index })
		if n := len(g.slots); n > 0 && f.Index >= g.first {
			keep := min(f.Index-g.first+1, uint64(n))
			g.slots = g.slots[keep:]
			g.first += keep
		}
	case KindStable, KindVote:
		g.setLocked(f.Kind, f.Term, slices.Clone(f.Data), slices.Clone(f.Extensions), p)
	case KindDrop:
		g.first, g.slots, g.loose, g.stable, g.vote, g.term = 0, nil, nil, nil, value{}, 0
	case KindRewrite:
		g.first, g.slots, g.loose = 0, nil, nil
	case KindMoved:
		return g.replayMoved(f.Index, f.Term, p)
	default:
		return fmt.Sprintf("frame of %s is unknown to this version", f.Kind)
	}
	return ""
}

// nopFile stands for a file that is closed already.
type nopFile struct{ vfs.File }

func (nopFile) Close() error { return nil }
