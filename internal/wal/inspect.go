package wal

import (
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Inspect reads the log in a directory without changing it and calls fn for
// every frame that counts, in order; the frame's bytes are valid during the
// call. Whose log it is does not matter. A torn tail ends it without an error,
// damage with a *DamageError after the frames before it. It must not run while
// the log is open.
func Inspect(fsys vfs.FS, dir string, fn func(Frame) error) (err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("inspect write-ahead log: %w", err)
	}
	set, err := openSources(dir, names, fsys.Open, nil)
	defer func() {
		for _, s := range set {
			err = errors.Join(err, s.file.Close())
		}
	}()
	if err == nil {
		err = checkChain(set)
	}
	if err != nil {
		return err
	}
	_, _, err = scanAll(set, func(_ *source, frames []Frame) error {
		for _, f := range frames {
			if err := fn(f); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
