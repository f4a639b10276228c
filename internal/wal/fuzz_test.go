package wal

import (
	"errors"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// script is a source of randomness that a fuzzer can steer: each draw takes a
// byte, the high bits, which decide small choices.
type script struct {
	b     []byte
	drawn uint64
}

func (s *script) Uint64() uint64 {
	s.drawn++
	mix := s.drawn * 0x9e3779b97f4a7c15 // never constant: rand draws again until it likes one
	if len(s.b) == 0 {
		return mix
	}
	v := s.b[0]
	s.b = s.b[1:]
	return uint64(v)<<56 | mix>>8
}

// exactPage makes a batch of exactly one page: the next begins where the last
// write's padding ends, so in a recycled file an old batch follows at once.
const (
	exactPage      = 255
	exactPageBytes = pageSize - batchHead - frameHead
)

// fullPage appends an entry whose batch is one page.
func (m *model) fullPage(l *Log) error {
	s := m.now()
	next := s.last() + 1
	if len(s.logs) == 0 {
		next = s.first + 1
		s.first = next
	}
	logs := entries(next, next, m.term, exactPageBytes)
	s.logs = append(s.logs, logs...)
	err := l.Group(m.id).StoreLogs(logs)
	m.possible = []state{s}
	return err
}

// FuzzDamage runs operations on a log, loses power or closes, changes one byte
// of what was written, and opens it. What comes back is a state that the group
// had: the last, or, when the byte was in the last write, the one before it.
// Anything else must be an error that names the damage.
func FuzzDamage(f *testing.F) {
	recycled := make([]byte, 0, 60)
	for range 6 {
		recycled = append(recycled, exactPage, exactPage, exactPage, exactPage, exactPage, exactPage, 120, 200, 200)
	}
	mixed := []byte{0, 0, 10, 40, 0, 7, 30, 90, 170, 5, 180, 66, 9, 12, 130, 200, 255, 190, 14, 88}
	for at := uint32(0); at < 20000; at += 1013 {
		f.Add(mixed, at, byte(1), at%2 == 0)
	}
	for n := range 3 {
		f.Add(recycled[:len(recycled)-5*n], uint32(0), byte(0), false)
	}
	f.Fuzz(func(t *testing.T, ops []byte, at uint32, xor byte, orderly bool) {
		if len(ops) > 150 {
			return
		}
		m := newMem(t)
		opts := small(m)
		l, err := Open(opts)
		must(t, err)
		models := []*model{
			{id: 1, term: 1, possible: []state{{stable: map[string]string{}}}},
			{id: 2, term: 1, heavy: true, possible: []state{{stable: map[string]string{}}}},
		}
		before := make([][]state, len(models)) // the states that a lost last write leaves
		src := &script{b: ops}
		r := rand.New(src)
		for len(src.b) > 0 {
			i := len(src.b) % len(models)
			was := models[i].possible
			if src.b[0] == exactPage {
				src.b = src.b[1:]
				must(t, models[i].fullPage(l))
			} else {
				must(t, models[i].step(r, l))
			}
			if now := models[i].possible; len(now) == 1 && !reflect.DeepEqual(now, was) {
				before[i] = was // this operation wrote
			}
		}
		if orderly {
			must(t, l.Close())
			clear(before) // the last write is the end mark
		}
		where := writtenAt(l, at)
		m.ArmCrash(1)
		l.Close()
		m.Crash(nil)
		if xor != 0 && !flipOne(t, m, where.name, where.off, xor) {
			xor = 0
		}
		again, err := Open(opts)
		if err != nil {
			var damage *DamageError
			var other *identity.MismatchError
			if xor == 0 || !errors.As(err, &damage) && !errors.As(err, &other) {
				t.Fatalf("byte %d of %s changed by %#x: %v", where.off, where.name, xor, err)
			}
			return
		}
		defer again.Close()
		for i, md := range models {
			if xor != 0 {
				md.possible = append(before[i][:len(before[i]):len(before[i])], md.possible...)
			}
			if err := md.recovered(again.Group(md.id)); err != nil {
				t.Fatalf("byte %d of %s changed by %#x: %v", where.off, where.name, xor, err)
			}
		}
	})
}

type spot struct {
	name string
	off  int64
}

// writtenAt turns a number into a place that was written.
func writtenAt(l *Log, n uint32) spot {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := int64(0)
	for _, f := range l.files {
		total += f.end
	}
	rest := int64(n) % total
	for _, f := range l.files {
		if rest < f.end {
			return spot{f.path, rest}
		}
		rest -= f.end
	}
	panic("BUG: place outside of the files")
}

// flipOne changes one byte of a file, durably, unless the file was released
// meanwhile.
func flipOne(t testing.TB, m *vfs.Mem, name string, off int64, xor byte) bool {
	t.Helper()
	f, err := m.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= xor
	_, err = f.WriteAt(b[:], off)
	must(t, err)
	must(t, f.Sync())
	return true
}

// FuzzSealed opens a log whose bytes are arbitrary but for the checksums, which
// are made right wherever the bytes' own lengths lead: a fuzzer that has to
// guess checksums never gets past them. What the log then holds is compared
// with a second, plain reading of DESIGN.md.
func FuzzSealed(f *testing.F) {
	at := life{seq: 1, salt: 1042}
	seed := func(fill func(l *Log)) {
		m := newMem(f)
		l, err := Open(small(m))
		must(f, err)
		fill(l) // under another salt: no checksum in a seed is right before seal

		end := l.files[0].end
		must(f, l.Close())
		file, err := m.Open(vfs.Join(small(m).Dir, fileName(1)))
		must(f, err)
		b := make([]byte, end-dataOffset)
		_, err = file.ReadAt(b, dataOffset)
		must(f, err)
		f.Add(b)
	}
	seed(func(l *Log) { must(f, l.Group(1).StoreLogs(entries(1, 3, 1, 20))) })
	seed(func(l *Log) {
		g := l.Group(1)
		logs := entries(1, 5, 1, 9)
		logs[1].Extensions = []byte("ext")
		must(f, g.StoreLogs(logs))
		must(f, g.DeleteRange(4, 5))
		must(f, g.Set([]byte("key"), []byte("value")))
		must(f, g.DeleteRange(1, 2))
		must(f, g.Set([]byte("LastVoteCand"), []byte("1")))
		must(f, l.Group(2).StoreLogs(entries(7, 8, 2, 0)))
		must(f, l.Drop(1))
		must(f, g.StoreLogs(entries(5, 6, 2, 0)))
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		data = append(append([]byte(nil), data...), make([]byte, pageSize)...)
		seal(data, at)
		head, err := firstVersion(at)
		must(t, err)
		copy(head[linkOffset:], encodeLink(at, link{}))
		m := newMem(t)
		opts := small(m)
		must(t, m.MkdirAll(opts.Dir))
		file, err := m.Create(vfs.Join(opts.Dir, fileName(1)))
		must(t, err)
		_, err = file.WriteVAt([][]byte{head, data}, 0)
		must(t, err)
		want, whole := plainly(data)
		l, err := Open(opts)
		if err != nil {
			var damage *DamageError
			if whole || !errors.As(err, &damage) {
				t.Fatalf("a log of good batches does not open: %v", err)
			}
			return
		}
		defer l.Close()
		for id := range want {
			l.Group(id)
		}
		for _, id := range l.Groups() {
			if want[id] == nil {
				t.Fatalf("group %d is in no batch", id)
			}
		}
		for id, w := range want {
			if err := w.compare(l.Group(id)); err != nil {
				t.Fatalf("group %d: %v", id, err)
			}
		}
	})
}

// seal makes the checksums right, batch by batch, as far as lengths lead.
func seal(data []byte, l life) {
	var s summer
	for off := 0; len(data)-off >= batchHead; {
		h := data[off:]
		if le.Uint32(h) != batchMagic {
			return
		}
		at, body := off+batchHead, uint32(0)
		for n := le.Uint32(h[12:]); n > 0 && len(data)-at >= frameHead; n-- {
			f := data[at:]
			end := min(int64(at)+frameHead+int64(le.Uint32(f[8:])), int64(len(data)))
			le.PutUint32(f[16:], crc32.Checksum(data[at+frameHead:end], castagnoli))
			le.PutUint32(f, s.sum(l, int64(dataOffset+at), f[4:frameHead]))
			body = crc32.Update(body, castagnoli, f[:4])
			at = int(end)
		}
		le.PutUint32(h[16:], body)
		le.PutUint32(h[4:], s.sum(l, int64(dataOffset+off), h[8:batchHead]))
		length := int64(le.Uint32(h[8:]))
		if length < batchHead || length > int64(len(data)-off) {
			return
		}
		off += int(length)
	}
}
