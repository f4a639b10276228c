package vfs_test

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func TestFreezer(t *testing.T) {
	var disk vfs.Freezer
	m := vfs.NewMem()
	fsys := vfs.NewFail(m, disk.Hook)
	f := create(t, fsys, "f", []byte("a"))
	must(t, f.Sync())
	disk.FreezeFrom(func(op vfs.Op, name string) bool { return op == vfs.OpCreate })
	must(t, f.Sync())
	create(t, fsys, "g", nil)
	var done atomic.Int32
	for _, sync := range []func() error{f.Sync, func() error { return fsys.SyncDir("/") }} {
		go func() {
			_ = sync()
			done.Add(1)
		}()
	}
	for disk.Held() < 2 {
		runtime.Gosched()
	}
	if _, err := f.WriteAt([]byte("b"), 0); err != nil || done.Load() > 0 || !disk.Frozen() {
		t.Fatalf("write: %v, %d syncs have returned", err, done.Load())
	}
	disk.Thaw()
	for done.Load() < 2 {
		runtime.Gosched()
	}
	must(t, f.Sync())
	if disk.Held() > 0 || disk.Frozen() {
		t.Fatal("still frozen")
	}
}
