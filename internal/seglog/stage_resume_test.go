package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func stageSeeds(t *testing.T, n int) (first uint64, count int) {
	t.Helper()
	if s := os.Getenv("RAFTSMAN_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed, 1
	}
	return rand.Uint64() >> 16, n
}

// leaderLog is a log of m's batches from one on, in files of its own size.
func leaderLog(t *testing.T, w *Writer, m *model, upTo int, segmentBytes int64) *Log {
	t.Helper()
	l := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "src", Writer: w, SegmentBytes: segmentBytes}, State{})
	for _, b := range m.batches[:upTo] {
		if err := l.Append(b.input, b.base(), b.epoch); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestStageChangesLeader: stagings are cut off by crashes and go on from leaders
// that hold the same batches in other files, or more of them, and once one that
// holds other batches at the same offsets. What is adopted in the end is the
// last leader's log, byte by byte.
func TestStageChangesLeader(t *testing.T) {
	first, n := stageSeeds(t, 60)
	w := tinyWriter(t)
	_, m := source(t, w)
	other := mustOpen(t, Options{FS: vfs.NewMem(), Dir: "other", Writer: w, SegmentBytes: 4000}, State{})
	fill(t, other, 60, 2)
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint("RAFTSMAN_SEED=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 6))
			mem := dirs(t)
			opts := Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000}
			have := mustOpen(t, opts, State{})
			for _, b := range m.batches[:r.IntN(30)] {
				if err := have.Append(b.input, b.base(), b.epoch); err != nil {
					t.Fatal(err)
				}
			}
			if err := have.SyncTo(have.State()); err != nil {
				t.Fatal(err)
			}
			before := have.State()
			for range 4 {
				leader := other
				if r.IntN(4) > 0 {
					leader = leaderLog(t, w, m, 30+r.IntN(len(m.batches)-30), int64(3000+1000*r.IntN(3)))
				}
				pin := leader.Pin()
				if r.IntN(2) == 0 {
					mem.ArmCrash(1 + r.Int64N(60))
				}
				budget := r.IntN(60_000)
				err := Stage(mem, "p/staged", pin.State(), have.Pin(), cutOff(pin, budget), nil)
				pin.Close()
				if err != nil && !errors.Is(err, errCutOff) && !errors.Is(err, vfs.ErrCrashed) && !mem.Crashed() {
					t.Fatal(err)
				}
				if mem.Crashed() || r.IntN(3) == 0 {
					have.Close()
					mem.Crash(r)
					have = mustOpen(t, opts, before)
				}
			}
			mem.ArmCrash(1 << 40)
			last := leaderLog(t, w, m, len(m.batches), 4000)
			pin := last.Pin()
			defer pin.Close()
			st := pin.State()
			var done, total int64
			err := Stage(mem, "p/staged", st, have.Pin(), pin.ReadAt, func(d, of int64) { done, total = d, of })
			if err == nil {
				err = Staged(mem, "p/log", "p/staged", st)
			}
			if err != nil {
				t.Fatal(err)
			}
			if done != total || total == 0 {
				t.Fatalf("progress ended at %d of %d", done, total)
			}
			have.Close()
			if err := Adopt(mem, "p/log", "p/staged", st); err != nil {
				t.Fatal(err)
			}
			sameFiles(t, mem, "p/log", pin)
		})
	}
}

var errCutOff = errors.New("the connection broke")

func cutOff(pin *Pin, budget int) Fetch {
	return func(base int64, p []byte, off int64) (int, error) {
		if budget <= 0 {
			return 0, errCutOff
		}
		n, err := pin.ReadAt(base, p[:min(len(p), budget, 900)], off)
		budget -= n
		return n, err
	}
}

func sameFiles(t *testing.T, fsys vfs.FS, dir string, pin *Pin) {
	t.Helper()
	for _, info := range pin.State().Segments {
		f, err := fsys.Open(vfs.Join(dir, logName(info.Base)))
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]byte, info.Bytes), make([]byte, info.Bytes)
		if _, err := f.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if n, _ := pin.ReadAt(info.Base, want, 0); int64(n) != info.Bytes || string(got) != string(want) {
			t.Fatalf("segment %d differs", info.Base)
		}
	}
}

// TestStageLeavesSealedSegments: what the log has sealed is neither fetched nor
// copied, and what is staged is not read again.
func TestStageLeavesSealedSegments(t *testing.T) {
	w := tinyWriter(t)
	src, m := source(t, w)
	pin := src.Pin()
	defer pin.Close()
	st := pin.State()
	mem := dirs(t)
	have := mustOpen(t, Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000}, State{})
	for _, b := range m.batches[:len(m.batches)-7] {
		if err := have.Append(b.input, b.base(), b.epoch); err != nil {
			t.Fatal(err)
		}
	}
	have.SetStart(m.start)
	live := have.Pin()
	if err := Stage(mem, "p/staged", st, live, pin.ReadAt, nil); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, info := range st.Segments {
		if _, err := mem.Stat(vfs.Join("p/staged", logName(info.Base))); err != nil {
			kept++
		}
	}
	if kept < 2 || kept == len(st.Segments) {
		t.Fatalf("%d of %d segments stayed where they are", kept, len(st.Segments))
	}
	// A segment that stays and goes after all is noticed.
	name := vfs.Join("p/log", logName(st.Segments[0].Base))
	have.Close()
	if err := mem.Rename(name, name+".away"); err != nil {
		t.Fatal(err)
	}
	if err := Staged(mem, "p/log", "p/staged", st); !errors.Is(err, ErrNotStaged) {
		t.Fatalf("got %v", err)
	}
	if err := mem.Rename(name+".away", name); err != nil {
		t.Fatal(err)
	}
	if err := Adopt(mem, "p/log", "p/staged", st); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, mem, "p/log", pin)
}

// TestPinHolds counts what only pins keep.
func TestPinHolds(t *testing.T) {
	w := tinyWriter(t)
	l := mustOpen(t, Options{FS: dirs(t), Dir: "p/log", Writer: w, SegmentBytes: 4000}, State{})
	m := fill(t, l, 60, 1)
	pin := l.Pin()
	if n := pin.Held(); n != 0 {
		t.Fatalf("a new pin holds %d bytes", n)
	}
	l.SetStart(m.next / 2)
	if err := l.SyncTo(l.State()); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveObsolete(l.State()); err != nil {
		t.Fatal(err)
	}
	if n := pin.Held(); n < 4000 {
		t.Fatalf("a pin holds %d bytes of what is obsolete", n)
	}
	if err := pin.Close(); err != nil {
		t.Fatal(err)
	}
}
