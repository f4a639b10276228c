package wal

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/vfs"
)

// TestFailureIsFinal: after a failed write or fsync nothing is accepted and
// nothing is tried again.
func TestFailureIsFinal(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		t.Run(string(op), func(t *testing.T) {
			var broken atomic.Bool
			var failed, fatal atomic.Int32
			opts := small(vfs.NewFail(newMem(t), func(o vfs.Op, name string) error {
				if broken.Load() && o == op {
					failed.Add(1)
					return syscall.EIO
				}
				return nil
			}))
			opts.OnFatal = func(err error) {
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("OnFatal(%v)", err)
				}
				fatal.Add(1)
			}
			l := open(t, opts)
			g := l.Group(1)
			must(t, g.StoreLogs(entries(1, 3, 1, 100)))
			until(t, "idle preparer", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.reserve != nil })
			broken.Store(true)
			if err := g.StoreLogs(entries(4, 5, 1, 100)); !errors.Is(err, syscall.EIO) {
				t.Fatalf("got %v", err)
			}
			for what, err := range map[string]error{
				"StoreLogs": g.StoreLogs(entries(4, 5, 1, 100)), "DeleteRange": g.DeleteRange(1, 2), "Truncate": g.DeleteRange(3, 3),
				"Set": g.Set([]byte("a"), nil), "SetUint64": g.SetUint64([]byte("LastVoteTerm"), 1),
				"Vote": g.Set([]byte("LastVoteCand"), nil), "Drop": l.Drop(1),
			} {
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("%s: got %v", what, err)
				}
			}
			wantRange(t, g, 1, 3) // reads go on
			wantEntry(t, g, entry(3, 1, 100))
			if err := l.Close(); !errors.Is(err, syscall.EIO) {
				t.Fatalf("close: %v", err)
			}
			if fatal.Load() != 1 || failed.Load() != 1 {
				t.Fatalf("OnFatal called %d times, %d operations failed", fatal.Load(), failed.Load())
			}
		})
	}
}

// TestFullDisk: entries are refused, votes and truncations are not, and all is
// well when there is space again.
func TestFullDisk(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	l := open(t, opts)
	g, h := l.Group(1), l.Group(2)
	must(t, h.StoreLogs(entries(1, 5, 1, 100)))
	until(t, "reserve", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.reserve != nil })
	m.SetCapacity(l.Stats().SizeBytes)
	last := uint64(0)
	var err error
	for err == nil {
		if err = g.StoreLogs(entries(last+1, last+2, 1, 1000)); err == nil {
			last += 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	wantRange(t, g, 1, last)
	wantEntry(t, g, entry(last, 1, 1000))
	if !l.Stats().Full {
		t.Fatal("not full")
	}
	for err == nil || last == 0 { // up to the last byte
		err = h.StoreLog(entry(6, 1, 0))
	}
	for i := uint64(1); i < 200; i++ { // more than the current file has room for
		must(t, g.SetUint64([]byte("CurrentTerm"), i))
	}
	must(t, g.SetUint64([]byte("LastVoteTerm"), 9))
	must(t, g.Set([]byte("LastVoteCand"), []byte("9")))
	m.SetCapacity(0)
	until(t, "space", func() bool {
		err := g.StoreLogs(entries(last+1, last+10, 1, 1000))
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		return err == nil
	})
	must(t, l.Close())
	l = open(t, opts)
	wantRange(t, l.Group(1), 1, last+10)
	wantValue(t, l.Group(1), "LastVoteCand", "9")
}

// TestTruncateOnFullDisk: either it is refused, or the append that follows works.
func TestTruncateOnFullDisk(t *testing.T) {
	m := newMem(t)
	l := open(t, small(m))
	g := l.Group(1)
	until(t, "reserve", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.reserve != nil })
	m.SetCapacity(l.Stats().SizeBytes)
	last := uint64(0)
	refused := false
	for range 200 {
		if err := g.StoreLogs(entries(last+1, last+2, 1, 1000)); err == nil {
			last += 2
		}
		if last < 4 {
			continue
		}
		switch err := g.DeleteRange(last, last); {
		case errors.Is(err, syscall.ENOSPC):
			refused = true
			wantRange(t, g, 1, last)
		case err != nil:
			t.Fatal(err)
		default:
			wantRange(t, g, 1, last-1)
			must(t, g.StoreLogs(entries(last, last, 2, 10000)))
		}
	}
	if !refused {
		t.Fatal("the disk never filled up")
	}
}

