package vfs

import (
	"io"
	"io/fs"
)

// Op names an operation to the hook of a Fail.
type Op string

// The operations of FS and File, as a Fail names them.
const (
	OpOpen        Op = "open" // Open and OpenWrite
	OpCreate      Op = "create"
	OpRemove      Op = "remove"
	OpRemoveAll   Op = "removeall"
	OpRename      Op = "rename" // with the old name
	OpMkdirAll    Op = "mkdirall"
	OpList        Op = "list"
	OpStat        Op = "stat"
	OpSyncDir     Op = "syncdir"
	OpSyncVolume  Op = "syncvolume"
	OpLock        Op = "lock"
	OpFree        Op = "free"
	OpRead        Op = "read"
	OpWrite       Op = "write" // WriteAt and WriteVAt
	OpSync        Op = "sync"
	OpTruncate    Op = "truncate"
	OpPreallocate Op = "preallocate"
)

// Fail is a file system that fails, or hangs, where its hook says so.
type Fail struct {
	base FS
	hook func(op Op, name string) error
}

// NewFail wraps base. hook runs before each operation, on the caller's
// goroutine: an error it returns becomes the operation's and the operation is
// not done; it may block, as a stuck disk does. For operations of a File, name
// is the name it was opened by.
func NewFail(base FS, hook func(op Op, name string) error) *Fail {
	return &Fail{base: base, hook: hook}
}

func (f *Fail) check(op Op, name string) error {
	if err := f.hook(op, name); err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func (f *Fail) wrap(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := f.check(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &failFile{File: file, fail: f}, nil
}

// Open implements FS.
func (f *Fail) Open(name string) (File, error) { return f.wrap(OpOpen, name, f.base.Open) }

// OpenWrite implements FS.
func (f *Fail) OpenWrite(name string) (File, error) { return f.wrap(OpOpen, name, f.base.OpenWrite) }

// Create implements FS.
func (f *Fail) Create(name string) (File, error) { return f.wrap(OpCreate, name, f.base.Create) }

// Remove implements FS.
func (f *Fail) Remove(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.base.Remove(name)
}

// RemoveAll implements FS.
func (f *Fail) RemoveAll(name string) error {
	if err := f.check(OpRemoveAll, name); err != nil {
		return err
	}
	return f.base.RemoveAll(name)
}

// Rename implements FS.
func (f *Fail) Rename(oldName, newName string) error {
	if err := f.check(OpRename, oldName); err != nil {
		return err
	}
	return f.base.Rename(oldName, newName)
}

// MkdirAll implements FS.
func (f *Fail) MkdirAll(name string) error {
	if err := f.check(OpMkdirAll, name); err != nil {
		return err
	}
	return f.base.MkdirAll(name)
}

// List implements FS.
func (f *Fail) List(dir string) ([]string, error) {
	if err := f.check(OpList, dir); err != nil {
		return nil, err
	}
	return f.base.List(dir)
}

// Stat implements FS.
func (f *Fail) Stat(name string) (fs.FileInfo, error) {
	if err := f.check(OpStat, name); err != nil {
		return nil, err
	}
	return f.base.Stat(name)
}

// SyncDir implements FS.
func (f *Fail) SyncDir(dir string) error {
	if err := f.check(OpSyncDir, dir); err != nil {
		return err
	}
	return f.base.SyncDir(dir)
}

// Lock implements FS.
func (f *Fail) Lock(name string) (io.Closer, error) {
	if err := f.check(OpLock, name); err != nil {
		return nil, err
	}
	return f.base.Lock(name)
}

// Free implements FS.
func (f *Fail) Free(dir string) (uint64, error) {
	if err := f.check(OpFree, dir); err != nil {
		return 0, err
	}
	return f.base.Free(dir)
}

type failFile struct {
	File
	fail *Fail
}

func (f *failFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fail.check(OpRead, f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *failFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fail.check(OpWrite, f.Name()); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *failFile) WriteVAt(bufs [][]byte, off int64) (int64, error) {
	if err := f.fail.check(OpWrite, f.Name()); err != nil {
		return 0, err
	}
	return f.File.WriteVAt(bufs, off)
}

func (f *failFile) Sync() error {
	if err := f.fail.check(OpSync, f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *failFile) Truncate(size int64) error {
	if err := f.fail.check(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *failFile) Preallocate(size int64) error {
	if err := f.fail.check(OpPreallocate, f.Name()); err != nil {
		return err
	}
	return f.File.Preallocate(size)
}
