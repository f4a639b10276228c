package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/raftsman/raftsman/internal/vfs"
)

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
	from, to := vfs.Join(staged, info.FileName()), vfs.Join(dir, info.FileName())
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
