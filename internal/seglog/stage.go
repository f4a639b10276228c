package seglog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	readyName  = "READY"
	readyBytes = 4096 // a READY that is longer is none
	stageBytes = 1 << 20
)

// ready is the content of READY.
type ready struct {
	SHA256 string `json:"state_sha256"`
}

func readyFor(st State) ([]byte, error) {
	p, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(p)
	return json.Marshal(ready{hex.EncodeToString(sum[:])})
}

// Stage fills dir with exactly the segment files of st, so that Adopt can put
// them in a log's place, and returns when they and a marker that says so are
// durable. What have (nil: nothing) holds as a prefix of a wanted segment is
// copied, the rest comes through fetch, which reads at most len(p) bytes of
// segment base at off.
//
// It may be called again after an error or crash and goes on where it was. The
// checksums of st decide in the end: a segment that was resumed or copied and
// does not match is fetched anew.
func Stage(fsys vfs.FS, dir string, st State, have *Log, fetch func(base int64, p []byte, off int64) (int, error)) error {
	if err := stage(fsys, dir, st, have, fetch); err != nil {
		return fmt.Errorf("stage segments in %s: %w", dir, err)
	}
	return nil
}

func stage(fsys vfs.FS, dir string, st State, have *Log, fetch func(base int64, p []byte, off int64) (int, error)) error {
	if err := st.Validate(); err != nil {
		return err
	}
	marker, err := readyFor(st)
	if err != nil {
		return err
	}
	if err := makeDir(fsys, dir); err != nil {
		return err
	}
	if done, err := isReady(fsys, dir, marker); err != nil || done {
		return err
	}
	// The marker of another State goes before its files change.
	if err := removeFile(fsys, vfs.Join(dir, readyName)); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	if err := cutStaged(fsys, dir, st); err != nil {
		return err
	}
	s := stager{fs: fsys, dir: dir, fetch: fetch, buf: make([]byte, stageBytes)}
	if have != nil {
		s.pin = have.Pin()
		defer s.pin.Close()
	}
	for _, info := range st.Segments {
		if err := s.segment(info); err != nil {
			return fmt.Errorf("segment %d: %w", info.Base, err)
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	return vfs.WriteFileAtomic(fsys, vfs.Join(dir, readyName), marker)
}

// isReady says whether dir holds that marker.
func isReady(fsys vfs.FS, dir string, marker []byte) (bool, error) {
	f, err := fsys.Open(vfs.Join(dir, readyName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > readyBytes {
		return false, err
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return false, err
	}
	return string(p) == string(marker), nil
}

func removeFile(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// cutStaged removes what st does not name, and every index.
func cutStaged(fsys vfs.FS, dir string, st State) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	wanted := make(map[string]bool, len(st.Segments))
	for _, info := range st.Segments {
		wanted[logName(info.Base)] = true
	}
	for _, name := range names {
		if _, _, ours := parseName(name); ours && !wanted[name] {
			if err := removeFile(fsys, vfs.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

type stager struct {
	fs    vfs.FS
	dir   string
	pin   *Pin // may be nil
	fetch func(base int64, p []byte, off int64) (int, error)
	buf   []byte
}

// segment makes one file complete and fsyncs it.
func (s *stager) segment(info SegmentInfo) error {
	name := vfs.Join(s.dir, logName(info.Base))
	f, err := s.fs.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.fs.Create(name)
	}
	if err != nil {
		return err
	}
	err = s.fill(f, info)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (s *stager) fill(f vfs.File, info SegmentInfo) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > info.Bytes {
		size = info.Bytes
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	file := func(p []byte, off int64) (int, error) { return f.ReadAt(p, off) }
	remote := func(p []byte, off int64) (int, error) { return s.fetch(info.Base, p, off) }
	local := func(p []byte, off int64) (int, error) { return s.pin.ReadAt(info.Base, p, off) }

	crc, err := s.copy(nil, file, 0, size, 0) // what an earlier Stage left
	if err != nil {
		return err
	}
	fresh := size == 0
	if s.pin != nil && size < info.Bytes {
		if have, ok := s.pin.Len(info.Base); ok && have <= info.Bytes && have > size {
			fresh = false
			if crc, err = s.copy(f, local, size, have, crc); err != nil {
				return err
			}
			size = have
		}
	}
	if crc, err = s.copy(f, remote, size, info.Bytes, crc); err != nil {
		return err
	}
	if crc != info.CRC && !fresh {
		if err := f.Truncate(0); err != nil {
			return err
		}
		if crc, err = s.copy(f, remote, 0, info.Bytes, 0); err != nil {
			return err
		}
	}
	if crc != info.CRC {
		// Nothing of it may be taken for a good beginning next time.
		reason := fmt.Sprintf("fetched bytes have crc32c %08x, expected %08x", crc, info.CRC)
		return errors.Join(&DamageError{File: f.Name(), Reason: reason}, f.Truncate(0))
	}
	return nil
}

// copy reads [from, to) and writes it to dst, if that is not nil. It returns
// the CRC32C extended by those bytes.
func (s *stager) copy(dst vfs.File, read func(p []byte, off int64) (int, error), from, to int64, crc uint32) (uint32, error) {
	for from < to {
		p := s.buf[:min(int64(len(s.buf)), to-from)]
		n, err := read(p, from)
		if n < 0 || n > len(p) {
			return crc, fmt.Errorf("read at %d: %d of %d bytes", from, n, len(p))
		}
		if n > 0 && dst != nil {
			if _, err := dst.WriteAt(p[:n], from); err != nil {
				return crc, err
			}
		}
		crc = crc32.Update(crc, castagnoli, p[:n])
		from += int64(n)
		if n < len(p) && err == nil && n == 0 {
			err = io.ErrNoProgress
		}
		if err != nil && from < to {
			return crc, fmt.Errorf("read at %d: %w", from, err)
		}
	}
	return crc, nil
}

// Adopt puts the segments that Stage has put into staged, for st, in place of
// those in dir, and removes staged. No Log may be open on dir. It is durable
// on return, and can be called again after a crash at any point. ErrNotStaged
// says that staged holds no complete staging of st: none was made, or it was
// adopted before; Open tells.
//
// A rename from one directory to another must be one step, as it is on every
// journaling file system. Should a file be in neither place all the same, the
// marker is removed and the error is ErrNotStaged: stage again.
func Adopt(fsys vfs.FS, dir, staged string, st State) error {
	if err := adopt(fsys, dir, staged, st); err != nil {
		return fmt.Errorf("adopt segments from %s: %w", staged, err)
	}
	return nil
}

func adopt(fsys vfs.FS, dir, staged string, st State) error {
	marker, err := readyFor(st)
	if err != nil {
		return err
	}
	ready, err := isReady(fsys, staged, marker)
	if err != nil {
		return err
	}
	if !ready {
		return ErrNotStaged
	}
	if err := makeDir(fsys, dir); err != nil {
		return err
	}
	for _, info := range st.Segments {
		if err := move(fsys, dir, staged, info); err != nil {
			return err
		}
	}
	if err := cutStaged(fsys, dir, st); err != nil {
		return err
	}
	// The names have to be durable here before they are gone there.
	for _, d := range []string{dir, staged} {
		if err := fsys.SyncDir(d); err != nil {
			return err
		}
	}
	if err := fsys.RemoveAll(staged); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(staged))
}

func move(fsys vfs.FS, dir, staged string, info SegmentInfo) error {
	from, to := vfs.Join(staged, logName(info.Base)), vfs.Join(dir, logName(info.Base))
	have, err := fsys.Stat(from)
	if err == nil && have.Size() == info.Bytes {
		return fsys.Rename(from, to)
	}
	if err == nil {
		return &DamageError{File: from, Offset: have.Size(), Reason: fmt.Sprintf("staged file has %d bytes, not %d", have.Size(), info.Bytes)}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have, err = fsys.Stat(to)
	if err == nil && have.Size() == info.Bytes {
		return nil // moved before
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = errors.Join(removeFile(fsys, vfs.Join(staged, readyName)), fsys.SyncDir(staged))
	return errors.Join(fmt.Errorf("%w: segment %d is in neither directory", ErrNotStaged, info.Base), err)
}
