package seglog

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/raftsman/raftsman/internal/vfs"
)

// makeDirect makes writes to f bypass the page cache, if f is a file of the
// operating system on a file system that can do so.
func makeDirect(f vfs.File) bool {
	conn, ok := f.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err == nil {
			_, err = unix.FcntlInt(fd, unix.F_SETFL, flags|unix.O_DIRECT)
		}
		set = err
	})
	return err == nil && set == nil
}

// notDirect says that the file system refuses a direct write, not that the
// write failed.
func notDirect(err error) bool { return errors.Is(err, unix.EINVAL) }
