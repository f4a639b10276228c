package vfs

import (
	"errors"
	"io"
)

// Volume is the whole file system beneath a directory.
type Volume interface {
	// Sync makes durable all that was written to the volume before the call:
	// bytes, lengths and names, of every file and directory. An error of any
	// write to the volume since Open or the last Sync is returned, whoever
	// wrote; as after a failed Sync of a File, nothing is known then.
	Sync() error
	// Holds says whether a file is on the volume.
	Holds(f File) bool
	io.Closer
}

// ErrNoVolume says that a file system can't be synced as a whole in a way that
// can be relied on.
var ErrNoVolume = errors.New("file system can't be synced as a whole")

// memVolume is all of a Mem.
type memVolume struct {
	m    *Mem
	life int
}

// Volume implements FS.
func (m *Mem) Volume(string) (Volume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return nil, ErrCrashed
	}
	return &memVolume{m, m.life}, nil
}

func (v *memVolume) Sync() error {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	if v.life != v.m.life {
		return ErrCrashed
	}
	if err := v.m.opLocked(); err != nil {
		return err
	}
	v.m.root.syncAll()
	return nil
}

func (v *memVolume) Holds(File) bool { return true }
func (v *memVolume) Close() error    { return nil }

// syncAll makes a tree durable.
func (d *memDir) syncAll() {
	d.sync()
	for _, n := range d.names {
		switch n := n.(type) {
		case *memDir:
			n.syncAll()
		case *memInode:
			n.sync()
		}
	}
}

type failVolume struct {
	Volume
	fail *Fail
	dir  string
}

// Volume implements FS.
func (f *Fail) Volume(dir string) (Volume, error) {
	v, err := f.base.Volume(dir)
	if err != nil {
		return nil, err
	}
	return &failVolume{v, f, dir}, nil
}

func (v *failVolume) Sync() error {
	if err := v.fail.check(OpSyncVolume, v.dir); err != nil {
		return err
	}
	return v.Volume.Sync()
}

func (v *failVolume) Holds(f File) bool {
	if w, ok := f.(*failFile); ok {
		f = w.File
	}
	return v.Volume.Holds(f)
}
