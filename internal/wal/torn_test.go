package wal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// expected is what a log may hold of group 1: everything acknowledged, and of
// what was under way all or nothing.
type expected struct {
	entries  map[uint64]*raft.Log // all that were ever stored, by index
	released uint64               // may be gone up to here
	acked    uint64               // last index that must be there
	under    uint64               // last index that may be there
	vote     string               // acknowledged
	voting   string               // under way; "": none
}

func newExpected() expected { return expected{entries: make(map[uint64]*raft.Log)} }

// check says how an open log differs.
func (e *expected) check(l *Log) error {
	g := l.Group(1)
	first, err1 := g.FirstIndex()
	last, err2 := g.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if gone := last == 0 && e.released >= e.acked; !gone && last != e.acked && last != e.under {
		return fmt.Errorf("ends at %d; %d is acknowledged, %d under way", last, e.acked, e.under)
	}
	if last > 0 && first > e.released+1 {
		return fmt.Errorf("begins at %d; released up to %d", first, e.released)
	}
	for i := first; i > 0 && i <= last; i++ {
		var got raft.Log
		if err := g.GetLog(i, &got); err != nil {
			return err
		}
		if !sameEntry(&got, e.entries[i]) {
			return fmt.Errorf("entry %d is one of term %d, %d bytes, or has other bytes", i, got.Term, len(got.Data))
		}
	}
	term, e1 := g.GetUint64([]byte("LastVoteTerm"))
	candidate, e2 := g.Get([]byte("LastVoteCand"))
	if (e1 == nil) != (e2 == nil) {
		return fmt.Errorf("half a vote: %v, %v", e1, e2)
	}
	vote := ""
	if e1 == nil {
		vote = fmt.Sprint(term, " ", string(candidate))
	}
	if vote != e.vote && (e.voting == "" || vote != e.voting) {
		return fmt.Errorf("vote %q; %q is acknowledged, %q under way", vote, e.vote, e.voting)
	}
	return nil
}

// tornOptions is a log whose files take a few batches. No memory hides what is
// on the disk.
func tornOptions(fsys vfs.FS) Options {
	opts := small(fsys)
	opts.FileSize, opts.SizeLimit, opts.TailBytes = minFile+2*pageSize, 1<<20, -1
	return opts
}

// record runs a script on a log and returns the trace of its disk.
func record(t *testing.T, script func(w *scribe)) *trace {
	t.Helper()
	fsys := newTraced(newMem(t))
	l := open(t, tornOptions(fsys))
	script(&scribe{t: t, tr: fsys.tr, g: l.Group(1), log: l})
	must(t, l.Close())
	return fsys.tr
}

// scribe writes to a log and notes what is expected of it.
type scribe struct {
	t    *testing.T
	tr   *trace
	g    *Group
	log  *Log
	last uint64
}

func (w *scribe) store(n int, term uint64, size int) {
	w.t.Helper()
	logs := entries(w.last+1, w.last+uint64(n), term, size)
	w.last += uint64(n)
	last := w.last
	w.tr.note(func(e *expected) {
		e.entries = maps.Clone(e.entries)
		for _, l := range logs {
			e.entries[l.Index] = l
		}
		e.under = last
	})
	must(w.t, w.g.StoreLogs(logs))
	w.tr.note(func(e *expected) { e.acked = last })
}

func (w *scribe) release(upTo uint64) {
	w.t.Helper()
	first, err := w.g.FirstIndex()
	must(w.t, err)
	if first == 0 || upTo < first {
		return
	}
	w.tr.note(func(e *expected) { e.released = upTo })
	must(w.t, w.g.DeleteRange(first, upTo))
}

func (w *scribe) vote(term uint64, candidate string) {
	w.t.Helper()
	v := fmt.Sprint(term, " ", candidate)
	w.tr.note(func(e *expected) { e.voting = v })
	must(w.t, w.g.SetUint64([]byte("LastVoteTerm"), term))
	must(w.t, w.g.Set([]byte("LastVoteCand"), []byte(candidate)))
	w.tr.note(func(e *expected) { e.vote, e.voting = v, "" })
}

// crashed opens the log on a disk after a crash and checks it; then it goes on
// writing there and opens it once more.
func (e *expected) crashed(t *testing.T, img *image, what func() string) {
	t.Helper()
	disk := img.disk(t, tornOptions(nil).Dir)
	l, err := Open(tornOptions(disk))
	if err != nil {
		t.Fatalf("%s: %v", what(), err)
	}
	err = e.check(l)
	g := l.Group(1)
	last, _ := g.LastIndex()
	after := entry(last+1, 1000, 333)
	if err = errors.Join(err, g.StoreLog(after), l.Close()); err != nil {
		t.Fatalf("%s: %v", what(), err)
	}
	then := *e
	then.entries = maps.Clone(e.entries)
	then.entries[after.Index], then.acked, then.under = after, after.Index, after.Index
	if l, err = Open(tornOptions(disk)); err != nil {
		t.Fatalf("%s, second start: %v", what(), err)
	}
	if err = errors.Join(then.check(l), l.Close()); err != nil {
		t.Fatalf("%s, second start: %v", what(), err)
	}
}

