package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// TestGraft: a log with a damaged segment that the other one has compacted away
// takes over that one's beginning, wherever a crash cuts it off, and goes on.
func TestGraft(t *testing.T) {
	seed := testSeed(t)
	w := tinyWriter(t)
	n := int64(1)
	for ; graftCrash(t, w, seed, n); n++ {
		if n > 500 {
			t.Fatal("it never ends")
		}
	}
	t.Logf("crashed at %d operations", n-1)
}

func graftCrash(t *testing.T, w *Writer, seed uint64, n int64) (crashed bool) {
	k := &keyed{r: rand.New(rand.NewPCG(seed, 5))}
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	mem := dirs(t)
	opts := Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000, IndexInterval: 256}
	l := mustOpen(t, opts, State{})
	peerOpts := opts
	peerOpts.FS = dirs(t)
	peer := mustOpen(t, peerOpts, State{})
	both := []*Log{l, peer}
	write := func(count int) {
		for range count {
			b := k.batch(t, 300)
			for _, l := range both {
				_, next := l.Offsets()
				if err := l.Append(b, next, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	compact := func(seq int64, of ...*Log) {
		for _, l := range of {
			compactNow(t, l, CompactRequest{Seq: seq, UpTo: upTo(l.State()), SegmentBytes: 4000, Now: seq * 10, Horizon: seq*10 + 15, Memory: 1 << 20})
		}
	}
	write(100)
	compact(1, both...)
	write(100)
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	bad := st.Segments[len(st.Segments)-3]
	l = reopened(t, l, opts, st)
	both[0] = l
	smash(t, mem, "p/log/"+bad.FileName(), bad.Bytes/2)
	fetch := func(from *Log) Fetch {
		p := from.Pin()
		t.Cleanup(func() { p.Close() })
		return p.ReadAt
	}
	if err := l.Graft(t.Context(), bad.Base, State{Start: 0, Next: st.Next}, fetch(peer)); !errors.Is(err, ErrNoGraft) {
		t.Fatalf("from a log that was compacted less: %v, want ErrNoGraft", err)
	}
	compact(2, peer)
	mem.ArmCrash(n)
	err := l.Graft(t.Context(), bad.Base, peer.State(), fetch(peer))
	if crashed = mem.Crashed(); !crashed && err != nil {
		t.Fatal(err)
	}
	if !crashed {
		st = l.State()
		if err := errors.Join(l.SyncTo(st), l.RemoveObsolete(st)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	mem.Crash(r)
	l = mustOpen(t, opts, st)
	both[0] = l
	if crashed {
		if err := l.Graft(t.Context(), bad.Base, peer.State(), fetch(peer)); err != nil {
			t.Fatal(err)
		}
	}
	write(50)
	compact(3, both...)
	for i, l := range both {
		t.Run(fmt.Sprint(i), func(t *testing.T) { checkCompacted(t, l, k.all, l.State().Compacted.UpTo) })
	}
	return crashed
}

// smash changes a byte of a file, durably.
func smash(t *testing.T, mem *vfs.Mem, name string, at int64) {
	t.Helper()
	f, err := mem.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	_, err = f.WriteAt(b[:], at)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestGraftEnd(t *testing.T) {
	state := func(seq, upTo int64, ends ...int64) State {
		st := State{Compacted: Compacted{Seq: seq, UpTo: upTo}}
		base := int64(0)
		for _, end := range ends {
			st.Segments = append(st.Segments, SegmentInfo{Base: base, LastOffset: end - 1})
			base, st.Next = end, end
		}
		return st
	}
	for _, c := range []struct {
		name      string
		own, from State
		end       int64
		ok        bool
	}{
		{"where the other one was compacted to", state(0, 0, 10, 20, 30, 40), state(1, 30, 30, 40), 30, true},
		{"this one was compacted further", state(2, 30, 30, 40), state(1, 20, 20, 30, 40), 0, false},
		{"as far", state(1, 20, 20, 30, 40), state(1, 20, 20, 30, 40), 20, true},
		{"the other one is behind", state(0, 0, 10, 20, 30), state(1, 20, 15), 0, false},
		{"it has another boundary behind", state(0, 0, 10, 20, 30, 40), state(1, 15, 15, 30, 40), 30, true},
		{"only the active segment is behind", state(0, 0, 10, 20), state(1, 20, 20), 0, false},
	} {
		if end, ok := graftEnd(c.own, c.from, c.own.Segments[0]); end != c.end || ok != c.ok {
			t.Errorf("%s: %d, %t, want %d, %t", c.name, end, ok, c.end, c.ok)
		}
	}
}
