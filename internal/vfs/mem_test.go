package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fsys vfs.FS, name string, data []byte) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt(data, 0)
	must(t, err)
	return f
}

func content(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	buf := make([]byte, size)
	if size > 0 {
		_, err = f.ReadAt(buf, 0)
		must(t, err)
	}
	return buf
}

// TestSameOnBoth runs the plain behaviour on the real disk and in memory.
func TestSameOnBoth(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS, "mem": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			must(t, fsys.MkdirAll(dir))
			p := func(n string) string { return filepath.Join(dir, n) }
			f := create(t, fsys, p("one"), []byte("hello"))
			if _, err := fsys.Create(p("one")); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("second create: %v", err)
			}
			n, err := f.WriteVAt([][]byte{[]byte("ab"), nil, []byte("cd")}, 8)
			must(t, err)
			if n != 4 {
				t.Fatalf("wrote %d", n)
			}
			must(t, f.Preallocate(100))
			must(t, f.Preallocate(10))
			must(t, f.Sync())
			want := make([]byte, 100)
			copy(want, "hello\x00\x00\x00abcd")
			if got := content(t, fsys, p("one")); !bytes.Equal(got, want) {
				t.Fatalf("got %q", got)
			}
			must(t, f.Truncate(3))
			must(t, fsys.Rename(p("one"), p("two")))
			if got := content(t, fsys, p("two")); string(got) != "hel" {
				t.Fatalf("got %q", got)
			}
			if _, err := fsys.Open(p("one")); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("renamed file: %v", err)
			}
			create(t, fsys, p("three"), nil).Close()
			names, err := fsys.List(dir)
			must(t, err)
			if fmt.Sprint(names) != "[three two]" {
				t.Fatalf("got %v", names)
			}
			st, err := fsys.Stat(p("two"))
			must(t, err)
			if st.Size() != 3 || st.IsDir() {
				t.Fatalf("got %v", st)
			}
			must(t, fsys.SyncDir(dir))
			must(t, fsys.Remove(p("three")))
			if err := fsys.Remove(dir); err == nil {
				t.Fatal("removed a directory that is not empty")
			}
			l, err := fsys.Lock(p("LOCK"))
			must(t, err)
			if _, err := fsys.Lock(p("LOCK")); !errors.Is(err, vfs.ErrLocked) {
				t.Fatalf("second lock: %v", err)
			}
			must(t, l.Close())
			l, err = fsys.Lock(p("LOCK"))
			must(t, err)
			must(t, l.Close())
			must(t, vfs.WriteFileAtomic(fsys, p("two"), []byte("new")))
			if got := content(t, fsys, p("two")); string(got) != "new" {
				t.Fatalf("got %q", got)
			}
			must(t, f.Close())
			must(t, fsys.RemoveAll(dir))
			must(t, fsys.RemoveAll(dir))
		})
	}
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	m := vfs.NewMem()
	must(t, m.MkdirAll("d"))
	must(t, m.SyncDir("/"))
	f := create(t, m, "d/kept", bytes.Repeat([]byte("a"), 2000))
	must(t, f.Sync())
	must(t, m.SyncDir("d"))
	_, err := f.WriteAt(bytes.Repeat([]byte("b"), 3000), 0)
	must(t, err)
	create(t, m, "d/unnamed", []byte("x"))
	m.Crash(nil)
	if got := content(t, m, "d/kept"); !bytes.Equal(got, bytes.Repeat([]byte("a"), 2000)) {
		t.Fatalf("got %d bytes %.20q", len(got), got)
	}
	if _, err := m.Open("d/unnamed"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("un-synced name: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, vfs.ErrCrashed) {
		t.Fatalf("handle of an older life: %v", err)
	}

	// A removal and a truncation that were not synced are undone.
	f, err = m.OpenWrite("d/kept")
	must(t, err)
	must(t, f.Truncate(10))
	must(t, m.Remove("d/kept"))
	m.Crash(nil)
	if got := content(t, m, "d/kept"); len(got) != 2000 || got[1999] != 'a' {
		t.Fatalf("got %d bytes", len(got))
	}
	// A directory that was not synced is lost with all it holds.
	must(t, m.MkdirAll("e"))
	must(t, create(t, m, "e/f", []byte("x")).Sync())
	must(t, m.SyncDir("e"))
	m.Crash(nil)
	if _, err := m.Stat("e"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("un-synced directory: %v", err)
	}
}

func TestCrashTearsSectors(t *testing.T) {
	const sectors = 16
	mixed := false
	for seed := uint64(0); seed < 50; seed++ {
		m := vfs.NewMem()
		f := create(t, m, "f", bytes.Repeat([]byte("a"), sectors*vfs.SectorSize))
		must(t, f.Sync())
		must(t, m.SyncDir("/"))
		_, err := f.WriteAt(bytes.Repeat([]byte("b"), sectors*vfs.SectorSize), 0)
		must(t, err)
		m.Crash(rand.New(rand.NewPCG(seed, 0)))
		got := content(t, m, "f")
		news := 0
		for i := 0; i < sectors; i++ {
			s := got[i*vfs.SectorSize : (i+1)*vfs.SectorSize]
			switch {
			case bytes.Count(s, []byte("b")) == len(s):
				news++
			case bytes.Count(s, []byte("a")) != len(s):
				t.Fatalf("seed %d: sector %d is torn within", seed, i)
			}
		}
		mixed = mixed || news > 0 && news < sectors
	}
	if !mixed {
		t.Fatal("no crash tore the write")
	}
}

func TestArmedCrash(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "f", []byte("a"))
	m.ArmCrash(2)
	_, err := f.WriteAt([]byte("b"), 0)
	must(t, err)
	if err := f.Sync(); !errors.Is(err, vfs.ErrCrashed) || !m.Crashed() {
		t.Fatalf("got %v", err)
	}
	if _, err := m.Open("f"); !errors.Is(err, vfs.ErrCrashed) {
		t.Fatalf("got %v", err)
	}
	m.Crash(nil)
	if names, err := m.List("/"); err != nil || len(names) != 0 {
		t.Fatalf("got %v, %v", names, err)
	}
}

func TestCapacity(t *testing.T) {
	m := vfs.NewMem()
	m.SetCapacity(1000)
	f := create(t, m, "f", make([]byte, 600))
	if err := f.Preallocate(1001); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	must(t, f.Preallocate(1000))
	must(t, m.Remove("f"))
	if n, _ := m.Free("/"); n != 1000 {
		t.Fatalf("free %d", n)
	}
}

func TestFail(t *testing.T) {
	fsys := vfs.NewFail(vfs.NewMem(), func(op vfs.Op, name string) error {
		if op == vfs.OpSync && name == "bad" {
			return syscall.EIO
		}
		return nil
	})
	must(t, create(t, fsys, "good", nil).Sync())
	if err := create(t, fsys, "bad", nil).Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
}
