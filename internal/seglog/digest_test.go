package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func testSeed(t *testing.T) uint64 {
	t.Helper()
	seed, _ := stageSeeds(t, 1)
	t.Logf("RAFTSMAN_SEED=%d", seed)
	return seed
}

// stored is a log of random batches on a real disk, with several segments, and
// an exact copy of its directory.
func stored(t *testing.T, r *rand.Rand) (l *Log, copyDir string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(Options{FS: vfs.OS, Dir: dir, Writer: tinyWriter(t), SegmentBytes: 40 << 10}, State{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for next := int64(0); l.Size() < 200<<10; {
		b, _ := randomBatch(t, r, r.IntN(allCodecs), 20, 300, 1000)
		if err := l.Append(b, next, int32(next/500)); err != nil {
			t.Fatal(err)
		}
		next = l.State().Next
	}
	if err := l.SyncTo(l.State()); err != nil {
		t.Fatal(err)
	}
	copyDir = t.TempDir()
	for _, info := range l.State().Segments {
		b, err := os.ReadFile(filepath.Join(dir, logName(info.Base)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copyDir, logName(info.Base)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l, copyDir
}

func flipBit(t *testing.T, name string, at int64, bit uint) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1 << bit
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// digestAll goes through the whole log, some batches at a time.
func digestAll(t *testing.T, l *Log, maxBatches int) (whole Digest, damage []Damage) {
	t.Helper()
	pin := l.Pin()
	defer pin.Close()
	req := DigestRequest{From: pin.State().Start, To: pin.State().Next, MaxBatches: maxBatches, Each: true}
	for req.From < req.To {
		d, err := pin.Digest(req)
		if err != nil {
			t.Fatal(err)
		}
		if d.Next <= req.From {
			t.Fatalf("the digest from %d ends at %d", req.From, d.Next)
		}
		whole.List = append(whole.List, d.List...)
		whole.Batches += d.Batches
		damage = append(damage, d.Damage...)
		req.From, req.Cursor = d.Next, d.Cursor
	}
	return whole, damage
}

// TestDigestFindsEachFlip flips one bit of a stored log at a time: the digest
// says in which segment, and in which batch if that has it in its checksum.
// Mend then makes the file what it was.
func TestDigestFindsEachFlip(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	l, whole := stored(t, r)
	clean, damage := digestAll(t, l, 0)
	if len(damage) != 0 {
		t.Fatalf("damage in a log that nobody touched: %+v", damage)
	}
	segs := l.State().Segments
	for i := range 150 {
		info := segs[r.IntN(len(segs))]
		pos, bit := r.Int64N(info.Bytes), uint(r.IntN(8))
		if i%3 == 0 { // a header, more often than chance would have it
			for _, b := range clean.List {
				if b.Segment == info.Base && r.IntN(20) == 0 {
					pos = b.Pos + r.Int64N(BatchHeaderLen)
				}
			}
		}
		if i%10 == 1 { // what no batch behind it contradicts: the last epoch
			for _, b := range clean.List {
				if b.Segment == info.Base {
					pos = b.Pos + posEpoch + r.Int64N(4)
				}
			}
		}
		name := filepath.Join(l.dir, logName(info.Base))
		flipBit(t, name, pos, bit)
		l.w.forgetAll(l)
		_, damage := digestAll(t, l, 1+r.IntN(50))
		var before, batch BatchDigest
		for _, b := range clean.List {
			if b.Segment == info.Base && b.Pos <= pos {
				before, batch = batch, b
			}
		}
		what := fmt.Sprintf("bit %d of byte %d in segment %d (batch at %d, offsets %d to %d)", bit, pos, info.Base, batch.Pos, batch.Offset, batch.Last)
		if len(damage) != 1 || damage[0].Segment != info.Base || damage[0].File != name {
			t.Fatalf("%s: found %+v", what, damage)
		}
		inEpoch := pos-batch.Pos >= posEpoch && pos-batch.Pos < posMagic
		if inEpoch && !damage[0].Whole && damage[0].Pos == before.Pos && batch.Pos > 0 && batch.Last == info.LastOffset {
			batch = before // two epochs contradict each other, and there is no third
		}
		covered := pos-batch.Pos >= posMagic
		if d := damage[0]; !d.Whole && (d.Pos != batch.Pos || d.Offset > batch.Offset || d.Until <= batch.Last) || d.Whole && covered {
			t.Fatalf("%s: found %+v", what, d)
		}
		aside := filepath.Join(filepath.Dir(filepath.Dir(name)), "damaged")
		mended, err := l.Mend(info.Base, aside, fromDir(whole))
		if err != nil || !mended {
			t.Fatalf("%s: mended %v, %v", what, mended, err)
		}
		if _, damage := digestAll(t, l, 0); len(damage) != 0 {
			t.Fatalf("%s: after it was mended: %+v", what, damage)
		}
		sameFile(t, name, filepath.Join(whole, filepath.Base(name)))
		if mended, err := l.Mend(info.Base, aside, fromDir(whole)); mended || err != nil {
			t.Fatalf("a whole segment was mended: %v, %v", mended, err)
		}
	}
}

func sameFile(t *testing.T, name, want string) {
	t.Helper()
	a, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Fatalf("%s is not what it was", name)
	}
}

func fromDir(dir string) Fetch {
	return func(base int64, p []byte, off int64) (int, error) {
		f, err := os.Open(filepath.Join(dir, logName(base)))
		if err != nil {
			return 0, err
		}
		defer f.Close()
		return f.ReadAt(p, off)
	}
}

// forgetAll has readers go to the files.
func (w *Writer) forgetAll(l *Log) {
	l.mu.Lock()
	segs := append([]*segment(nil), l.segs...)
	l.mu.Unlock()
	for _, s := range segs {
		l.forget(s)
	}
}

// TestMendRefusesOtherBytes: a peer whose file is damaged too, or is another one,
// changes nothing; nor does one that sends less.
func TestMendRefusesOtherBytes(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 2))
	l, whole := stored(t, r)
	info := l.State().Segments[1]
	name := filepath.Join(l.dir, logName(info.Base))
	flipBit(t, name, info.Bytes/2, 3)
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(t.TempDir(), "damaged")
	flipBit(t, filepath.Join(whole, filepath.Base(name)), info.Bytes/3, 1)
	if _, err := l.Mend(info.Base, aside, fromDir(whole)); err == nil {
		t.Fatal("the bytes of a damaged peer were taken")
	}
	gone := func(int64, []byte, int64) (int, error) { return 0, errors.New("not here") }
	if _, err := l.Mend(info.Base, aside, gone); err == nil {
		t.Fatal("mended with nothing")
	}
	after, err := os.ReadFile(name)
	if err != nil || string(before) != string(after) {
		t.Fatalf("the file was changed (%v)", err)
	}
	// What was fetched in vain is not taken for a good beginning.
	flipBit(t, filepath.Join(whole, filepath.Base(name)), info.Bytes/3, 1)
	if mended, err := l.Mend(info.Base, aside, fromDir(whole)); !mended || err != nil {
		t.Fatalf("mended %v, %v", mended, err)
	}
	if b, err := os.ReadFile(filepath.Join(aside, filepath.Base(name))); err != nil || string(b) != string(before) {
		t.Fatalf("the damaged file was not set aside: %v", err)
	}
}

// TestMendClosed mends what Open refuses: segments that are missing, too short,
// or (the active one) changed.
func TestMendClosed(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 3))
	for _, c := range []struct {
		name   string
		active bool
		do     func(t *testing.T, name string)
	}{
		{"missing", false, func(t *testing.T, name string) { os.Remove(name) }},
		{"missing, active", true, func(t *testing.T, name string) { os.Remove(name) }},
		{"short", false, func(t *testing.T, name string) { os.Truncate(name, 99) }},
		{"flip, active", true, func(t *testing.T, name string) { flipBit(t, name, 70, 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, whole := stored(t, r)
			st := l.State()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			info := st.Segments[1]
			if c.active {
				info = st.Segments[len(st.Segments)-1]
			}
			name := filepath.Join(l.dir, logName(info.Base))
			c.do(t, name)
			opts := Options{FS: vfs.OS, Dir: l.dir, Writer: l.w, SegmentBytes: 40 << 10}
			_, err := Open(opts, st)
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("opened with %v", err)
			}
			if base, ok := SegmentBase(damage.File); !ok || base != info.Base {
				t.Fatalf("damage is in %s, want segment %d", damage.File, info.Base)
			}
			if err := MendClosed(vfs.OS, l.dir, filepath.Join(filepath.Dir(l.dir), "damaged"), info, fromDir(whole)); err != nil {
				t.Fatal(err)
			}
			sameFile(t, name, filepath.Join(whole, filepath.Base(name)))
			again, err := Open(opts, st)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestDamageIsTold: whoever runs into damage, a read or a lookup by time, tells
// of it, once until it is mended.
func TestDamageIsTold(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 4))
	for _, c := range []struct {
		name string
		find func(l *Log, info SegmentInfo) error
	}{
		{"read", func(l *Log, info SegmentInfo) error {
			_, err := l.Read(info.Base, 1<<20, true, info.LastOffset+1)
			return err
		}},
		{"lookup by time", func(l *Log, _ SegmentInfo) error {
			_, _, _, err := l.MaxTimestamp()
			return err
		}},
	} {
		l, whole := stored(t, r)
		var told []int64
		l.onDamage = func(segment int64, _ *DamageError) { told = append(told, segment) }
		info := l.State().Segments[0]
		for _, other := range l.State().Segments {
			if other.MaxTimestamp > info.MaxTimestamp {
				info = other // where the lookup goes first
			}
		}
		if err := os.WriteFile(filepath.Join(l.dir, logName(info.Base)), make([]byte, info.Bytes), 0o600); err != nil {
			t.Fatal(err)
		}
		for round := 1; round <= 2; round++ {
			l.w.forgetAll(l)
			for range 2 {
				if err := c.find(l, info); err == nil {
					t.Fatalf("%s: no damage found", c.name)
				}
			}
			if len(told) != round || told[round-1] != info.Base {
				t.Fatalf("%s: told of segments %v, want %d once in each of %d rounds", c.name, told, info.Base, round)
			}
			if mended, err := l.Mend(info.Base, filepath.Join(filepath.Dir(l.dir), "damaged"), fromDir(whole)); !mended || err != nil {
				t.Fatalf("%s: mended %v, %v", c.name, mended, err)
			}
			if err := c.find(l, info); err != nil {
				t.Fatalf("%s: after it was mended: %v", c.name, err)
			}
			if err := os.WriteFile(filepath.Join(l.dir, logName(info.Base)), make([]byte, info.Bytes), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
