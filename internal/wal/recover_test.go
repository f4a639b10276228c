package wal

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

func TestReopen(t *testing.T) {
	m := newMem(t)
	l := open(t, small(m))
	for id := uint64(1); id <= 3; id++ {
		g := l.Group(id)
		must(t, g.StoreLogs(entries(1, 10, id, 700)))
		must(t, g.SetUint64([]byte("CurrentTerm"), id))
	}
	must(t, l.Group(2).DeleteRange(1, 10))
	must(t, l.Group(3).DeleteRange(6, 10))
	must(t, l.Drop(1))
	must(t, l.Close())

	l = open(t, small(m))
	if ids := l.Groups(); len(ids) != 2 || ids[0] != 2 || ids[1] != 3 {
		t.Fatalf("got groups %v", ids)
	}
	wantRange(t, l.Group(1), 0, 0)
	wantRange(t, l.Group(2), 0, 0)
	wantRange(t, l.Group(3), 1, 5)
	wantEntry(t, l.Group(3), entry(5, 3, 700))
	if n := l.Group(3).BytesFrom(4); n != 2*(700+frameHead) {
		t.Fatalf("got %d bytes", n)
	}
}

// build makes a log of several files without an orderly end and returns the
// offsets of the batches in the last file.
func build(t testing.TB) (m *vfs.Mem, last string, batches []int64) {
	m = newMem(t)
	opts := small(m)
	l := open(t, opts)
	g := l.Group(1)
	for i := uint64(1); i <= 100; i++ {
		must(t, g.StoreLog(entry(i, 1, 1000)))
	}
	until(t, "a next file", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.next != nil })
	must(t, g.StoreLogs(entries(101, 103, 1, 1000)))
	m.ArmCrash(1)
	l.Close()
	m.Crash(nil)
	for _, f := range frames(t, m, opts.Dir) {
		if f.File != last {
			last, batches = f.File, nil
		}
		if len(batches) == 0 || batches[len(batches)-1] != f.Batch {
			batches = append(batches, f.Batch)
		}
	}
	if len(batches) < 3 {
		t.Fatalf("last file has %d batches", len(batches))
	}
	return m, last, batches
}

func wantDamage(t testing.TB, opts Options, file string, from, to int64) {
	t.Helper()
	l, err := Open(opts)
	if err == nil {
		l.Close()
		t.Fatal("opened a damaged log")
	}
	var d *DamageError
	if !errors.As(err, &d) || d.File != file || d.Offset < from || d.Offset >= to {
		t.Fatalf("got %v, want damage in %s between %d and %d", err, file, from, to)
	}
}

// TestTornTail: a last batch that does not check is left out, and writing goes
// on there.
func TestTornTail(t *testing.T) {
	m, last, batches := build(t)
	flip(t, m, last, batches[len(batches)-1]+batchHead+2*frameHead+1000+17)
	l := open(t, small(m))
	g := l.Group(1)
	wantRange(t, g, 1, 100)
	must(t, g.StoreLogs(entries(101, 102, 2, 100)))
	must(t, l.Close())
	l = open(t, small(m))
	wantRange(t, l.Group(1), 1, 102)
	wantEntry(t, l.Group(1), entry(101, 2, 100))
}

// TestFlipsAreFound flips bytes everywhere: each is found and refused unless it
// is in the last batch or where nothing is.
func TestFlipsAreFound(t *testing.T) {
	m, last, batches := build(t)
	opts := small(m)
	r := rand.New(rand.NewPCG(1, 1))
	names, err := m.List(opts.Dir)
	must(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		path := vfs.Join(opts.Dir, name)
		if path > last {
			continue // not begun
		}
		end := batches[len(batches)-1]
		if path != last {
			end = 0
			for _, f := range frames(t, m, opts.Dir) {
				if f.File == path {
					end = f.Offset + int64(f.Size)
				}
			}
		}
		places := []int64{3, 9, 20, linkOffset, linkOffset + 30, dataOffset, dataOffset + 5, dataOffset + 30, dataOffset + batchHead, dataOffset + batchHead + 1000, end - 1}
		for range 30 {
			places = append(places, dataOffset+r.Int64N(end-dataOffset))
		}
		for _, off := range places {
			flip(t, m, path, off)
			wantDamage(t, opts, path, 0, off+1)
			flip(t, m, path, off)
		}
	}
	l := open(t, opts)
	wantRange(t, l.Group(1), 1, 103)
}

// TestFlipAfterOrderlyClose: then even the last batch is known to be whole.
func TestFlipAfterOrderlyClose(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	l := open(t, opts)
	must(t, l.Group(1).StoreLog(entry(1, 1, 100)))
	must(t, l.Close())
	file := vfs.Join(opts.Dir, fileName(1))
	flip(t, m, file, dataOffset+batchHead+frameHead+5)
	wantDamage(t, opts, file, dataOffset, dataOffset+batchHead+frameHead)
}

// TestDamageFoundByRead: an entry that rots while the log is open is an error
// that names the place, never other bytes.
func TestDamageFoundByRead(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	opts.TailBytes = -1
	l := open(t, opts)
	g := l.Group(1)
	must(t, g.StoreLogs(entries(1, 3, 1, 100)))
	file := vfs.Join(opts.Dir, fileName(1))
	off := int64(dataOffset + batchHead + frameHead + 100)
	flip(t, m, file, off+frameHead+50)
	var log raft.Log
	var d *DamageError
	if err := g.GetLog(2, &log); !errors.As(err, &d) || d.File != file || d.Offset != off {
		t.Fatalf("got %v", err)
	}
	wantEntry(t, g, entry(1, 1, 100))
	wantEntry(t, g, entry(3, 1, 100))
}

