package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// TestMendCrashes crashes at every operation of a Mend of a sealed and of the
// active segment, of open logs and of closed ones. What is left afterwards is
// damaged as before, or whole, and can be mended.
func TestMendCrashes(t *testing.T) {
	seed := testSeed(t)
	w := tinyWriter(t)
	for _, active := range []bool{false, true} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("active %v, closed %v", active, closed), func(t *testing.T) {
				n := int64(1)
				for ; mendCrash(t, w, seed, n, active, closed); n++ {
					if n > 300 {
						t.Fatal("it never ends")
					}
				}
				t.Logf("crashed at %d operations", n-1)
			})
		}
	}
}

// mendCrash crashes at the n-th operation; false says that there were fewer.
func mendCrash(t *testing.T, w *Writer, seed uint64, n int64, active, closed bool) (crashed bool) {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	mem := dirs(t)
	opts := Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000}
	l := mustOpen(t, opts, State{})
	fill(t, l, 30, 1)
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	info := st.Segments[1]
	if active {
		info = st.Segments[len(st.Segments)-1]
	}
	name := "p/log/" + logName(info.Base)
	whole := readFileOf(t, mem, name)
	f, err := mem.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	at := r.Int64N(info.Bytes)
	if _, err := f.WriteAt([]byte{whole[at] ^ 4}, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	fetch := func(_ int64, p []byte, off int64) (int, error) { return copy(p, whole[off:]), nil }
	if closed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	mend := func() error {
		if closed {
			return MendClosed(mem, "p/log", "p/damaged", info, fetch)
		}
		mended, err := l.Mend(info.Base, "p/damaged", fetch)
		if err == nil && !mended {
			err = errors.New("not mended")
		}
		return err
	}
	mem.ArmCrash(n)
	err = mend()
	crashed = mem.Crashed()
	if !crashed && err != nil {
		t.Fatal(err)
	}
	l.Close()
	mem.Crash(r)
	if !crashed {
		checkMended(t, mem, opts, st, info, name, whole)
		return false
	}
	// The next start finds it damaged, or whole; a sealed one is not looked at.
	if err := MendClosed(mem, "p/log", "p/damaged", info, fetch); err != nil {
		t.Fatalf("after a crash at operation %d: %v", n, err)
	}
	checkMended(t, mem, opts, st, info, name, whole)
	return true
}

func checkMended(t *testing.T, mem *vfs.Mem, opts Options, st State, info SegmentInfo, name string, whole []byte) {
	t.Helper()
	if got := readFileOf(t, mem, name); string(got) != string(whole) {
		t.Fatalf("%s is not what it was", name)
	}
	l := mustOpen(t, opts, st)
	if err := l.Pin().Prove(info.Base); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
