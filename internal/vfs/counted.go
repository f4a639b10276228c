package vfs

import "syscall"

// Sync calls, as a Counted names them.
const (
	CallFile   = "fdatasync"
	CallDir    = "fsync"
	CallVolume = "syncfs"
)

// Counted is a file system that tells of each call that waits for the disk.
type Counted struct {
	FS
	count func(call, name string)
}

// NewCounted wraps base. count runs before each Sync of a File, a directory and
// a Volume, with the name it has.
func NewCounted(base FS, count func(call, name string)) *Counted { return &Counted{base, count} }

type countedFile struct {
	File
	c *Counted
}

func (c *Counted) wrap(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &countedFile{f, c}, nil
}

// Open implements FS.
func (c *Counted) Open(name string) (File, error) { return c.wrap(c.FS.Open(name)) }

// OpenWrite implements FS.
func (c *Counted) OpenWrite(name string) (File, error) { return c.wrap(c.FS.OpenWrite(name)) }

// Create implements FS.
func (c *Counted) Create(name string) (File, error) { return c.wrap(c.FS.Create(name)) }

// SyncDir implements FS.
func (c *Counted) SyncDir(dir string) error {
	c.count(CallDir, dir)
	return c.FS.SyncDir(dir)
}

func (f *countedFile) Sync() error {
	f.c.count(CallFile, f.Name())
	return f.File.Sync()
}

// SyscallConn is that of the file beneath, if it has one: segments need it to
// write around the page cache.
func (f *countedFile) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := f.File.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

type countedVolume struct {
	Volume
	c   *Counted
	dir string
}

// Volume implements FS.
func (c *Counted) Volume(dir string) (Volume, error) {
	v, err := c.FS.Volume(dir)
	if err != nil {
		return nil, err
	}
	return &countedVolume{v, c, dir}, nil
}

func (v *countedVolume) Sync() error {
	v.c.count(CallVolume, v.dir)
	return v.Volume.Sync()
}

func (v *countedVolume) Holds(f File) bool {
	if w, ok := f.(*countedFile); ok {
		f = w.File
	}
	return v.Volume.Holds(f)
}