func TestMissingFile(t *testing.T) {
	m, last, _ := build(t)
	opts := small(m)
	first := vfs.Join(opts.Dir, fileName(2))
	if first >= last {
		t.Fatal("too few files")
	}
	must(t, m.Remove(first))
	wantDamage(t, opts, vfs.Join(opts.Dir, fileName(3)), 0, 1)
}

func TestOtherIdentity(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	must(t, open(t, opts).Close())
	opts.Identity.Incarnation = "another"
	_, err := Open(opts)
	var mm *identity.MismatchError
	if !errors.As(err, &mm) || mm.File != vfs.Join(opts.Dir, fileName(1)) || mm.Want != opts.Identity {
		t.Fatalf("got %v", err)
	}
}

// TestMixedAttempts: frames of an earlier torn batch must not complete a later
// one at the same offset, even though each of them checks.
func TestMixedAttempts(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	attempt := func(term uint64) (image []byte) {
		l := open(t, opts)
		must(t, l.Group(1).StoreLogs(entries(1, 2, term, 1000)))
		f, err := m.Open(vfs.Join(opts.Dir, fileName(1)))
		must(t, err)
		image = make([]byte, 3*pageSize)
		_, err = f.ReadAt(image, 0)
		must(t, err)
		m.ArmCrash(1)
		l.Close()
		return image
	}
	one := attempt(1)
	m.Crash(nil)
	// Undo the first attempt as a torn write would have.
	f, err := m.OpenWrite(vfs.Join(opts.Dir, fileName(1)))
	must(t, err)
	_, err = f.WriteAt(make([]byte, pageSize), dataOffset)
	must(t, err)
	must(t, f.Sync())
	attempt(2)
	m.Crash(nil)
	// The second entry of the first attempt, in the second attempt's batch.
	f, err = m.OpenWrite(vfs.Join(opts.Dir, fileName(1)))
	must(t, err)
	second := dataOffset + batchHead + frameHead + 1000
	_, err = f.WriteAt(one[second:second+frameHead+1000], int64(second))
	must(t, err)
	must(t, f.Sync())
	wantRange(t, open(t, opts).Group(1), 0, 0)
}

// FuzzRecover opens a log whose first file has arbitrary bytes after its header.
func FuzzRecover(f *testing.F) {
	salt := life{seq: 1, salt: 42}
	seed := func(fill func(l *Log)) {
		m := newMem(f)
		l, err := Open(small(m))
		must(f, err)
		l.files[0].salt = salt.salt // so that what is written fits the fuzzed file
		fill(l)
		must(f, l.Close())
		file, err := m.Open(vfs.Join(small(m).Dir, fileName(1)))
		must(f, err)
		b := make([]byte, 4*pageSize)
		_, err = file.ReadAt(b, dataOffset)
		must(f, err)
		f.Add(b)
		b[300] ^= 1
		f.Add(b)
	}
	seed(func(l *Log) {})
	seed(func(l *Log) { must(f, l.Group(1).StoreLogs(entries(1, 5, 1, 100))) })
	seed(func(l *Log) {
		g := l.Group(1)
		must(f, g.StoreLogs(entries(1, 5, 1, 100)))
		must(f, g.DeleteRange(4, 5))
		must(f, g.Set([]byte("key"), []byte("value")))
		must(f, g.DeleteRange(1, 2))
		must(f, g.Set([]byte("LastVoteCand"), []byte("1")))
		must(f, l.Drop(1))
	})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		head, err := firstVersion(salt)
		must(t, err)
		copy(head[linkOffset:], encodeLink(salt, link{}))
		m := newMem(t)
		opts := small(m)
		must(t, m.MkdirAll(opts.Dir))
		file, err := m.Create(vfs.Join(opts.Dir, fileName(1)))
		must(t, err)
		_, err = file.WriteVAt([][]byte{head, data}, 0)
		must(t, err)
		checkOpen(t, opts)

		// And as the file's own header.
		must(t, file.Truncate(0))
		_, err = file.WriteAt(data, 0)
		must(t, err)
		checkOpen(t, opts)
	})
}

// FuzzReplay opens a log of frames whose checksums are right and whose fields are
// arbitrary: three bytes of data make a frame.
func FuzzReplay(f *testing.F) {
	f.Add([]byte{1, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 3, 1, 2})
	f.Add([]byte{1, 1, 255, 1, 1, 0, 3, 1, 255, 7, 1, 0, 4, 1, 0, 5, 1, 1, 6, 1, 0, 9, 9, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 3000 {
			return
		}
		m := newMem(t)
		opts := small(m)
		l, err := Open(opts)
		must(t, err)
		g := l.Group(0)
		for len(data) >= 3 {
			r := newRequest(nil, opValue)
			r.group = g
			for range min(len(data)/3, 1+int(data[0]>>5)) {
				index := uint64(data[2])
				if index > 250 {
					index += 1<<64 - 256 // the largest ones
				}
				r.headers = (&frameHeader{kind: Kind(data[0] & 15), group: uint64(data[1] & 3), index: index, term: 1}).append(r.headers)
				r.parts = append(r.parts, part{})
				r.size += frameHead
				data = data[3:]
			}
			must(t, l.do(r))
		}
		must(t, l.Close())
		checkOpen(t, opts)
	})
}

// checkOpen opens a log that may be anything; if it opens, what it says it holds
// must be there.
func checkOpen(t *testing.T, opts Options) {
	t.Helper()
	l, err := Open(opts)
	if err != nil {
		return
	}
	defer l.Close()
	for _, id := range l.Groups() {
		g := l.Group(id)
		first, _ := g.FirstIndex()
		last, _ := g.LastIndex()
		for i := first; i > 0 && i <= last; i++ {
			var log raft.Log
			must(t, g.GetLog(i, &log))
		}
	}
}
