package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// firstVersion is the head of a file of the first version, whose logs have no
// bounds.
func firstVersion(l life) ([]byte, error) {
	head, err := encodeBirth(l, self)
	if err == nil {
		asFirstVersion(head)
	}
	return head, err
}

func asFirstVersion(head []byte) {
	le.PutUint32(head[12:], 1)
	le.PutUint32(head[8:], crc32.Checksum(head[12:birthFixed+le.Uint32(head[32:])], castagnoli))
}

// logNames lists the log files, oldest first.
func logNames(t testing.TB, fsys vfs.FS, dir string) (names []string) {
	t.Helper()
	all, err := fsys.List(dir)
	must(t, err)
	for _, name := range all {
		if strings.HasSuffix(name, fileSuffix) {
			names = append(names, vfs.Join(dir, name))
		}
	}
	return names
}

// turned writes a log whose oldest files were released, with a vote in each, and
// crashes; it returns its disk.
func turned(t testing.TB, r *rand.Rand) (m *vfs.Mem, opts Options) {
	m = newMem(t)
	opts = small(m)
	l := open(t, opts)
	g := l.Group(1)
	for i := uint64(1); i <= 150+r.Uint64N(150); i++ {
		must(t, g.StoreLog(entry(i, 1, 500+r.IntN(1000))))
		if first, _ := g.FirstIndex(); i-first > 60 {
			must(t, g.DeleteRange(first, i-40))
		}
		must(t, l.Group(2+i%30).Set([]byte(keyVoteCandidate), []byte(fmt.Sprint(i))))
	}
	until(t, "files to be released", func() bool { return l.Stats().OldestFile > 1 })
	m.ArmCrash(1 + r.Int64N(3))
	l.Close()
	m.Crash(r)
	return m, opts
}

// TestMissingAtTheEnds: a log that lacks its oldest or its newest file, which
// holds votes, is not opened; the error names the file.
func TestMissingAtTheEnds(t *testing.T) {
	first, n := seeds(t, 60)
	for seed := first; seed < first+uint64(n); seed++ {
		r := rand.New(rand.NewPCG(seed, 31))
		m, opts := turned(t, r)
		if r.IntN(2) == 0 { // opened and closed once more
			must(t, open(t, opts).Close())
		}
		b, err := openBounds(m, vfs.Join(opts.Dir, boundsName), self)
		must(t, err)
		must(t, b.file.Close())
		var names []string
		for seq := b.oldest; seq <= b.newest; seq++ {
			names = append(names, vfs.Join(opts.Dir, fileName(seq)))
		}
		// The power may go while one file is in the making.
		if all := logNames(t, m, opts.Dir); len(names) < 2 || all[len(all)-2] > names[len(names)-1] {
			t.Fatalf("WAL_SEED=%d: %v should be there, %v are", seed, names, all)
		}
		gone := names[:1+r.IntN(len(names))]
		if r.IntN(2) == 0 {
			gone = names[len(names)-1-r.IntN(len(names)-1):]
		}
		named := false
		for _, name := range gone {
			must(t, m.Remove(name))
		}
		_, err = Open(opts)
		var d *DamageError
		for _, name := range gone {
			named = named || err != nil && strings.Contains(err.Error(), path.Base(name))
		}
		if !errors.As(err, &d) || !named || !strings.Contains(d.Error(), "missing") {
			t.Fatalf("WAL_SEED=%d: without %v: %v", seed, gone, err)
		}
	}
}

// TestBoundsDamaged: one slot may be torn; without the file, or with both slots
// damaged, a log is refused, and so are another node's bounds.
func TestBoundsDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m, opts := turned(t, r)
	must(t, open(t, opts).Close())
	bounds := vfs.Join(opts.Dir, boundsName)
	b, err := openBounds(m, bounds, self)
	must(t, err)
	must(t, b.file.Close())
	current := int64(b.count % 2)
	flip(t, m, bounds, (1-current)*pageSize+20)
	must(t, open(t, opts).Close()) // the older slot is of no interest, and this writes it
	for _, off := range []int64{20, pageSize + 20} {
		flip(t, m, bounds, off)
	}
	wantDamage(t, opts, bounds, 0, 1)
	for _, off := range []int64{20, pageSize + 20} {
		flip(t, m, bounds, off)
	}
	must(t, open(t, opts).Close())
	other := opts
	other.Identity.NodeID++
	_, err = openBounds(m, bounds, other.Identity)
	var mismatch *identity.MismatchError
	if !errors.As(err, &mismatch) || mismatch.File != bounds {
		t.Fatalf("bounds of another node: %v", err)
	}
	must(t, m.Remove(bounds))
	wantDamage(t, opts, bounds, 0, 1)
}

// TestFirstVersionIsTakenOver: a log without bounds gets them.
func TestFirstVersionIsTakenOver(t *testing.T) {
	m, opts := turned(t, rand.New(rand.NewPCG(3, 4)))
	must(t, open(t, opts).Close())
	for _, name := range logNames(t, m, opts.Dir) {
		f, err := m.OpenWrite(name)
		must(t, err)
		head := make([]byte, dataOffset)
		_, err = f.ReadAt(head, 0)
		must(t, err)
		asFirstVersion(head)
		_, err = f.WriteAt(head, 0)
		must(t, err)
		must(t, f.Sync())
	}
	bounds := vfs.Join(opts.Dir, boundsName)
	must(t, m.Remove(bounds))
	l := open(t, opts)
	g := l.Group(1)
	last, err := g.LastIndex()
	must(t, err)
	for i := last + 1; i <= last+100; i++ {
		must(t, g.StoreLog(entry(i, 2, 1000)))
	}
	must(t, l.Close())
	must(t, open(t, opts).Close())
	names := logNames(t, m, opts.Dir)
	must(t, m.Remove(names[0]))
	wantDamage(t, opts, names[0], 0, 1)
}

// TestAllFilesMissing: bounds without a log are no new log.
func TestAllFilesMissing(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	l := open(t, opts)
	must(t, l.Group(1).StoreLog(entry(1, 1, 100)))
	must(t, l.Close())
	for _, name := range logNames(t, m, opts.Dir) {
		must(t, m.Remove(name))
	}
	wantDamage(t, opts, vfs.Join(opts.Dir, fileName(1)), 0, 1)
}
