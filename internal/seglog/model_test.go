package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// model is a log as a list of batches.
type model struct {
	start, next int64
	batches     []modelBatch
}

type modelBatch struct {
	bytes []byte // as stored
	recs  []rec  // with offsets
	input Batch
	epoch int32
}

func (b modelBatch) base() int64 { return b.recs[0].offset }
func (b modelBatch) last() int64 { return b.recs[len(b.recs)-1].offset }

func (m *model) append(b Batch, recs []rec, epoch int32) modelBatch {
	mb := modelBatch{bytes: bytes.Clone(b), input: b, epoch: epoch}
	Batch(mb.bytes).SetBaseOffset(m.next)
	Batch(mb.bytes).SetLeaderEpoch(epoch)
	for i, r := range recs {
		r.offset = m.next + int64(i)
		mb.recs = append(mb.recs, r)
	}
	m.next += int64(len(recs))
	m.batches = append(m.batches, mb)
	return mb
}

// read returns what Read may return at most, were there no segments.
func (m *model) read(offset, limit int64) (p []byte, ends []int) {
	for _, b := range m.batches {
		if b.last() < offset {
			continue
		}
		if b.base() >= limit || offset >= limit {
			break
		}
		p = append(p, b.bytes...)
		ends = append(ends, len(p))
	}
	return p, ends
}

func (m *model) forTime(ts int64) (rec, bool) {
	for _, b := range m.batches {
		for _, r := range b.recs {
			if r.offset >= m.start && r.ts >= ts {
				return r, true
			}
		}
	}
	return rec{}, false
}

func (m *model) maxTime() (best rec, ok bool) {
	for _, b := range m.batches {
		for _, r := range b.recs {
			if r.offset >= m.start && (!ok || r.ts > best.ts) {
				best, ok = r, true
			}
		}
	}
	return best, ok
}

// checkRead compares one Read with the model.
func checkRead(t *testing.T, l *Log, m *model, offset int64, maxBytes int, minOne bool, limit int64) {
	t.Helper()
	d, err := l.Read(offset, maxBytes, minOne, limit)
	if offset < m.start || offset > m.next {
		if !errors.Is(err, ErrOutOfRange) {
			t.Fatalf("read at %d of [%d, %d): %v, want ErrOutOfRange", offset, m.start, m.next, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("read at %d: %v", offset, err)
	}
	next, size := d.Next(), d.Len()
	got := flat(d)
	if len(got) != size {
		t.Fatalf("Len %d, %d bytes", size, len(got))
	}
	want, ends := m.read(offset, limit)
	if !bytes.HasPrefix(want, got) {
		t.Fatalf("read at %d, max %d: wrong bytes", offset, maxBytes)
	}
	if len(got) == 0 {
		if len(ends) > 0 && (minOne || ends[0] <= maxBytes) {
			t.Fatalf("read at %d, max %d, min one %t: nothing, want %d", offset, maxBytes, minOne, ends[0])
		}
		return
	}
	if len(got) > maxBytes && !(minOne && len(got) == ends[0]) {
		t.Fatalf("read at %d, max %d: %d bytes", offset, maxBytes, len(got))
	}
	whole := -1
	for i, e := range ends {
		if e == len(got) {
			whole = i
		}
	}
	if whole < 0 {
		t.Fatalf("read at %d: half a batch", offset)
	}
	// It stops early only at the end of a segment.
	if whole+1 < len(ends) && ends[whole+1] <= maxBytes {
		at := int64(-1)
		for _, s := range l.State().Segments {
			if s.LastOffset+1 == next {
				at = s.Base
			}
		}
		if at < 0 {
			t.Fatalf("read at %d, max %d: stopped at %d in the middle of a segment", offset, maxBytes, next)
		}
	}
}

func checkTimes(t *testing.T, l *Log, m *model, r *rand.Rand, now int64) {
	t.Helper()
	for range 4 {
		ts := max(0, now-int64(r.IntN(3000)))
		want, wantOK := m.forTime(ts)
		offset, at, ok, err := l.OffsetForTimestamp(ts)
		if err != nil || ok != wantOK || ok && (offset != want.offset || at != want.ts) {
			t.Fatalf("time %d: (%d, %d, %t, %v), want (%d, %d, %t)", ts, offset, at, ok, err, want.offset, want.ts, wantOK)
		}
	}
	want, wantOK := m.maxTime()
	offset, at, ok, err := l.MaxTimestamp()
	if err != nil || ok != wantOK || ok && (offset != want.offset || at != want.ts) {
		t.Fatalf("max timestamp: (%d, %d, %t, %v), want (%d, %d, %t)", offset, at, ok, err, want.offset, want.ts, wantOK)
	}
}

type durable struct {
	st    State
	start int64 // of the model
	n     int   // batches of the model
}

// TestModel drives a log and the model through the same random operations,
// with crashes that keep a random part of what was not synced.
func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			testModel(t, seed)
		})
	}
}

func testModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewMem()
	if err := mem.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	if err := mem.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	w := tinyWriter(t)
	opts := Options{FS: mem, Dir: "data/p", Writer: w, SegmentBytes: 12 << 10, IndexInterval: 256}
	if seed%4 == 0 {
		opts.SegmentBytes = 1 << 20
	}
	m := &model{}
	l := mustOpen(t, opts, State{})
	last := durable{}
	segments := make(map[int64][]byte) // sealed: their bytes never change again
	now := int64(100_000)
	for step := range 300 {
		now += int64(r.IntN(20))
		switch k := r.IntN(100); {
		case k < 45:
			codec := []int{0, 0, 0, 1, 2, 3, 4, xerialSnappy}[r.IntN(8)]
			size := []int{10, 100, 100, 3000, 9000}[r.IntN(5)]
			b, recs := randomBatch(t, r, codec, 6, size, now)
			if r.IntN(8) == 0 {
				b.SetMaxTimestamp(now, true)
				for i := range recs {
					recs[i].ts = now
				}
			}
			epoch := int32(step / 50)
			mb := m.append(b, recs, epoch)
			if err := l.Append(b, mb.base(), epoch); err != nil {
				t.Fatal(err)
			}
		case k < 75:
			offset := m.start + r.Int64N(m.next-m.start+3) - 1
			limit := int64(math.MaxInt64)
			if r.IntN(3) == 0 {
				limit = r.Int64N(m.next + 1)
			}
			checkRead(t, l, m, offset, r.IntN(r.IntN(30_000)+1), r.IntN(2) == 0, limit)
		case k < 80:
			checkTimes(t, l, m, r, now)
		case k < 85:
			at := m.start + r.Int64N(m.next-m.start+1)
			if r.IntN(3) > 0 {
				at = m.start + (at-m.start)/4
			}
			m.start = at
			l.SetStart(at)
		case k < 92:
			st := l.State()
			mark := durable{st, m.start, len(m.batches)}
			if err := l.SyncTo(st); err != nil {
				t.Fatal(err)
			}
			last = mark
			if r.IntN(2) == 0 {
				if err := l.RemoveObsolete(last.st); err != nil {
					t.Fatal(err)
				}
			}
		case k < 95:
			checkSegments(t, l, segments)
		default: // restart, perhaps by a crash, and replay
			if r.IntN(2) == 0 {
				mem.Crash(r)
			}
			l.Close()
			l = mustOpen(t, opts, last.st)
			before := m.next
			for _, b := range m.batches[last.n:] {
				if err := l.Append(b.input, b.base(), b.epoch); err != nil {
					t.Fatal(err)
				}
			}
			l.SetStart(m.start)
			if _, next := l.Offsets(); next != before {
				t.Fatalf("next offset %d after replay, want %d", next, before)
			}
		}
	}
	for offset := m.start; offset <= m.next; offset++ {
		checkRead(t, l, m, offset, r.IntN(5000), true, math.MaxInt64)
	}
	checkSegments(t, l, segments)
}

// checkSegments compares each sealed segment with what it was before: replay
// from whatever state has to produce the same files.
func checkSegments(t *testing.T, l *Log, known map[int64][]byte) {
	t.Helper()
	p := l.Pin()
	defer p.Close()
	st := p.State()
	for i, s := range st.Segments {
		buf := make([]byte, s.Bytes)
		if n, err := p.ReadAt(s.Base, buf, 0); n != len(buf) {
			t.Fatal(err)
		}
		if i == len(st.Segments)-1 {
			break
		}
		if old, ok := known[s.Base]; ok && !bytes.Equal(old, buf) {
			t.Fatalf("segment %d changed from %d to %d bytes", s.Base, len(old), len(buf))
		}
		known[s.Base] = buf
	}
}
