package seglog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// source is a log to catch up with, in a file system of its own.
func source(t *testing.T, w *Writer) (*Log, *model) {
	l := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "src", Writer: w, SegmentBytes: 4000}, State{})
	m := fill(t, l, 60, 1)
	m.start = m.next / 3
	l.SetStart(m.start)
	return l, m
}

func dirs(t *testing.T) *vfs.Mem {
	mem := vfs.NewMem()
	if err := errors.Join(mem.MkdirAll("p"), mem.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	return mem
}

// TestStageAdoptCrashes crashes at every operation of Stage and Adopt, goes
// on, and ends with the source's log.
func TestStageAdoptCrashes(t *testing.T) {
	w := tinyWriter(t)
	src, m := source(t, w)
	pin := src.Pin()
	defer pin.Close()
	st := pin.State()
	fetched := 0
	fetch := func(base int64, p []byte, off int64) (int, error) {
		n, err := pin.ReadAt(base, p[:min(len(p), 700)], off)
		fetched += n
		return n, err
	}
	for n := int64(1); ; n++ {
		mem := dirs(t)
		opts := Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000}
		// What was there before: the same beginning, and other things after it.
		old := mustOpen(t, opts, State{})
		for _, b := range m.batches[:25] {
			if err := old.Append(b.input, b.base(), b.epoch); err != nil {
				t.Fatal(err)
			}
		}
		if n%2 == 0 {
			if err := old.Append(m.batches[2].input, m.batches[25].base()+9, 8); err != nil {
				t.Fatal(err)
			}
		}
		if err := old.SyncTo(old.State()); err != nil {
			t.Fatal(err)
		}
		before := old.State()
		mem.ArmCrash(n)
		err := Stage(mem, "p/staged", st, pinOf(old), fetch, nil)
		old.Close()
		if err == nil {
			err = Adopt(mem, "p/log", "p/staged", st)
		}
		if crashed := mem.Crashed(); !crashed {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		mem.Crash(nil)
		if err := Adopt(mem, "p/log", "p/staged", st); errors.Is(err, ErrNotStaged) {
			again, err := Open(opts, before)
			if err == nil { // it was still staging
				if err := Stage(mem, "p/staged", st, pinOf(again), fetch, nil); err != nil {
					t.Fatal(err)
				}
				again.Close()
				if err := Adopt(mem, "p/log", "p/staged", st); err != nil {
					t.Fatal(err)
				}
			} // else it had ended
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := mem.Stat("p/staged"); err == nil {
			t.Fatal("staged is left")
		}
		l := mustOpen(t, opts, st)
		for offset := m.start; offset <= m.next; offset += 7 {
			checkRead(t, l, m, offset, 3000, true, math.MaxInt64)
		}
		l.Close()
	}
}

// TestStageHalfCrashes keeps a random part of what was not synced.
func TestStageHalfCrashes(t *testing.T) {
	w := tinyWriter(t)
	src, m := source(t, w)
	pin := src.Pin()
	defer pin.Close()
	st := pin.State()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			mem := dirs(t)
			r := rand.New(rand.NewPCG(seed, 5))
			for range 3 {
				mem.ArmCrash(1 + r.Int64N(30))
				if Stage(mem, "p/staged", st, nil, pin.ReadAt, nil) == nil {
					_ = Adopt(mem, "p/log", "p/staged", st)
				}
				mem.Crash(r)
			}
			err := Stage(mem, "p/staged", st, nil, pin.ReadAt, nil)
			if err == nil {
				err = Adopt(mem, "p/log", "p/staged", st)
			}
			if errors.Is(err, ErrNotStaged) { // Mem lost a rename: stage again
				if err = Stage(mem, "p/staged", st, nil, pin.ReadAt, nil); err == nil {
					err = Adopt(mem, "p/log", "p/staged", st)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			l := mustOpen(t, Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000}, st)
			checkRead(t, l, m, m.start, 1<<20, true, math.MaxInt64)
		})
	}
}

func TestStageCopiesAndResumes(t *testing.T) {
	w := tinyWriter(t)
	src, m := source(t, w)
	pin := src.Pin()
	defer pin.Close()
	st := pin.State()
	var total int64
	for _, s := range st.Segments {
		total += s.Bytes
	}
	stop := errors.New("stop")
	var fetched, budget int64
	fetch := func(base int64, p []byte, off int64) (int, error) {
		if budget <= 0 {
			return 0, stop
		}
		n, err := pin.ReadAt(base, p[:min(int64(len(p)), budget)], off)
		budget -= int64(n)
		fetched += int64(n)
		return n, err
	}
	mem := dirs(t)
	calls := 0
	for budget = 1000; ; budget = 1000 {
		calls++
		err := Stage(mem, "p/staged", st, nil, fetch, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	if fetched != total || calls < 5 {
		t.Fatalf("fetched %d bytes of %d in %d calls", fetched, total, calls)
	}
	budget = 1
	if err := Stage(mem, "p/staged", st, nil, fetch, nil); err != nil || budget != 1 {
		t.Fatal("staged what was staged")
	}

	// A log with the same beginning, cut in the middle of a segment.
	have := mustOpen(t, Options{FS: dirs(t), Dir: "p/h", Writer: w, SegmentBytes: 4000}, State{})
	for _, b := range m.batches[:len(m.batches)-7] {
		if err := have.Append(b.input, b.base(), b.epoch); err != nil {
			t.Fatal(err)
		}
	}
	mem, fetched, budget = dirs(t), 0, math.MaxInt64
	if err := Stage(mem, "p/staged", st, pinOf(have), fetch, nil); err != nil {
		t.Fatal(err)
	}
	if want, _ := m.read(m.batches[len(m.batches)-7].base(), math.MaxInt64); fetched != int64(len(want)) {
		t.Fatalf("fetched %d bytes, missing were %d", fetched, len(want))
	}
}

func TestStageRefuses(t *testing.T) {
	w := tinyWriter(t)
	src, _ := source(t, w)
	pin := src.Pin()
	defer pin.Close()
	st := pin.State()
	mem := dirs(t)
	bad := func(base int64, p []byte, off int64) (int, error) {
		n, err := pin.ReadAt(base, p, off)
		p[0] ^= 1
		return n, err
	}
	wantDamage(t, Stage(mem, "p/staged", st, nil, bad, nil))
	if err := Stage(mem, "p/staged", st, nil, func(int64, []byte, int64) (int, error) { return 0, nil }, nil); !errors.Is(err, io.ErrNoProgress) {
		t.Fatal(err)
	}
	if err := Adopt(mem, "p/log", "p/staged", st); !errors.Is(err, ErrNotStaged) {
		t.Fatal(err)
	}
	if err := Stage(mem, "p/staged", st, nil, pin.ReadAt, nil); err != nil {
		t.Fatal(err)
	}
	other := st
	other.Next++
	if err := Adopt(mem, "p/log", "p/staged", other); !errors.Is(err, ErrNotStaged) {
		t.Fatal(err)
	}
	if err := Adopt(mem, "p/log", "p/staged", st); err != nil {
		t.Fatal(err)
	}
	if err := Adopt(mem, "p/log", "p/staged", st); !errors.Is(err, ErrNotStaged) {
		t.Fatal(err)
	}
}

// pinOf pins a log for a Stage and never lets go: what it keeps is wanted until Adopt.
func pinOf(l *Log) *Pin { return l.Pin() }
