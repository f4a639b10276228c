package vfs

import (
	"io"
	"io/fs"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	m      *Mem
	inode  *memInode
	name   string
	life   int
	write  bool
	closed bool
}

func (f *memFile) usable(op string) error {
	switch {
	case f.m.crashed || f.life != f.m.life:
		return &fs.PathError{Op: op, Path: f.name, Err: ErrCrashed}
	case f.closed:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) writable(op string) error {
	if err := f.usable(op); err != nil {
		return err
	}
	if !f.write {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrPermission}
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usable("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	if off >= f.inode.size() {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WriteVAt([][]byte{p}, off)
	return int(n), err
}

func (f *memFile) WriteVAt(bufs [][]byte, off int64) (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.writable("write"); err != nil {
		return 0, err
	}
	var length int64
	for _, b := range bufs {
		length += int64(len(b))
	}
	n := f.inode
	if grow := off + length - n.size(); grow > 0 {
		if err := f.m.growLocked(grow); err != nil {
			return 0, &fs.PathError{Op: "write", Path: f.name, Err: err}
		}
		n.resize(off + length)
	}
	n.touch(off, off+length)
	at := off
	for _, b := range bufs {
		at += int64(copy(n.data[at:], b))
	}
	n.modified = time.Now()
	if err := f.m.opLocked(); err != nil {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: err}
	}
	return length, nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usable("sync"); err != nil {
		return err
	}
	if err := f.m.opLocked(); err != nil {
		return &fs.PathError{Op: "sync", Path: f.name, Err: err}
	}
	f.inode.sync()
	return nil
}

func (f *memFile) Truncate(size int64) error { return f.resize("truncate", size, true) }

func (f *memFile) Preallocate(size int64) error { return f.resize("preallocate", size, false) }

func (f *memFile) resize(op string, size int64, shrink bool) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.writable(op); err != nil {
		return err
	}
	if size < 0 {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrInvalid}
	}
	if size > f.inode.size() || shrink {
		if err := f.m.growLocked(size - f.inode.size()); err != nil {
			return &fs.PathError{Op: op, Path: f.name, Err: err}
		}
		f.inode.resize(size)
	}
	if err := f.m.opLocked(); err != nil {
		return &fs.PathError{Op: op, Path: f.name, Err: err}
	}
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usable("stat"); err != nil {
		return 0, err
	}
	return f.inode.size(), nil
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
