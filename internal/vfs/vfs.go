// Package vfs is the file system as the stores see it: small enough that a
// test can put a disk beneath them that crashes, fails or fills up.
//
// What is durable, and when, follows POSIX and nothing kinder:
//
//   - bytes written with WriteAt are durable once Sync of that file returned nil;
//   - a created, renamed or removed name is durable once SyncDir of its
//     directory returned nil;
//   - after a failed Sync nothing is known about the bytes written before it.
//     Callers stop; they never retry (fsync can report an error once and then
//     lie, see "fsyncgate").
package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Implementations are safe for concurrent use.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Create makes a new, empty file for reading and writing; it fails with
	// fs.ErrExist when the name is taken.
	Create(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a tree; a missing one is no error.
	RemoveAll(name string) error
	// Rename replaces newName by oldName in one step.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its parents.
	MkdirAll(name string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat describes a file.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Volume opens the file system that holds a directory, to sync all of it at
	// once; ErrNoVolume says that this one can't be.
	Volume(dir string) (Volume, error)
	// Lock takes an exclusive lock that lasts until Close or the death of the
	// process; it fails at once with ErrLocked when somebody holds it.
	Lock(name string) (io.Closer, error)
	// Free returns the bytes an unprivileged writer may still use.
	Free(dir string) (uint64, error)
}

// File is an open file. ReadAt and WriteAt may be called at the same time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteVAt writes the buffers one after another at off, as one system
	// call where the system allows it. It does not keep or change them.
	WriteVAt(bufs [][]byte, off int64) (int64, error)
	// Sync makes all written bytes durable, with the metadata needed to read
	// them back (fdatasync).
	Sync() error
	// Truncate sets the length.
	Truncate(size int64) error
	// Preallocate reserves room for [0, size) and extends the file to size
	// with zeros, so that later writes below size change no metadata.
	Preallocate(size int64) error
	// Size returns the length in bytes.
	Size() (int64, error)
	// Name returns the name it was opened by.
	Name() string
}
