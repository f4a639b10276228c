package seglog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// keyed is a log of keyed records and what it must hold.
type keyed struct {
	r    *rand.Rand
	all  []rec // every record ever appended, by offset
	now  int64
	seq  int64
	base []Batch // as appended, to replay
}

// batch makes a random batch of updates and deletes.
func (k *keyed) batch(t testing.TB, keys int) Batch {
	n := 1 + k.r.IntN(6)
	recs := make([]rec, n)
	for i := range recs {
		k.now += int64(k.r.IntN(5))
		recs[i] = rec{ts: max(0, k.now-int64(k.r.IntN(3))), key: fmt.Appendf(nil, "key-%d", k.r.IntN(keys))}
		if k.r.IntN(4) > 0 {
			recs[i].value = bytes.Repeat([]byte{byte('a' + k.r.IntN(20))}, k.r.IntN(200))
		}
	}
	codec := []int{0, 0, 1, 2, 3, 4, xerialSnappy}[k.r.IntN(7)]
	b := encode(t, codec, recs)
	for i := range recs {
		recs[i].offset = int64(len(k.all))
		k.all = append(k.all, recs[i])
	}
	k.base = append(k.base, b)
	return b
}

func (k *keyed) append(t testing.TB, l *Log, keys int) {
	t.Helper()
	_, next := l.Offsets()
	b := k.batch(t, keys)
	if err := l.Append(b, next, 1); err != nil {
		t.Fatal(err)
	}
}

// upTo is where the last sealed segment ends.
func upTo(st State) (end int64) {
	for i, info := range st.Segments {
		if i < len(st.Segments)-1 || st.Sealed {
			end = info.LastOffset + 1
		}
	}
	return end
}

// readAllRecords reads the log as a consumer does, and checks that offsets rise and
// that each record is one that was appended there.
func readAllRecords(t testing.TB, l *Log, all []rec) (recs []rec) {
	t.Helper()
	offset, next := l.Offsets()
	for offset < next {
		d, err := l.Read(offset, 4000, true, math.MaxInt64)
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if d.Len() == 0 {
			t.Fatalf("read at %d of %d: nothing", offset, next)
		}
		end := d.Next()
		for rest := flat(d); len(rest) > 0; {
			var b Batch
			if b, rest, err = NextBatch(rest); err != nil {
				t.Fatal(err)
			}
			if err := b.ValidateStored(); err != nil {
				t.Fatal(err)
			}
			err := Records(b, func(o, ts int64, key, value []byte) bool {
				if o >= offset {
					recs = append(recs, rec{o, ts, bytes.Clone(key), slices.Clone(value)})
				}
				return true
			})
			if err != nil {
				t.Fatalf("batch at %d: %v", b.BaseOffset(), err)
			}
		}
		if end <= offset {
			t.Fatalf("read at %d ends at %d", offset, end)
		}
		offset = end
	}
	last := int64(-1)
	for _, r := range recs {
		if r.offset <= last {
			t.Fatalf("offset %d after %d", r.offset, last)
		}
		last = r.offset
		want := all[r.offset]
		if want.ts != r.ts || !bytes.Equal(want.key, r.key) || !bytes.Equal(want.value, r.value) || (want.value == nil) != (r.value == nil) {
			t.Fatalf("record at %d is %q at %d, not %q at %d", r.offset, r.key, r.ts, want.key, want.ts)
		}
	}
	return recs
}

// checkCompacted compares what a consumer reads with what was appended: each key
// has its last value, a deleted one has a tombstone last or nothing at all, and
// below end nothing but the last record of each key is left.
func checkCompacted(t testing.TB, l *Log, all []rec, end int64) {
	t.Helper()
	start, _ := l.Offsets()
	lastOf := make(map[string]int64)
	lastBelow := make(map[string]int64)
	for _, r := range all {
		lastOf[string(r.key)] = r.offset
		if r.offset < end {
			lastBelow[string(r.key)] = r.offset
		}
	}
	got := make(map[string]rec)
	for _, r := range readAllRecords(t, l, all) {
		got[string(r.key)] = r
		if r.offset < end && lastBelow[string(r.key)] != r.offset {
			t.Fatalf("%s at %d is still there, there is one at %d, compacted up to %d", r.key, r.offset, lastBelow[string(r.key)], end)
		}
	}
	for key, offset := range lastOf {
		if offset < start {
			continue
		}
		g, ok := got[key]
		if ok && g.offset != offset {
			t.Fatalf("%s: last at %d, want %d", key, g.offset, offset)
		}
		if !ok && all[offset].value != nil {
			t.Fatalf("%s is lost, its last value was at %d", key, offset)
		}
	}
}

