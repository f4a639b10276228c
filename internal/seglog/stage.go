package seglog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

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

// Fetch reads at most len(p) bytes of segment base at off, as io.ReaderAt does.
type Fetch func(base int64, p []byte, off int64) (int, error)

// Stage brings dir to where Adopt can put a log with exactly the segments of st
// in a log's place, and returns when that and a marker that says so are durable.
// What the log behind have (nil: none) has of it is not fetched: sealed segments
// that are the same stay where they are, which have must go on pinning until
// Adopt; a prefix of another one is copied. The rest comes through fetch.
// progress (nil: nobody) is told how many bytes of st are there.
//
// It may be called again after an error or crash, for another State too, and
// goes on where it was: what was completed and verified is listed in a file, of
// the rest the checksums of st decide in the end. A segment that was resumed or
// copied and does not match is fetched anew, so bytes of two States never mix.
// One call at a time for a dir.
func Stage(fsys vfs.FS, dir string, st State, have *Pin, fetch Fetch, progress func(done, total int64)) error {
	s := stager{fs: fsys, dir: dir, pin: have, fetch: fetch, progress: progress, buf: make([]byte, stageBytes)}
	if err := s.stage(st); err != nil {
		return fmt.Errorf("stage segments in %s: %w", dir, err)
	}
	return nil
}

type stager struct {
	fs       vfs.FS
	dir      string
	pin      *Pin // may be nil
	fetch    Fetch
	progress func(done, total int64)
	buf      []byte

	list        stagedList
	unlisted    int64 // bytes completed since the list was written
	done, total int64
}

func (s *stager) stage(st State) error {
	if err := st.Validate(); err != nil {
		return err
	}
	marker, err := readyFor(st)
	if err != nil {
		return err
	}
	if err := makeDir(s.fs, s.dir); err != nil {
		return err
	}
	if s.pin != nil { // what stays where it is has to be durable there
		if err := s.pin.log.SyncTo(s.pin.st); err != nil {
			return err
		}
	}
	for _, info := range st.Segments {
		s.total += info.Bytes
	}
	if done, err := s.complete(st, marker); err != nil || done {
		s.note(s.total)
		return err
	}
	if err := s.begin(st); err != nil {
		return err
	}
	for _, info := range st.Segments {
		if err := s.segment(info); err != nil {
			return errors.Join(fmt.Errorf("segment %d: %w", info.Base, err), s.writeList())
		}
	}
	if err := s.writeList(); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	return vfs.WriteFileAtomic(s.fs, vfs.Join(s.dir, readyName), marker)
}

func (s *stager) note(n int64) {
	s.done += n
	if s.progress != nil {
		s.progress(s.done, s.total)
	}
}

// complete says whether an earlier call has done it all.
func (s *stager) complete(st State, marker []byte) (bool, error) {
	if done, err := isReady(s.fs, s.dir, marker); err != nil || !done {
		return false, err
	}
	for _, info := range st.Segments {
		there, err := hasLength(s.fs, vfs.Join(s.dir, info.FileName()), info.Bytes)
		if err != nil || !there && !s.pin.keeps(info) {
			return false, err
		}
	}
	return true, nil
}

// begin takes over what an earlier call has left.
func (s *stager) begin(st State) (err error) {
	// The marker of another State goes before its files change, and so does what
	// the list says of them.
	if err := removeFile(s.fs, vfs.Join(s.dir, readyName)); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	if s.list, err = readList(s.fs, s.dir); err != nil {
		return err
	}
	s.list.keepOnly(st)
	if err := s.writeList(); err != nil {
		return err
	}
	return cutStaged(s.fs, s.dir, st)
}

// Staged returns nil if Adopt of st would find all that it needs, and an
// ErrNotStaged if not.
func Staged(fsys vfs.FS, dir, staged string, st State) error {
	marker, err := readyFor(st)
	if err != nil {
		return err
	}
	if done, err := isReady(fsys, staged, marker); err != nil {
		return err
	} else if !done {
		return fmt.Errorf("%w: %s is not complete for this state", ErrNotStaged, staged)
	}
	for _, info := range st.Segments {
		for i, d := range []string{staged, dir} {
			there, err := hasLength(fsys, vfs.Join(d, info.FileName()), info.Bytes)
			if err != nil {
				return err
			}
			if there {
				break
			}
			if i == 1 {
				return fmt.Errorf("%w: segment %d is in neither directory", ErrNotStaged, info.Base)
			}
		}
	}
	return nil
}

func hasLength(fsys vfs.FS, name string, bytes int64) (bool, error) {
	info, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() == bytes, err
}

// isReady says whether dir holds that marker.
func isReady(fsys vfs.FS, dir string, marker []byte) (bool, error) {
	p, err := readSmall(fsys, vfs.Join(dir, readyName), readyBytes)
	return err == nil && p != nil && string(p) == string(marker), err
}

// readSmall reads a file; nil is one that is missing or longer than limit.
func readSmall(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > limit {
		return nil, err
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return nil, err
	}
	return p, nil
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
		wanted[info.FileName()] = true
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

// segment makes one segment complete, durably.
func (s *stager) segment(info SegmentInfo) error {
	name := vfs.Join(s.dir, info.FileName())
	if s.pin.keeps(info) {
		s.note(info.Bytes)
		return removeFile(s.fs, name) // Adopt takes the one that stays
	}
	if s.list.has(info) {
		there, err := hasLength(s.fs, name, info.Bytes)
		if err != nil {
			return err
		}
		if there {
			s.note(info.Bytes)
			return nil
		}
		s.list.drop(info)
		if err := s.writeList(); err != nil {
			return err
		}
	}
	f, err := s.fs.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.fs.Create(name)
	}
	if err != nil {
		return err
	}
	before := s.done
	err = s.fill(f, info)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	s.done = before // a segment that was fetched anew was counted twice
	s.note(info.Bytes)
	s.list.Done = append(s.list.Done, info)
	if s.unlisted += info.Bytes; s.unlisted < listEvery {
		return nil
	}
	return s.writeList()
}