// TestRecycledFileTornAtEveryByte uses a file again that holds valid frames of
// the same group, batch for batch at the same offsets. It stops the writes of
// its header, its link and its first batches after each byte, and before each
// (in runs of zeros, at every 64th).
func TestRecycledFileTornAtEveryByte(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 31
	}
	tr := record(t, func(w *scribe) {
		for i := range 600 {
			w.store(1, 7, 300)
			if i%20 == 19 {
				w.vote(uint64(i), "20")
				w.release(w.last - 3)
			}
		}
	})
	p := newPlayer(tr)
	begun, points := 0, 0
	batches := 4 // what is left of a file that is being looked at
	for i, c := range tr.ops {
		if c.kind == wrote && p.old[c.inode] {
			if c.off == 0 {
				begun++
				batches = 4
			}
			if begun <= 2 && c.off < dataOffset || begun == 2 && batches > 0 {
				points += p.everyByte(t, i, step)
			}
			if c.off >= dataOffset {
				batches--
			}
		}
		p.next(i)
	}
	if begun < 2 || points < 1000/step {
		t.Fatalf("%d files were used again, %d crashes", begun, points)
	}
	t.Logf("%d files were used again, %d crashes", begun, points)
}

// everyByte crashes at each byte of the write at place i, with all else that
// was written on the disk, and with only what was synced.
func (p *player) everyByte(t *testing.T, i, step int) (points int) {
	t.Helper()
	c := p.ops[i]
	for n := 0; n <= len(c.data); n += step {
		if n%64 > 0 && n < len(c.data) && c.data[n-1] == 0 && c.data[n] == 0 {
			continue // in a run of zeros
		}
		for _, disk := range []struct {
			name     string
			img      *image
			from, to int
		}{{"the first", p.cache, 0, n}, {"synced before, and the first", p.sure, 0, n}, {"all but the first", p.cache, n, len(c.data)}} {
			img := disk.img.clone()
			if img.names[nameOf(p.cache, c.inode)] != c.inode {
				continue // its name is not on the disk: neither are these bytes
			}
			img.land(c, disk.from, disk.to)
			p.want.crashed(t, img, func() string {
				return fmt.Sprintf("change %d: write of %d bytes at %d, %s %d of them", i, len(c.data), c.off, disk.name, n)
			})
			points++
		}
	}
	return points
}

func nameOf(m *image, inode int) string {
	for name, i := range m.names {
		if i == inode {
			return name
		}
	}
	return ""
}

// sectors cuts a write at the sectors' bounds.
func sectors(c change) (cuts [][2]int) {
	for from := 0; from < len(c.data); {
		to := min(len(c.data), int((c.off+int64(from))/vfs.SectorSize+1)*vfs.SectorSize-int(c.off))
		cuts = append(cuts, [2]int{from, to})
		from = to
	}
	return cuts
}

// exhaustive is the number of sectors up to which every subset is tried.
const exhaustive = 9

// varied is a script of batches of all sizes, with votes and removals between.
func varied(r *rand.Rand, n int) func(w *scribe) {
	return func(w *scribe) {
		for i := range n {
			switch r.IntN(6) {
			case 0:
				w.vote(uint64(i+1), fmt.Sprint(r.IntN(3)))
			case 1:
				if w.last > 0 {
					w.release(w.last - r.Uint64N(min(3, w.last)))
				}
			default:
				w.store(1+r.IntN(4), uint64(i), r.IntN(900))
			}
		}
	}
}

// TestBatchTornAtEverySector lands every subset of the sectors of each batch,
// for larger ones many by chance. WAL_SEED and WAL_CASES as for TestCrash: a
// case is a log.
func TestBatchTornAtEverySector(t *testing.T) {
	seed, n := seeds(t, 3)
	if testing.Short() {
		n = 1
	}
	points := 0
	for s := seed; s < seed+uint64(n); s++ {
		t.Logf("WAL_SEED=%d", s)
		r := rand.New(rand.NewPCG(s, 11))
		tr := record(t, varied(r, 25))
		p := newPlayer(tr)
		for i, c := range tr.ops {
			if c.kind == wrote && c.off >= dataOffset {
				points += p.everySubset(t, i, r)
			}
			p.next(i)
		}
	}
	t.Logf("%d crashes", points)
}

