package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

// TestWriteFailure: the first error ends the log, is told once, and blocks
// nobody, other logs of the same writer least of all.
func TestWriteFailure(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpCreate} {
		t.Run(string(op), func(t *testing.T) {
			// Nobody but SyncTo is to write, however slow the machine.
			w := testWriter(t, WriterOptions{TailBytes: 64 << 10, ChunkBytes: 64 << 10, IdleAfter: time.Hour})
			boom := errors.New("boom")
			var armed atomic.Bool
			mem := vfs.NewMem()
			fsys := vfs.NewFail(mem, func(o vfs.Op, _ string) error {
				if o == op && armed.Load() {
					return boom
				}
				return nil
			})
			var told atomic.Int32
			l := mustOpen(t, Options{FS: fsys, Dir: "d", Writer: w, OnFatal: func(err error) {
				if !errors.Is(err, boom) {
					t.Error(err)
				}
				told.Add(1)
			}}, State{})
			other := mustOpen(t, Options{FS: mem, Dir: "e", Writer: w}, State{})
			armed.Store(true)
			m := fill(t, l, 3, 1)
			if err := l.SyncTo(l.State()); !errors.Is(err, boom) {
				t.Fatalf("sync: %v", err)
			}
			b := encode(t, 0, []rec{{value: make([]byte, 1000)}})
			if err := l.Append(b, m.next, 3); !errors.Is(err, boom) {
				t.Fatalf("append: %v", err)
			}
			armed.Store(false)
			if err := l.SyncTo(l.State()); !errors.Is(err, boom) {
				t.Fatalf("sync was tried again: %v", err)
			}
			for i := range int64(200) {
				if err := other.Append(b, i, 0); err != nil {
					t.Fatal(err)
				}
			}
			if n := told.Load(); n != 1 {
				t.Fatalf("told %d times", n)
			}
		})
	}
}

// TestStuckDisk: appends wait while the disk hangs, reads go on, and all goes
// on when the disk does.
func TestStuckDisk(t *testing.T) {
	w := tinyWriter(t)
	gate := make(chan struct{})
	fsys := vfs.NewFail(vfs.NewMem(), func(o vfs.Op, _ string) error {
		if o == vfs.OpWrite {
			<-gate
		}
		return nil
	})
	l := mustOpen(t, Options{FS: fsys, Dir: "d", Writer: w}, State{})
	b := encode(t, 0, []rec{{value: make([]byte, 1000)}})
	done := make(chan error, 1)
	const n = 300
	go func() {
		for i := range int64(n) {
			if err := l.Append(b, i, 0); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	eventually(t, "append waits", func() bool { return w.Stats().Waiting == 1 })
	if d, err := l.Read(0, 100, true, math.MaxInt64); err != nil || d.Len() == 0 {
		t.Fatal(err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, next := l.Offsets(); next != n {
		t.Fatal(next)
	}
}

func TestCloseWakesAppend(t *testing.T) {
	w := tinyWriter(t)
	gate := make(chan struct{})
	fsys := vfs.NewFail(vfs.NewMem(), func(o vfs.Op, _ string) error {
		if o == vfs.OpWrite {
			<-gate
		}
		return nil
	})
	l := mustOpen(t, Options{FS: fsys, Dir: "d", Writer: w}, State{})
	b := encode(t, 0, []rec{{value: make([]byte, 3000)}})
	done := make(chan error, 1)
	go func() {
		for i := int64(0); ; i++ {
			if err := l.Append(b, i, 0); err != nil {
				done <- err
				return
			}
		}
	}()
	eventually(t, "append waits", func() bool { return w.Stats().Waiting == 1 })
	l.Interrupt()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	close(gate)
	<-closed
	if n := w.Stats().TailBytes; n != 0 {
		t.Fatalf("%d bytes of tails after Close", n)
	}
}

// TestManyTrickles has more logs than chunks: each waits for what the others hold.
func TestManyTrickles(t *testing.T) {
	w := tinyWriter(t)
	mem := vfs.NewMem()
	var wg sync.WaitGroup
	for i := range 100 {
		l := mustOpen(t, Options{FS: mem, Dir: fmt.Sprintf("d%d", i), Writer: w, SegmentBytes: 4000}, State{})
		wg.Go(func() {
			m := fill(t, l, 20, uint64(i))
			st := l.State()
			if err := l.SyncTo(st); err != nil {
				t.Error(err)
			}
			checkRead(t, l, m, m.next/2, 3000, true, math.MaxInt64)
		})
	}
	wg.Wait()
}

// TestBatchLargerThanBudget makes progress in parts.
func TestBatchLargerThanBudget(t *testing.T) {
	w := tinyWriter(t)
	l := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "d", Writer: w}, State{})
	b := encode(t, 0, []rec{{value: bytes.Repeat([]byte("abcd"), 100_000)}})
	for i := range int64(3) {
		if err := l.Append(b, i, 0); err != nil {
			t.Fatal(err)
		}
		d, err := l.Read(i, 10, true, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		b.SetBaseOffset(i)
		if !bytes.Equal(flat(d), b) {
			t.Fatal("other bytes")
		}
	}
}

// TestHeldDataSurvives: neither eviction nor Close touches what a reader holds.
func TestHeldDataSurvives(t *testing.T) {
	w := tinyWriter(t)
	l := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "d", Writer: w, SegmentBytes: 50_000}, State{})
	m := fill(t, l, 5, 1)
	d, err := l.Read(0, 1<<20, true, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := m.read(0, math.MaxInt64)
	fill(t, l, 500, 2)
	l.Close()
	l = mustOpen(t, Options{FS: vfs.NewMem(), Dir: "d", Writer: w}, State{})
	fill(t, l, 500, 3)
	if !bytes.Equal(flat(d), want) {
		t.Fatal("held bytes changed")
	}
	d.Release()
}

func TestIdleTailIsWrittenAndGivenUp(t *testing.T) {
	w := tinyWriter(t)
	mem := vfs.NewMem()
	l := mustOpen(t, Options{FS: mem, Dir: "d", Writer: w}, State{})
	for round := range uint64(3) {
		fill(t, l, 2, round)
		bytes := l.Size()
		eventually(t, "tail written", func() bool {
			info, err := mem.Stat("d/" + logName(0))
			l.mu.Lock()
			defer l.mu.Unlock()
			return err == nil && info.Size() == bytes && l.cur == nil
		})
	}
}
