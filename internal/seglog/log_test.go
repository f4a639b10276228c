package seglog

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

// fill appends n batches and returns the model of them.
func fill(t testing.TB, l *Log, n int, seed uint64) *model {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	_, next := l.Offsets()
	m := &model{start: next, next: next}
	for i := range n {
		b, recs := randomBatch(t, r, i%allCodecs, 5, 300, int64(1000+i))
		mb := m.append(b, recs, 3)
		if err := l.Append(b, mb.base(), 3); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestOnDisk runs on the real file system, direct writes included.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	w := testWriter(t, WriterOptions{TailBytes: 1 << 20, ChunkBytes: 128 << 10})
	opts := Options{FS: vfs.OS, Dir: dir + "/p", Writer: w, SegmentBytes: 300_000}
	l := mustOpen(t, opts, State{})
	r := rand.New(rand.NewPCG(3, 3))
	m := &model{}
	for range 60 {
		b, recs := randomBatch(t, r, 0, 20, 4_000, 1000)
		if err := l.Append(b, m.append(b, recs, 0).base(), 0); err != nil {
			t.Fatal(err)
		}
		if r.IntN(10) == 0 {
			if err := l.SyncTo(l.State()); err != nil {
				t.Fatal(err)
			}
		}
	}
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	check := func() {
		for offset := m.start; offset <= m.next; offset += 1 + r.Int64N(20) {
			checkRead(t, l, m, offset, r.IntN(1<<20), true, math.MaxInt64)
		}
	}
	check()
	l.Close()
	l = mustOpen(t, opts, st)
	check()
	if len(st.Segments) < 5 {
		t.Fatalf("%d segments only", len(st.Segments))
	}
}

func TestOpenEmptyStateBeginsAnew(t *testing.T) {
	mem, w := vfs.NewMem(), tinyWriter(t)
	opts := Options{FS: mem, Dir: "d", Writer: w, SegmentBytes: 2000}
	l := mustOpen(t, opts, State{})
	fill(t, l, 30, 1)
	if err := l.SyncTo(l.State()); err != nil {
		t.Fatal(err)
	}
	l.Close()
	writeFile(t, mem, "d/keep.json", []byte("{}"))
	l = mustOpen(t, opts, State{Start: 500, Next: 500})
	names, err := mem.List("d")
	if err != nil || len(names) != 1 {
		t.Fatalf("left: %v %v", names, err)
	}
	m := fill(t, l, 3, 2)
	checkRead(t, l, m, 500, 1000, true, math.MaxInt64)
}

func TestDamage(t *testing.T) {
	w := tinyWriter(t)
	for _, c := range []struct {
		name   string
		change func(mem *vfs.Mem, st State)
		open   bool // Open finds it, else Read does
	}{
		{"missing sealed", func(m *vfs.Mem, st State) { m.Remove("d/" + logName(st.Segments[0].Base)) }, true},
		{"missing active", func(m *vfs.Mem, st State) { m.Remove("d/" + logName(st.Segments[2].Base)) }, true},
		{"short sealed", func(m *vfs.Mem, st State) { resize(t, m, st.Segments[0], -1) }, true},
		{"short active", func(m *vfs.Mem, st State) { resize(t, m, st.Segments[2], -1) }, true},
		{"flipped bit in active", func(m *vfs.Mem, st State) { flip(t, m, st.Segments[2], 100) }, true},
		{"base offset", func(m *vfs.Mem, st State) { flip(t, m, st.Segments[0], 7) }, false},
		{"length", func(m *vfs.Mem, st State) { flip(t, m, st.Segments[0], posLength) }, false},
		{"small length", func(m *vfs.Mem, st State) { flip(t, m, st.Segments[0], posLength+2) }, false},
		{"magic", func(m *vfs.Mem, st State) { flip(t, m, st.Segments[0], posMagic) }, false},
		{"index and a body", func(m *vfs.Mem, st State) {
			flip(t, m, st.Segments[0], 100)
			m.Remove("d/" + indexName(st.Segments[0].Base))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			opts := Options{FS: mem, Dir: "d", Writer: w, SegmentBytes: 3000}
			l := mustOpen(t, opts, State{})
			for i := uint64(0); len(l.State().Segments) < 3; i++ {
				fill(t, l, 1, i)
			}
			fill(t, l, 1, 99)
			st := l.State()
			st.Segments = st.Segments[:3]
			if err := l.SyncTo(st); err != nil {
				t.Fatal(err)
			}
			eventually(t, "index written", func() bool { _, err := mem.Stat("d/" + indexName(0)); return err == nil })
			l.Close()
			c.change(mem, st)
			l, err := Open(opts, st)
			if c.open {
				wantDamage(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			_, err = l.Read(0, 10, true, math.MaxInt64)
			if d := wantDamage(t, err); d.File != "d/"+logName(0) {
				t.Fatal(d)
			}
		})
	}
}

func resize(t *testing.T, m *vfs.Mem, s SegmentInfo, by int64) {
	f, err := m.OpenWrite("d/" + logName(s.Base))
	if err == nil {
		err = errors.Join(f.Truncate(s.Bytes+by), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, m *vfs.Mem, s SegmentInfo, at int64) {
	f, err := m.OpenWrite("d/" + logName(s.Base))
	if err != nil {
		t.Fatal(err)
	}
	var p [1]byte
	f.ReadAt(p[:], at)
	p[0] ^= 0x08
	f.WriteAt(p[:], at)
	f.Close()
}

// TestIndexRebuilt damages every byte of an index in turn.
func TestIndexRebuilt(t *testing.T) {
	mem, w := vfs.NewMem(), tinyWriter(t)
	opts := Options{FS: mem, Dir: "d", Writer: w, SegmentBytes: 3000, IndexInterval: 200}
	l := mustOpen(t, opts, State{})
	m := fill(t, l, 40, 1)
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	name := "d/" + indexName(0)
	eventually(t, "index written", func() bool { _, err := mem.Stat(name); return err == nil })
	l.Close()
	good := readFileOf(t, mem, name)
	for i := range len(good) {
		f, _ := mem.OpenWrite(name)
		f.WriteAt([]byte{good[i] ^ 0x10}, int64(i))
		f.Close()
		l := mustOpen(t, opts, st)
		checkRead(t, l, m, 3, 500, true, math.MaxInt64)
		l.Close()
		if got := readFileOf(t, mem, name); !bytes.Equal(got, good) {
			t.Fatalf("byte %d: not rebuilt", i)
		}
	}
}

// TestCrashAtEveryOperation: whatever SyncTo has returned for can be opened.
func TestCrashAtEveryOperation(t *testing.T) {
	w := tinyWriter(t)
	for n := int64(1); ; n++ {
		mem := vfs.NewMem()
		opts := Options{FS: mem, Dir: "d", Writer: w, SegmentBytes: 3000}
		l := mustOpen(t, opts, State{})
		mem.ArmCrash(n)
		r := rand.New(rand.NewPCG(uint64(n), 1))
		m, st, count := &model{}, State{}, 0
		for i := range 40 {
			b, recs := randomBatch(t, r, 0, 5, 300, 1000)
			if l.Append(b, m.append(b, recs, 0).base(), 0) != nil {
				break
			}
			if now := l.State(); i%5 == 4 && l.SyncTo(now) == nil {
				st, count = now, len(m.batches)
			}
		}
		crashed := mem.Crashed()
		l.Close()
		mem.Crash(r)
		l = mustOpen(t, opts, st)
		m.batches, m.next = m.batches[:count], st.Next
		checkRead(t, l, m, 0, 1<<20, true, math.MaxInt64)
		if !crashed {
			return
		}
	}
}

func TestPins(t *testing.T) {
	mem, w := vfs.NewMem(), tinyWriter(t)
	l := mustOpen(t, Options{FS: mem, Dir: "d", Writer: w, SegmentBytes: 3000}, State{})
	m := fill(t, l, 40, 1)
	if err := l.SyncTo(l.State()); err != nil {
		t.Fatal(err)
	}
	pin := l.Pin()
	want := pin.State()
	l.SetStart(m.next)
	if len(l.State().Segments) != 0 {
		t.Fatal("segments above the start")
	}
	exists := func() bool { _, err := mem.Stat("d/" + logName(0)); return err == nil }
	if err := l.RemoveObsolete(want); err != nil || !exists() { // the manifest still names it
		t.Fatal(err)
	}
	if err := l.RemoveObsolete(l.State()); err != nil || !exists() { // the pin holds it
		t.Fatal(err)
	}
	var all []byte
	for _, s := range want.Segments {
		p := make([]byte, s.Bytes)
		if n, err := pin.ReadAt(s.Base, p, 0); n != len(p) {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
	if bytesOf, _ := m.read(0, math.MaxInt64); !bytes.Equal(all, bytesOf) {
		t.Fatal("pinned files differ")
	}
	if err := errors.Join(pin.Close(), pin.Close()); err != nil || exists() {
		t.Fatalf("not removed: %v", err)
	}
	after := fill(t, l, 3, 2)
	checkRead(t, l, after, after.start, 1000, true, math.MaxInt64)
}

// TestConcurrent has readers, an appender, retention and syncs at once.
func TestConcurrent(t *testing.T) {
	mem, w := vfs.NewMem(), tinyWriter(t)
	l := mustOpen(t, Options{FS: mem, Dir: "d", Writer: w, SegmentBytes: 20_000, IndexInterval: 500}, State{})
	stop := make(chan struct{})
	var wg, readers sync.WaitGroup
	wg.Go(func() {
		defer close(stop)
		r := rand.New(rand.NewPCG(1, 1))
		next := int64(0)
		deadline := time.Now().Add(1500 * time.Millisecond)
		for time.Now().Before(deadline) {
			b, recs := randomBatch(t, r, r.IntN(2), 5, 800, 1000+next)
			if err := l.Append(b, next, 0); err != nil {
				t.Error(err)
				return
			}
			next += int64(len(recs))
			if r.IntN(50) == 0 {
				l.SetStart(next - 500)
			}
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			st := l.State()
			if err := l.SyncTo(st); err != nil {
				t.Error(err)
			}
			if err := l.RemoveObsolete(st); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 4 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			at := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				d, err := l.Read(at, 10_000, true, math.MaxInt64)
				switch {
				case errors.Is(err, ErrOutOfRange):
					at, _ = l.Offsets()
					continue
				case err != nil:
					t.Error(err)
					return
				}
				for rest := flat(d); len(rest) > 0; {
					var b Batch
					if b, rest, err = NextBatch(rest); err != nil || b.Validate() != nil || b.LastOffset() < at {
						t.Errorf("bad batch at %d: %v", at, err)
						return
					}
					at = b.LastOffset() + 1
				}
				if r.IntN(20) == 0 {
					if _, _, _, err := l.OffsetForTimestamp(at); err != nil {
						t.Error(err)
					}
				}
				if r.IntN(20) == 0 {
					at = max(0, at-r.Int64N(400))
				}
			}
		})
	}
	wg.Wait()
	readers.Wait()
}