func (p *player) everySubset(t *testing.T, i int, r *rand.Rand) (points int) {
	t.Helper()
	c := p.ops[i]
	cuts := sectors(c)
	all := len(cuts) <= exhaustive
	n := 1 << exhaustive
	if all {
		n = 1 << len(cuts)
	}
	for subset := range n {
		img := p.cache.clone()
		pick := make([]bool, len(cuts))
		for j, cut := range cuts {
			pick[j] = all && subset>>j&1 == 1 || !all && r.IntN(2) == 0
			if pick[j] {
				img.land(c, cut[0], cut[1])
			}
		}
		p.want.crashed(t, img, func() string {
			return fmt.Sprintf("change %d: write of %d bytes at %d, of its sectors %v have landed", i, len(c.data), c.off, pick)
		})
		points++
	}
	return points
}

// TestTornTwice tears a batch, starts, and tears the next batch over the
// remains of the first. The two differ.
func TestTornTwice(t *testing.T) {
	seed, n := seeds(t, 400)
	if testing.Short() {
		n = 60
	}
	for s := seed; s < seed+uint64(n); s++ {
		r := rand.New(rand.NewPCG(s, 12))
		tr := record(t, varied(r, 2+r.IntN(12)))
		var batches []int
		for i, c := range tr.ops {
			if c.kind == wrote && c.off >= dataOffset && len(c.data) > 0 {
				batches = append(batches, i)
			}
		}
		at := batches[r.IntN(len(batches))]
		p := newPlayer(tr)
		for i := range at {
			p.next(i)
		}
		tornTwice(t, r, p, tr.ops[at], fmt.Sprintf("WAL_SEED=%d", s))
	}
	t.Logf("WAL_SEED=%d, %d cases", seed, n)
}

func tornTwice(t *testing.T, r *rand.Rand, p *player, first change, what string) {
	t.Helper()
	img := p.cache.clone()
	for _, cut := range sectors(first) {
		if r.IntN(2) == 0 {
			img.land(first, cut[0], cut[1])
		}
	}
	l, err := Open(tornOptions(img.disk(t, tornOptions(nil).Dir)))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	want := p.want
	want.entries = maps.Clone(want.entries)
	if err := want.check(l); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	last, _ := l.Group(1).LastIndex()
	f := l.files[len(l.files)-1]
	must(t, l.Close())
	// The second batch, as the log would have written it there: entries of
	// another term, of the same sizes or of others.
	logs := entries(last+1, last+1+r.Uint64N(3), 900+r.Uint64N(3), r.IntN(900))
	tr := newTraced(img.disk(t, tornOptions(nil).Dir))
	tr.tr.inode, tr.tr.files = maps.Clone(img.names), 1000
	l, err = Open(tornOptions(tr))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	tr.tr.mu.Lock()
	base := len(tr.tr.ops)
	tr.tr.mu.Unlock()
	must(t, l.Group(1).StoreLogs(logs))
	must(t, l.Close())
	i := base + slices.IndexFunc(tr.tr.ops[base:], func(c change) bool { return c.kind == wrote && c.off >= dataOffset && c.to == f.path })
	if i < base {
		return // it went into the next file
	}
	second := tr.tr.ops[i]
	for _, c := range tr.tr.ops[:i] {
		img.apply(c) // what the start has written is on the disk
	}
	for _, cut := range sectors(second) {
		if r.IntN(2) == 0 {
			img.land(second, cut[0], cut[1])
		}
	}
	for _, l := range logs {
		want.entries[l.Index] = l
	}
	want.acked, want.under = last, logs[len(logs)-1].Index
	want.crashed(t, img, func() string { return what + ": torn twice" })
}

// TestTornBatchStaysTorn: a batch that a start has left out is not made whole by
// the remains of the next write. Here that write's padding brings the zeros that
// the batch lacked.
func TestTornBatchStaysTorn(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	l := open(t, opts)
	must(t, l.Group(1).StoreLogs(entries(1, 5, 1, 100)))
	end := l.files[0].end
	must(t, l.Group(1).DeleteRange(4, 5))
	must(t, l.Group(1).StoreLog(&raft.Log{Index: 4, Term: 2, Data: make([]byte, 2000)}))
	m.ArmCrash(1)
	l.Close()
	m.Crash(nil)
	file := vfs.Join(opts.Dir, fileName(1))
	flip(t, m, file, end+1500) // a sector of it has not landed
	l = open(t, opts)
	wantRange(t, l.Group(1), 1, 5)
	wantEntry(t, l.Group(1), entry(5, 1, 100)) // as the leader is told now
	m.ArmCrash(1)
	l.Close()
	m.Crash(nil)
	flip(t, m, file, end+1500) // of another write, this sector of zeros has
	l = open(t, opts)
	wantRange(t, l.Group(1), 1, 5)
}
