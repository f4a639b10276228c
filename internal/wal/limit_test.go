package wal

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// limitGroup is a group of a mix and what it should hold.
type limitGroup struct {
	id          uint64
	first, last uint64
	size        int // of its entries
}

func (g *limitGroup) append(t *testing.T, l *Log, n uint64) {
	t.Helper()
	must(t, l.Group(g.id).StoreLogs(entries(g.last+1, g.last+n, 1, g.size)))
	g.last += n
	if g.first == 0 {
		g.first = 1
	}
}

// release is what a snapshot does.
func (g *limitGroup) release(t *testing.T, l *Log, keep uint64) {
	t.Helper()
	if g.last >= g.first+keep {
		must(t, l.Group(g.id).DeleteRange(g.first, g.last-keep))
		g.first = g.last - keep + 1
	}
}

func (g *limitGroup) check(t *testing.T, l *Log) {
	t.Helper()
	if g.last == 0 {
		return
	}
	wantRange(t, l.Group(g.id), g.first, g.last)
	for i := g.first; i <= g.last; i++ {
		wantEntry(t, l.Group(g.id), entry(i, 1, g.size))
	}
}

// TestLimitHolds mixes idle, trickling, busy and quorumless groups at random.
// Busy ones are released when the log asks for it; the others never, and the
// tail of a quorumless one may be longer than a file. The log's files never take
// more than its limit, and every group keeps what it has, over restarts too.
func TestLimitHolds(t *testing.T) {
	first, n := seeds(t, 40)
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint("WAL_SEED=", seed), func(t *testing.T) { limitCase(t, rand.New(rand.NewPCG(seed, 9))) })
	}
}

func limitCase(t *testing.T, r *rand.Rand) {
	mem := newMem(t)
	opts := small(mem)
	opts.SizeLimit = int64(12+r.IntN(12)) * opts.FileSize
	opts.TailBytes = []int64{-1, 16 << 10}[r.IntN(2)]
	var pressed atomic.Bool
	opts.OnPressure = func() { pressed.Store(true) }
	l := open(t, opts)
	watch := func() {
		t.Helper()
		s := l.Stats()
		if onDisk := sizeOnDisk(t, mem, opts.Dir); s.SizeBytes > opts.SizeLimit || onDisk > opts.SizeLimit {
			t.Fatalf("limit %d: %d bytes on disk, %+v", opts.SizeLimit, onDisk, s)
		}
	}
	// What is live has to stay below half of forwardAbove, else the log may grow: an
	// eighth for what is never released, and less than a quarter for the busy ones,
	// which pass theirs by an append.
	budget := opts.forwardAbove() / 8
	var still, busy []*limitGroup
	for id := uint64(1); id <= uint64(r.IntN(30)); id++ { // idle: votes, values and a few entries
		g := &limitGroup{id: id, size: r.IntN(100)}
		must(t, l.Group(id).SetUint64([]byte("LastVoteTerm"), id))
		must(t, l.Group(id).Set([]byte("LastVoteCand"), []byte("c")))
		g.append(t, l, r.Uint64N(3)+1)
		still, budget = append(still, g), budget-600
	}
	for id := uint64(100); id < 100+uint64(1+r.IntN(3)); id++ {
		busy = append(busy, &limitGroup{id: id, size: 500 + r.IntN(4000)})
	}
	trickle := &limitGroup{id: 200, size: 50}
	quorumless := &limitGroup{id: 300, size: 1000 + r.IntN(3000)}
	still = append(still, trickle, quorumless)
	for step := range 1500 {
		g := busy[r.IntN(len(busy))]
		g.append(t, l, r.Uint64N(3)+1)
		_, live := l.Group(g.id).Size()
		if pressed.Swap(false) || live > opts.forwardAbove()/8/int64(len(busy)) {
			for _, g := range busy {
				g.release(t, l, r.Uint64N(3)+1)
			}
		}
		if step%50 == 0 {
			trickle.append(t, l, 1)
			budget -= 200
		}
		if tail := int64(quorumless.size + frameHead); r.IntN(20) == 0 && budget > 4*tail {
			quorumless.append(t, l, 2)
			budget -= 2 * tail
		}
		watch()
		if r.IntN(400) == 0 {
			must(t, l.Close())
			l = open(t, opts)
			for _, g := range append(still, busy...) {
				g.check(t, l)
			}
			watch()
		}
	}
	for _, g := range append(still, busy...) {
		g.check(t, l)
	}
	if s := l.Stats(); s.OldestFile < 20 {
		t.Fatalf("files are not recycled: %+v", s)
	}
}

func sizeOnDisk(t *testing.T, mem *vfs.Mem, dir string) (sum int64) {
	t.Helper()
	names, err := mem.List(dir)
	must(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, fileSuffix) && !strings.HasSuffix(name, tmpSuffix) && name != boundsName {
			t.Fatalf("%s is in the log's directory", name)
		}
		info, err := mem.Stat(vfs.Join(dir, name))
		if err == nil && name != boundsName { // else it was renamed or removed just now
			sum += info.Size()
		}
	}
	return sum
}

// TestTailLongerThanAFile: a group that can't be released, with more than a file
// of entries, lets go of the files that it lies in.
func TestTailLongerThanAFile(t *testing.T) {
	opts := small(newMem(t))
	opts.SizeLimit = 16 * opts.FileSize
	l := open(t, opts)
	tail, busy := &limitGroup{id: 1, size: 3000}, &limitGroup{id: 2, size: 2000}
	tail.append(t, l, 25) // two files and more
	for range 1000 {
		busy.append(t, l, 1)
		busy.release(t, l, 5)
	}
	s := l.Stats()
	if s.OldestFile < 10 || s.CopiedBytes == 0 || s.SizeBytes > opts.SizeLimit {
		t.Fatalf("%+v", s)
	}
	tail.check(t, l)
	must(t, l.Close())
	l = open(t, opts)
	tail.check(t, l)
	busy.check(t, l)
	// A moved entry is as any other: truncated, appended to, released.
	must(t, l.Group(1).DeleteRange(20, 25))
	tail.last = 19
	tail.append(t, l, 3)
	tail.release(t, l, 10)
	must(t, l.Close())
	l = open(t, opts)
	tail.check(t, l)
}

// TestMissingMovedEntry: a group with a hole is damage, not a shorter log.
func TestMissingMovedEntry(t *testing.T) {
	l := &Log{opts: small(newMem(t)), groups: make(map[uint64]*Group)}
	g := l.groupLocked(7)
	p := place{seq: 1, off: 8192, size: 100}
	for _, i := range []uint64{3, 4, 6} {
		if reason := g.replayMoved(i, 1, p); reason != "" {
			t.Fatal(reason)
		}
	}
	wantMissing := func() {
		t.Helper()
		if err := l.joinLoose(); err == nil || !strings.Contains(err.Error(), "not the one before") {
			t.Fatalf("got %v", err)
		}
	}
	wantMissing()
	delete(g.loose, 6)
	g.appendLocked(9, 1, p)
	wantMissing()
	g.slots = nil
	g.appendLocked(5, 1, p)
	must(t, l.joinLoose())
	if g.first != 3 || g.lastLocked() != 5 || g.liveLocked() != 300 {
		t.Fatalf("entries %d to %d, %d bytes", g.first, g.lastLocked(), g.liveLocked())
	}
	if reason := g.replayMoved(4, 2, p); reason == "" {
		t.Fatal("a copy of another term was taken")
	}
}