func compactNow(t testing.TB, l *Log, r CompactRequest) CompactStats {
	t.Helper()
	stats, err := l.Compact(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// TestCompactModel drives a log through random updates, deletes, compactions,
// log starts and crashes, and compares it with a map, and with a second log that
// compacts the same with another amount of memory and without crashes.
func TestCompactModel(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			compactModel(t, seed)
		})
	}
}

func compactModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	mem := dirs(t)
	opts := Options{FS: mem, Dir: "p/log", Writer: tinyWriter(t), SegmentBytes: 4000, IndexInterval: 256}
	l := mustOpen(t, opts, State{})
	twinOpts := opts
	twinOpts.FS = dirs(t)
	twin := mustOpen(t, twinOpts, State{})
	k := &keyed{r: r}
	keys := 5 + r.IntN(3000)
	durable := State{}
	var since []func(l *Log) // what happened after durable
	end := int64(0)
	do := func(fn func(l *Log)) {
		fn(l)
		fn(twin)
		since = append(since, fn)
	}
	for range 400 {
		switch n := r.IntN(100); {
		case n < 70:
			b := k.batch(t, keys)
			do(func(l *Log) {
				_, next := l.Offsets()
				if err := l.Append(b, next, 1); err != nil {
					t.Fatal(err)
				}
			})
		case n < 73:
			if base, ok := l.Active(); ok {
				do(func(l *Log) { l.Roll(base) })
			}
		case n < 82:
			end = max(end, upTo(l.State()))
			k.seq++
			k.now += 100
			q := CompactRequest{Seq: k.seq, UpTo: end, SegmentBytes: 4000, Now: k.now, Horizon: k.now + 300}
			do(func(l *Log) {
				q := q
				q.Memory = 1 << 20
				if l != twin {
					q.Memory = 1 // as little as there is: several passes
				}
				compactNow(t, l, q)
			})
		case n < 84:
			start, next := l.Offsets()
			at := start + r.Int64N(next-start+1)/4
			do(func(l *Log) { l.SetStart(at) })
		case n < 92:
			st := l.State()
			if err := l.SyncTo(st); err != nil {
				t.Fatal(err)
			}
			durable, since = st, nil
			if r.IntN(2) == 0 {
				if err := l.RemoveObsolete(st); err != nil {
					t.Fatal(err)
				}
			}
		case n < 96:
			checkCompacted(t, l, k.all, l.State().Compacted.UpTo)
		default:
			if r.IntN(2) == 0 {
				mem.Crash(r)
			}
			l.Close()
			l = mustOpen(t, opts, durable)
			for _, fn := range since {
				fn(l)
			}
		}
	}
	checkCompacted(t, l, k.all, l.State().Compacted.UpTo)
	a, b := l.State(), twin.State()
	if !slices.Equal(a.Segments, b.Segments) || a.Compacted != b.Compacted {
		t.Fatalf("two replicas differ:\n%+v\n%+v", a, b)
	}
	p := l.Pin()
	for _, info := range a.Segments {
		if err := p.Prove(info.Base); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCompactCrashes crashes at every operation of a compaction, with and without
// a manifest in the middle of it, and finishes it after the restart.
func TestCompactCrashes(t *testing.T) {
	seed := testSeed(t)
	w := tinyWriter(t)
	n := int64(1)
	for ; compactCrash(t, w, seed, n); n++ {
		if n > 2000 {
			t.Fatal("it never ends")
		}
	}
	t.Logf("crashed at %d operations", n-1)
}

func compactCrash(t *testing.T, w *Writer, seed uint64, n int64) (crashed bool) {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	mem := dirs(t)
	opts := Options{FS: mem, Dir: "p/log", Writer: w, SegmentBytes: 4000, IndexInterval: 256}
	l := mustOpen(t, opts, State{})
	k := &keyed{r: rand.New(rand.NewPCG(seed, 3))}
	for range 120 {
		k.append(t, l, 400)
	}
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	q := CompactRequest{Seq: 1, UpTo: upTo(st), SegmentBytes: 4000, Now: k.now, Horizon: k.now + 10, Memory: 1 << 20}
	middle := r.IntN(2) == 0
	q.Wait = func(ctx context.Context, _ int) error {
		if now := l.State(); middle && now.Compacted.Done > 0 {
			middle = false
			if err := l.SyncTo(now); err == nil {
				st = now
				if err := l.RemoveObsolete(now); err != nil && !mem.Crashed() {
					t.Error(err)
				}
			}
		}
		return context.Cause(ctx)
	}
	mem.ArmCrash(n)
	_, err := l.Compact(t.Context(), q)
	if crashed = mem.Crashed(); !crashed && err != nil {
		t.Fatal(err)
	}
	l.Close()
	mem.Crash(r)
	l = mustOpen(t, opts, st)
	checkCompacted(t, l, k.all, 0)
	q.Wait = nil
	compactNow(t, l, q)
	checkCompacted(t, l, k.all, q.UpTo)
	st = l.State()
	if err := errors.Join(l.SyncTo(st), l.RemoveObsolete(st)); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("p/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if key, index, ok := parseName(name); ok && !index && !slices.ContainsFunc(st.Segments, func(i SegmentInfo) bool { return i.key() == key }) {
			t.Fatalf("%s is left, but not in the state", name)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return crashed
}

// TestCompactTombstones: a tombstone stays until the horizon that the first
// compaction gives it, whatever others come meanwhile, and goes then.
func TestCompactTombstones(t *testing.T) {
	l := mustOpen(t, Options{FS: dirs(t), Dir: "p/log", Writer: tinyWriter(t)}, State{})
	put := func(key string, value []byte, ts int64) {
		t.Helper()
		_, next := l.Offsets()
		if err := l.Append(encode(t, 0, []rec{{ts: ts, key: []byte(key), value: value}}), next, 1); err != nil {
			t.Fatal(err)
		}
	}
	put("a", []byte("1"), 10)
	put("a", nil, 11)
	put("b", []byte("2"), 12)
	roll(l)
	offsets := func() (got []int64) {
		d, err := l.Read(0, 1<<20, true, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		for rest := flat(d); len(rest) > 0; {
			var b Batch
			b, rest, _ = NextBatch(rest)
			if err := Records(b, func(o, ts int64, _, _ []byte) bool {
				if ts != 10+o {
					t.Fatalf("record %d has timestamp %d", o, ts)
				}
				got = append(got, o)
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	for _, step := range []struct {
		now     int64
		horizon int64
		want    []int64
		left    int64 // delete horizon of the segment
	}{
		{1000, 2000, []int64{1, 2}, 2000},
		{1999, 2999, []int64{1, 2}, 2000},
		{2000, 3000, []int64{2}, 0},
	} {
		compactNow(t, l, CompactRequest{Seq: step.now, UpTo: 3, SegmentBytes: 1 << 20, Now: step.now, Horizon: step.horizon})
		if got := offsets(); !slices.Equal(got, step.want) {
			t.Fatalf("at %d: offsets %v, want %v", step.now, got, step.want)
		}
		if got := l.State().Segments[0].DeleteHorizon; got != step.left {
			t.Fatalf("at %d: delete horizon %d, want %d", step.now, got, step.left)
		}
	}
}

func roll(l *Log) {
	if base, ok := l.Active(); ok {
		l.Roll(base)
	}
}

// TestCompactKeepsTheEnd: where nothing is left, a batch without records says
// where the log ends; and the next compaction removes it.
func TestCompactKeepsTheEnd(t *testing.T) {
	l := mustOpen(t, Options{FS: dirs(t), Dir: "p/log", Writer: tinyWriter(t)}, State{})
	for i, codec := range []int{codecNone, codecZstd} {
		b := encode(t, codec, []rec{{ts: 5, key: []byte("a")}, {ts: 5, key: []byte("b")}})
		if err := l.Append(b, int64(2*i), 1); err != nil {
			t.Fatal(err)
		}
	}
	roll(l)
	for seq, now := range []int64{10, 20} {
		compactNow(t, l, CompactRequest{Seq: int64(seq + 1), UpTo: 4, SegmentBytes: 1 << 20, Now: now, Horizon: now + 5})
	}
	d, err := l.Read(0, 1<<20, true, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	b := Batch(flat(d))
	if err := b.ValidateStored(); err != nil || b.NumRecords() != 0 || b.LastOffset() != 3 || b.Size() != BatchHeaderLen {
		t.Fatalf("left: %d records up to %d in %d bytes, %v", b.NumRecords(), b.LastOffset(), b.Size(), err)
	}
	if _, _, ok, err := l.OffsetForTimestamp(0); ok || err != nil {
		t.Fatalf("a time is found in nothing: %t, %v", ok, err)
	}
	if err := l.Append(encode(t, 0, []rec{{ts: 9, key: []byte("c"), value: []byte("v")}}), 4, 1); err != nil {
		t.Fatal(err)
	}
	roll(l)
	compactNow(t, l, CompactRequest{Seq: 3, UpTo: 5, SegmentBytes: 1 << 20, Now: 30, Horizon: 35})
	if st := l.State(); len(st.Segments) != 1 || st.Segments[0].Base != 4 {
		t.Fatalf("state %+v, want one segment from 4 on", st)
	}
}

// TestReadersDuringCompaction: a consumer that reads on while segments are
// replaced sees offsets rise, and all that is the last of its key.
func TestReadersDuringCompaction(t *testing.T) {
	opts := Options{FS: dirs(t), Dir: "p/log", Writer: tinyWriter(t), SegmentBytes: 4000, IndexInterval: 256}
	l := mustOpen(t, opts, State{})
	k := &keyed{r: rand.New(rand.NewPCG(testSeed(t), 1))}
	for range 300 {
		k.append(t, l, 50)
	}
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for seq := int64(1); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			st := l.State()
			_, err := l.Compact(context.Background(), CompactRequest{Seq: seq, UpTo: upTo(st), SegmentBytes: 4000, Now: seq * 10, Horizon: seq*10 + 20, Memory: 1 << 20})
			if err == nil {
				st = l.State()
				err = errors.Join(l.SyncTo(st), l.RemoveObsolete(st))
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for range 20 {
		checkCompacted(t, l, k.all, 0)
		for range 10 {
			k.append(t, l, 50)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestCompactFindsDamage: nothing is made of a segment that is not what was
// written.
func TestCompactFindsDamage(t *testing.T) {
	mem := dirs(t)
	told := make(chan int64, 1)
	opts := Options{FS: mem, Dir: "p/log", Writer: tinyWriter(t), SegmentBytes: 4000, OnDamage: func(base int64, _ *DamageError) { told <- base }}
	l := mustOpen(t, opts, State{})
	k := &keyed{r: rand.New(rand.NewPCG(testSeed(t), 1))}
	for range 100 {
		k.append(t, l, 20)
	}
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	bad := st.Segments[1]
	f, err := mem.OpenWrite("p/log/" + bad.FileName())
	if err != nil {
		t.Fatal(err)
	}
	l = reopened(t, l, opts, st)
	if _, err := f.WriteAt([]byte{9}, 7); err != nil { // a base offset, which no batch's own checksum covers
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = l.Compact(t.Context(), CompactRequest{Seq: 1, UpTo: upTo(st), SegmentBytes: 4000, Memory: 1 << 20})
	wantDamage(t, err)
	if base := <-told; base != bad.Base {
		t.Fatalf("damage of segment %d was told, want %d", base, bad.Base)
	}
	if got := l.State(); !slices.Equal(got.Segments, st.Segments) {
		t.Fatal("segments were replaced")
	}
}

func reopened(t *testing.T, l *Log, opts Options, st State) *Log {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, opts, st)
}

// TestCompactEnds: a compaction ends with its context and with its log, and goes
// on later where it was.
func TestCompactEnds(t *testing.T) {
	opts := Options{FS: dirs(t), Dir: "p/log", Writer: tinyWriter(t), SegmentBytes: 4000}
	l := mustOpen(t, opts, State{})
	k := &keyed{r: rand.New(rand.NewPCG(testSeed(t), 1))}
	for range 200 {
		k.append(t, l, 20)
	}
	q := CompactRequest{Seq: 1, UpTo: upTo(l.State()), SegmentBytes: 4000, Memory: 1 << 20}
	ctx, cancel := context.WithCancel(t.Context())
	q.Wait = func(ctx context.Context, _ int) error {
		if l.State().Compacted.Done > 0 {
			cancel()
			<-ctx.Done()
		}
		return context.Cause(ctx)
	}
	if _, err := l.Compact(ctx, q); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that of the context", err)
	}
	st := l.State()
	if st.Compacted.Pass != 1 || st.Compacted.Done == 0 || st.Compacted.Seq != 0 {
		t.Fatalf("compacted %+v", st.Compacted)
	}
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	l = reopened(t, l, opts, st)
	q.Wait = func(ctx context.Context, _ int) error {
		go l.Close()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if _, err := l.Compact(t.Context(), q); !errors.Is(err, ErrClosed) {
		t.Fatalf("error %v, want ErrClosed", err)
	}
	l = mustOpen(t, opts, st)
	q.Wait = nil
	compactNow(t, l, q)
	if got := l.State().Compacted; got.Seq != 1 || got.UpTo != q.UpTo || got.Pass != 0 {
		t.Fatalf("compacted %+v, want up to %d", got, q.UpTo)
	}
	checkCompacted(t, l, k.all, q.UpTo)
}
