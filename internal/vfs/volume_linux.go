package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// osVolume holds a directory open: the kernel tells each open file of the errors
// since it was opened, so one that is opened for the sync would learn of none.
type osVolume struct {
	dir *os.File
	dev uint64
}

// wholeSync are the file systems whose syncfs is known to make everything
// durable: others (FUSE) may hand the bytes on and wait for nobody.
var wholeSync = map[int64]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true, unix.TMPFS_MAGIC: true,
}

// Volume implements FS. Before Linux 5.8 syncfs kept errors of writes to itself.
func (osFS) Volume(dir string) (Volume, error) {
	if !kernelAtLeast(5, 8) {
		return nil, ErrNoVolume
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	var kind unix.Statfs_t
	var st unix.Stat_t
	if err = unix.Fstatfs(int(d.Fd()), &kind); err == nil {
		err = unix.Fstat(int(d.Fd()), &st)
	}
	if err == nil && !wholeSync[int64(kind.Type)] {
		err = ErrNoVolume
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("volume of %s: %w", dir, err)
	}
	return &osVolume{dir: d, dev: st.Dev}, nil
}

func (v *osVolume) Sync() error {
	for {
		err := unix.Syncfs(int(v.dir.Fd()))
		if err == nil || err != unix.EINTR {
			if err != nil {
				err = &fs.PathError{Op: "syncfs", Path: v.dir.Name(), Err: err}
			}
			return err
		}
	}
}

func (v *osVolume) Holds(f File) bool {
	o, ok := f.(*osFile)
	if !ok {
		return false
	}
	st, err := o.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Dev == v.dev
}

func (v *osVolume) Close() error { return v.dir.Close() }

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}
