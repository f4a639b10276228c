package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/raftsman/raftsman/internal/vfs"
)

// dir is a Place in a directory.
type dir struct {
	fs   vfs.FS
	root string
}

func openDir(path string) (Place, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &dir{vfs.OS, abs}, nil
}

func (d *dir) String() string { return d.root }

func (d *dir) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Put implements Place.
func (d *dir) Put(_ context.Context, name string, data []byte) error {
	path := d.path(name)
	if err := d.makeParents(filepath.Dir(path)); err != nil {
		return err
	}
	return vfs.WriteFileAtomic(d.fs, path, data)
}

// makeParents makes a directory and its parents, durably.
func (d *dir) makeParents(path string) error {
	if _, err := d.fs.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := d.makeParents(parent); err != nil {
			return err
		}
	}
	if err := d.fs.MkdirAll(path); err != nil {
		return err
	}
	return d.fs.SyncDir(filepath.Dir(path))
}

// Get implements Place.
func (d *dir) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
	}
	return data, err
}

// List implements Place. What a crash left half written is not listed.
func (d *dir) List(ctx context.Context, prefix string, each func(name string, bytes int64) error) error {
	err := filepath.WalkDir(d.path(prefix), func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		return each(filepath.ToSlash(name), info.Size())
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
