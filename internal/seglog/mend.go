package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/raftsman/raftsman/internal/vfs"
)

const fetchedSuffix = ".fetched"

// Mend replaces a damaged segment by what fetch returns, if that is exactly what
// was written: its CRC32C is compared with the one that this log has kept. The
// damaged file is set aside in another directory of the same file system. mended
// is false when the file is what it must be, or the segment is not needed any
// more.
//
// A sealed segment's file is replaced; in that of the active one the bytes are
// written again, which a crash can cut off: it is as damaged as before then.
// Reading and appending go on meanwhile. One Mend runs at a time.
func (l *Log) Mend(base int64, aside string, fetch Fetch) (mended bool, err error) {
	mended, err = l.mend(base, aside, fetch)
	if err != nil {
		return false, fmt.Errorf("mend segment %d in %s: %w", base, l.dir, err)
	}
	return mended, nil
}

func (l *Log) mend(base int64, aside string, fetch Fetch) (mended bool, err error) {
	if err := l.SyncTo(l.State()); err != nil {
		return false, err // the file must hold all that is compared
	}
	pin := l.Pin()
	defer func() { err = errors.Join(err, pin.Close()) }()
	info, ok := pin.st.Segment(base)
	if !ok {
		return false, nil
	}
	var damage *DamageError
	if err := pin.Prove(base); err == nil {
		pin.segs[info.key()].seg.mended()
		return false, nil
	} else if l.closed() {
		return false, ErrClosed
	} else if !errors.As(err, &damage) {
		l.logger.Warn("a segment can't be read, taking it for damaged", "base", base, "err", err)
	}
	fetched, err := fetchIntact(l.fs, aside, info, fetch)
	if err != nil {
		return false, err
	}
	return true, l.replace(pin.segs[info.key()].seg, info, aside, fetched)
}

// Segment returns the segment that begins at base.
func (st State) Segment(base int64) (SegmentInfo, bool) {
	for _, info := range st.Segments {
		if info.Base == base {
			return info, true
		}
	}
	return SegmentInfo{}, false
}

// mended forgets what readers had of the damaged file.
func (s *segment) mended() {
	s.log.forget(s)
	s.reported.Store(false)
}

// fetchIntact leaves the segment's verified bytes in a file of aside, durably. It
// goes on where an earlier call was cut off.
func fetchIntact(fsys vfs.FS, aside string, info SegmentInfo, fetch Fetch) (name string, err error) {
	if err := makeDir(fsys, aside); err != nil {
		return "", err
	}
	name = vfs.Join(aside, info.FileName()+fetchedSuffix)
	f, err := fsys.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(name)
	}
	if err != nil {
		return "", err
	}
	s := stager{fs: fsys, dir: aside, fetch: fetch, buf: make([]byte, stageBytes)}
	err = s.fill(f, info)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return name, fsys.SyncDir(aside)
}

func (l *Log) replace(s *segment, info SegmentInfo, aside, fetched string) error {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.wmu.Lock()
	defer l.wmu.Unlock()
	if err := l.alive(); err != nil {
		return err
	}
	l.mu.Lock()
	whole := s.sealed && s.named && s.bytes == info.Bytes && s.synced == s.bytes
	l.mu.Unlock()
	defer s.mended()
	if !whole {
		return rewrite(l.fs, s.name, info, aside, fetched)
	}
	if err := s.closeFiles(); err != nil {
		return err
	}
	return exchange(l.fs, s.name, aside, fetched)
}

// exchange sets the damaged file aside and puts the fetched one in its place. A
// crash between the two leaves a file that is missing, and is fetched again.
func exchange(fsys vfs.FS, name, aside, fetched string) error {
	old := asideName(aside, name)
	if err := fsys.Rename(name, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.Rename(fetched, name); err != nil {
		return err
	}
	return errors.Join(fsys.SyncDir(filepath.Dir(name)), fsys.SyncDir(aside))
}

// rewrite keeps a copy of the damaged file, and writes over its beginning.
func rewrite(fsys vfs.FS, name string, info SegmentInfo, aside, fetched string) error {
	from, err := fsys.Open(fetched)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := fsys.OpenWrite(name)
	if err != nil {
		return fmt.Errorf("the active segment has lost its file, restart the node to have it mended: %w", err)
	}
	size, err := f.Size()
	if err == nil {
		err = copyFile(fsys, f, asideName(aside, name), size)
	}
	if err == nil {
		err = copyBytes(f, from, info.Bytes)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return errors.Join(removeFile(fsys, fetched), fsys.SyncDir(aside))
}

func asideName(aside, name string) string {
	return vfs.Join(aside, filepath.Base(name))
}

func copyFile(fsys vfs.FS, from vfs.File, name string, size int64) error {
	if err := removeFile(fsys, name); err != nil {
		return err
	}
	to, err := fsys.Create(name)
	if err != nil {
		return err
	}
	err = copyBytes(to, from, size)
	if err == nil {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}

func copyBytes(to, from vfs.File, size int64) error {
	buf := make([]byte, min(stageBytes, size))
	for pos := int64(0); pos < size; {
		p := buf[:min(int64(len(buf)), size-pos)]
		if n, err := from.ReadAt(p, pos); n < len(p) {
			return fmt.Errorf("read %s: %w", from.Name(), err)
		}
		if _, err := to.WriteAt(p, pos); err != nil {
			return err
		}
		pos += int64(len(p))
	}
	return nil
}

// MendClosed is Mend for a log that is not open, because Open found the damage.
// info is what its State says about the segment.
func MendClosed(fsys vfs.FS, dir, aside string, info SegmentInfo, fetch Fetch) error {
	name := vfs.Join(dir, info.FileName())
	if f, err := fsys.Open(name); err == nil {
		err := errors.Join(proveFile(f, info), f.Close())
		if err == nil {
			return nil
		}
	}
	fetched, err := fetchIntact(fsys, aside, info, fetch)
	if err == nil {
		err = exchange(fsys, name, aside, fetched)
	}
	if err != nil {
		return fmt.Errorf("mend segment %d in %s: %w", info.Base, dir, err)
	}
	return nil
}

// StandIn puts a file of the right length and no content in place of a sealed
// segment that nobody has any more, because the log start of the others is above
// it. With it the log can be opened, and follow the others to their log start. No
// reader takes it for data: no batch in it checks.
func StandIn(fsys vfs.FS, dir, aside string, info SegmentInfo) error {
	if err := standIn(fsys, vfs.Join(dir, info.FileName()), aside, info); err != nil {
		return fmt.Errorf("stand-in for segment %d in %s: %w", info.Base, dir, err)
	}
	return nil
}

func standIn(fsys vfs.FS, name, aside string, info SegmentInfo) error {
	if err := makeDir(fsys, aside); err != nil {
		return err
	}
	empty := vfs.Join(aside, info.FileName()+fetchedSuffix)
	if err := removeFile(fsys, empty); err != nil {
		return err
	}
	f, err := fsys.Create(empty)
	if err != nil {
		return err
	}
	err = f.Truncate(info.Bytes)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return exchange(fsys, name, aside, empty)
}
