package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process or handle holds a lock.
var ErrLocked = errors.New("locked by another process")

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (o osFS) Open(name string) (File, error)      { return o.open(name, os.O_RDONLY) }
func (o osFS) OpenWrite(name string) (File, error) { return o.open(name, os.O_RDWR) }
func (o osFS) Create(name string) (File, error) {
	return o.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}
func (osFS) Remove(name string) error              { return os.Remove(name) }
func (osFS) RemoveAll(name string) error           { return os.RemoveAll(name) }
func (osFS) Rename(oldName, newName string) error  { return os.Rename(oldName, newName) }
func (osFS) MkdirAll(name string) error            { return os.MkdirAll(name, 0o750) }
func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }
func (osFS) List(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir) // sorted by name
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", name, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

func (osFS) Free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// Total is the size of the file system beneath a directory, in bytes.
func (osFS) Total(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return st.Blocks * uint64(st.Bsize), nil
}

type osFile struct{ *os.File }

// maxIOV is the kernel's limit on buffers in one vectored call (IOV_MAX).
const maxIOV = 1024

func (f *osFile) WriteVAt(bufs [][]byte, off int64) (int64, error) {
	if len(bufs) == 1 {
		n, err := f.WriteAt(bufs[0], off)
		return int64(n), err
	}
	var done int64
	for len(bufs) > 0 {
		part := bufs[:min(len(bufs), maxIOV)]
		want := 0
		for _, b := range part {
			want += len(b)
		}
		n, err := unix.Pwritev(int(f.Fd()), part, off+done)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, &fs.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		done += int64(n)
		bufs = bufs[len(part):]
		if n == want {
			continue
		}
		// A short write: finish this part buffer by buffer.
		for _, b := range part {
			if n >= len(b) {
				n -= len(b)
				continue
			}
			m, err := f.WriteAt(b[n:], off+done)
			done += int64(m)
			n = 0
			if err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

func (f *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// zeros is written rather than fallocated: a write into an allocated but
// unwritten extent still changes metadata, and so costs its fdatasync a
// journal commit.
var zeros = make([]byte, 1<<20)

func (f *osFile) Preallocate(size int64) error {
	have, err := f.Size()
	if err != nil {
		return err
	}
	for have < size {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-have)], have)
		have += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Join is filepath.Join, so that the stores need no second import.
func Join(parts ...string) string { return filepath.Join(parts...) }
