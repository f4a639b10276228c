//go:build system

package system

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownMounts runs the calling test once more, as a child in a mount namespace of
// its own, and reports whether the caller is that child. What the child mounts
// is gone with its last process, however it ends.
func ownMounts(t *testing.T) bool {
	t.Helper()
	const mark = "RAFTSMAN_TEST_OWN_MOUNTS"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("mounting file systems needs root")
	}
	limit := 30 * time.Minute
	if at, ok := t.Deadline(); ok {
		limit = time.Until(at) - 5*time.Second
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.count=1", "-test.v", "-test.timeout", limit.String())
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s with its own mounts: %v", t.Name(), err)
	}
	return false
}

// disk is an ext4 file system in a sparse file.
type disk struct {
	t       *testing.T
	image   string
	dir     string // where it is mounted
	options string // of mount
	mounted bool
	thaw    io.Closer // held while frozen
}

// newDisk makes and mounts a file system; it is unmounted when the test ends,
// after the processes that were started later.
func newDisk(t *testing.T, bytes int64, options string) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mnt"), options: "loop"}
	if options != "" {
		d.options += "," + options
	}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// No lazy initialization: a kernel thread would write for minutes.
	command(t, "", "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)
	d.mount()
	t.Cleanup(func() {
		d.unfreeze()
		if d.mounted {
			_ = unix.Unmount(d.dir, unix.MNT_DETACH)
		}
	})
	return d
}

// data is the directory for a node.
func (d *disk) data() string { return filepath.Join(d.dir, "data") }

// mount mounts the file system; after a power loss this replays its journal.
func (d *disk) mount() {
	d.t.Helper()
	command(d.t, "", "mount", "-o", d.options, d.image, d.dir)
	d.mounted = true
}

func (d *disk) unmount() {
	d.t.Helper()
	waitFor(d.t, d.dir+" to be unmounted", 20*time.Second, func() bool {
		err := unix.Unmount(d.dir, 0)
		if err != nil && err != unix.EBUSY {
			d.t.Fatalf("unmount %s: %v", d.dir, err)
		}
		return err == nil
	})
	d.mounted = false
}

// remount unmounts and mounts again, as after a power loss.
func (d *disk) remount() {
	d.t.Helper()
	d.unmount()
	d.mount()
}

// powerOff stops the file system as a power cut does: what was not fsynced is
// lost, the journal's own tail included, and from now on every access fails with
// EIO, until remount.
func (d *disk) powerOff() error {
	const fsIocShutdown, noLog = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flag := uint32(noLog)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return fmt.Errorf("shut %s down: %w", d.dir, errno)
	}
	return nil
}

// freeze makes writes and fsyncs hang until unfreeze. A helper thaws the file
// system if this process dies meanwhile: a frozen one can't be unmounted and
// holds its writers for ever.
func (d *disk) freeze() {
	d.t.Helper()
	guard := exec.Command("sh", "-c", `read x; fsfreeze -u "$0" 2>/dev/null`, d.dir)
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.thaw = closeFunc(func() error {
		in.Close()
		return guard.Wait()
	})
	d.t.Cleanup(d.unfreeze) // before the processes are waited for
	command(d.t, "", "fsfreeze", "-f", d.dir)
}

func (d *disk) unfreeze() {
	if d.thaw == nil {
		return
	}
	if err := d.thaw.Close(); err != nil {
		d.t.Errorf("thaw %s: %v", d.dir, err)
	}
	d.thaw = nil
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// free is what is left for an unprivileged writer.
func (d *disk) free() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}