// TestSplitAppendIsUndone: a call too large for one file that fails half way
// leaves the last index as it was.
func TestSplitAppendIsUndone(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	l := open(t, opts)
	g := l.Group(1)
	must(t, g.StoreLogs(entries(1, 60, 1, 1000)))
	wantRange(t, g, 1, 60)
	until(t, "reserve and next", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.reserve != nil && l.next != nil })
	m.SetCapacity(l.Stats().SizeBytes)
	if err := g.StoreLogs(entries(61, 200, 1, 1000)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	wantRange(t, g, 1, 60)
	must(t, l.Close())
	l = open(t, opts)
	wantRange(t, l.Group(1), 1, 60)
}

func TestBadAppends(t *testing.T) {
	g := open(t, small(newMem(t))).Group(1)
	must(t, g.StoreLogs(entries(5, 9, 1, 10)))
	for name, logs := range map[string][]*raft.Log{
		"gap": entries(11, 12, 1, 10), "overlap": entries(9, 10, 1, 10), "zero": entries(0, 1, 1, 10),
		"gap within": {entry(10, 1, 10), entry(12, 1, 10)}, "too large": entries(10, 10, 1, 40<<10),
	} {
		if err := g.StoreLogs(logs); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := g.DeleteRange(6, 7); err == nil {
		t.Error("removed from the middle")
	}
	wantRange(t, g, 5, 9)
}

func TestClose(t *testing.T) {
	reg := prometheus.NewRegistry()
	opts := small(newMem(t))
	opts.Registerer = reg
	l := open(t, opts)
	g := l.Group(1)
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			g := l.Group(i + 2)
			for j := uint64(1); ; j++ {
				if err := g.StoreLog(entry(j, 1, 10)); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	must(t, g.StoreLog(entry(1, 1, 10)))
	if metrics, err := reg.Gather(); err != nil || len(metrics) != 8 {
		t.Fatalf("%d metrics, %v", len(metrics), err)
	}
	must(t, l.Close())
	must(t, l.Close())
	wg.Wait()
	var log raft.Log
	for what, err := range map[string]error{"GetLog": g.GetLog(1, &log), "StoreLog": g.StoreLog(entry(2, 1, 1)), "DeleteRange": g.DeleteRange(1, 1)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	l2 := open(t, opts) // the same registerer again
	must(t, l2.Close())
}

// TestStuckDisk: LastSync shows it, and what was acknowledged can be read.
func TestStuckDisk(t *testing.T) {
	var stuck atomic.Bool
	release := make(chan struct{})
	opts := small(vfs.NewFail(newMem(t), func(o vfs.Op, name string) error {
		if o == vfs.OpSync && stuck.Load() {
			<-release
		}
		return nil
	}))
	l := open(t, opts)
	g := l.Group(1)
	must(t, g.StoreLog(entry(1, 1, 10)))
	until(t, "reserve", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.reserve != nil })
	until(t, "idle", func() bool { _, running := l.LastSync(); return !running })
	stuck.Store(true)
	before := time.Now()
	done := make(chan error)
	go func() { done <- g.StoreLog(entry(2, 1, 10)) }()
	until(t, "running", func() bool { at, running := l.LastSync(); return running && !at.Before(before) })
	wantEntry(t, g, entry(1, 1, 10))
	wantRange(t, g, 1, 1)
	close(release)
	must(t, <-done)
	wantRange(t, g, 1, 2)
}

// TestSameValueWritesNothing: raft sets the term of every group at each start.
func TestSameValueWritesNothing(t *testing.T) {
	l := open(t, small(newMem(t)))
	g := l.Group(1)
	set := func() {
		must(t, g.SetUint64([]byte("CurrentTerm"), 3))
		must(t, g.SetUint64([]byte("LastVoteTerm"), 3))
		must(t, g.Set([]byte("LastVoteCand"), []byte("1")))
	}
	set()
	n := l.Stats().Fsyncs
	set()
	if m := l.Stats().Fsyncs; n != 2 || m != n {
		t.Fatalf("%d fsyncs, then %d", n, m)
	}
	// Half a vote is not visible.
	must(t, g.SetUint64([]byte("LastVoteTerm"), 4))
	if v, err := g.GetUint64([]byte("LastVoteTerm")); err != nil || v != 3 {
		t.Fatalf("got %d, %v", v, err)
	}
	if err := g.Set([]byte("LastVoteTerm"), []byte("x")); err == nil || !strings.Contains(err.Error(), "term") {
		t.Fatalf("got %v", err)
	}
}
