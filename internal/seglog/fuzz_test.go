package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func seedBatches(f *testing.F) {
	for _, codec := range []int{0, 1, 2, 3, 4, xerialSnappy} {
		f.Add([]byte(encode(f, codec, []rec{{ts: 5, value: []byte("one")}, {ts: 9, key: []byte("k")}})))
	}
}

func FuzzNextBatch(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		for rest := p; len(rest) > 0; {
			b, tail, err := NextBatch(rest)
			if err != nil {
				return
			}
			if int64(len(b)) != b.Size() || len(b)+len(tail) != len(rest) || len(b) < BatchHeaderLen {
				t.Fatalf("split %d into %d and %d", len(rest), len(b), len(tail))
			}
			b.LastOffset()
			rest = tail
		}
	})
}

func FuzzValidate(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		b := Batch(bytes.Clone(p))
		if len(b) >= BatchHeaderLen {
			recrc(b) // or nearly nothing would get past it
		}
		if b.Validate() != nil {
			return
		}
		if b.NumRecords() != b.LastOffsetDelta()+1 {
			t.Fatal("valid batch with wrong count")
		}
		b.SetBaseOffset(1 << 50)
		b.SetLeaderEpoch(9)
		if err := b.Validate(); err != nil {
			t.Fatalf("invalid once its offset is set: %v", err)
		}
	})
}

func FuzzRecords(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		n, last := 0, int64(math.MinInt64)
		err := Records(p, func(offset, _ int64, key, value []byte) bool {
			if offset <= last && n > 0 && offset-last > math.MinInt32 {
				t.Fatal("offsets do not grow")
			}
			n, last = n+1, offset
			return true
		})
		if err == nil && n != int(Batch(p).NumRecords()) {
			t.Fatalf("%d records of %d without an error", n, Batch(p).NumRecords())
		}
		RepairMaxTimestamp(bytes.Clone(p))
	})
}

func FuzzIndex(f *testing.F) {
	info := SegmentInfo{Base: 7, Bytes: 10_000, CRC: 99, LastOffset: 80}
	f.Add(encodeIndex(info, 4096, []indexEntry{{0, 0, math.MinInt64}, {40, 5000, 11}}))
	f.Add(encodeIndex(info, 4096, []indexEntry{{0, 0, math.MinInt64}, {80, 10_000 - BatchHeaderLen, 11}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		p = bytes.Clone(p)
		if len(p) >= indexHeaderLen {
			binary.LittleEndian.PutUint32(p[indexCRCPos:], indexCRC(p))
		}
		entries, err := decodeIndex(p, info)
		if err != nil {
			if !errors.Is(err, errBadIndex) {
				t.Fatal(err)
			}
			return
		}
		e := byOffset(entries, info.Base, 30)
		if int64(e.pos) >= info.Bytes || byTime(entries, 5).pos >= uint32(info.Bytes) {
			t.Fatal("entry outside of the segment")
		}
		if got := encodeIndex(info, int64(binary.LittleEndian.Uint32(p[28:])), entries); !bytes.Equal(got, p) {
			t.Fatal("does not encode to what it was decoded from")
		}
	})
}

// FuzzOpen serves arbitrary bytes as a sealed and as an active segment: there
// is a DamageError or there are batches, but no panic and no endless loop.
func FuzzOpen(f *testing.F) {
	a, b := encode(f, 0, []rec{{ts: 5, value: []byte("one")}}), encode(f, 1, []rec{{ts: 5}, {ts: 6}})
	b.SetBaseOffset(1)
	f.Add(append(bytes.Clone(a), b...), int64(2))
	f.Add(append(append(bytes.Clone(a), b...), 1, 2, 3), int64(2))
	f.Add([]byte(a), int64(0))
	w := NewWriter(WriterOptions{ReadCacheBytes: 1 << 20})
	f.Cleanup(func() { w.Close() })
	f.Fuzz(func(t *testing.T, p []byte, last int64) {
		if len(p) < BatchHeaderLen || last < 0 || last > 1000 {
			return
		}
		info := SegmentInfo{Bytes: int64(len(p)), CRC: crc32.Checksum(p, castagnoli), LastOffset: last, MaxTimestamp: -1}
		for rest := p; len(rest) >= BatchHeaderLen; {
			h := Batch(rest)
			info.MaxTimestamp = max(info.MaxTimestamp, h.maxTime())
			if h.Size() < BatchHeaderLen || h.Size() > int64(len(rest)) {
				break
			}
			rest = rest[h.Size():]
		}
		active := encode(t, 0, []rec{{ts: 1}})
		active.SetBaseOffset(last + 1)
		after := SegmentInfo{Base: last + 1, Bytes: int64(len(active)), CRC: crc32.Checksum(active, castagnoli), LastOffset: last + 1, MaxTimestamp: 1}
		for _, st := range []State{
			{Next: last + 1, Segments: []SegmentInfo{info}},
			{Next: last + 2, Segments: []SegmentInfo{info, after}},
		} {
			mem := vfs.NewMem()
			writeFile(t, mem, "d/"+logName(0), p)
			writeFile(t, mem, "d/"+logName(last+1), active)
			l, err := Open(Options{FS: mem, Dir: "d", Writer: w}, st)
			if err != nil {
				wantDamage(t, err)
				continue
			}
			for offset := int64(0); offset <= min(last, 20); offset++ {
				d, err := l.Read(offset, 100, true, math.MaxInt64)
				if err != nil {
					wantDamage(t, err)
				}
				checkPieces(t, d, offset, 100, p, active)
				d.Release()
			}
			if _, _, _, err := l.OffsetForTimestamp(2); err != nil {
				wantDamage(t, err)
			}
			if _, _, _, err := l.MaxTimestamp(); err != nil {
				wantDamage(t, err)
			}
			l.Close()
		}
	})
}

// checkPieces wants whole batches in order, from the one that holds offset (or
// follows it, where there is none) on, as they lie in one of the files, and no
// more bytes than asked for but for the first batch.
func checkPieces(t *testing.T, d Data, offset int64, maxBytes int, files ...[]byte) {
	t.Helper()
	got := bytes.Join(d.Bytes(), nil)
	if len(got) == 0 {
		return
	}
	if len(got) != d.Len() || !slices.ContainsFunc(files, func(p []byte) bool { return bytes.Contains(p, got) }) {
		t.Fatalf("read at %d: %d bytes (Len says %d) that are in no file: %x", offset, len(got), d.Len(), got)
	}
	n, next := 0, offset
	for rest := got; len(rest) > 0; n++ {
		b, tail, err := NextBatch(rest)
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if b.LastOffset() < next || n > 0 && b.BaseOffset() < next {
			t.Fatalf("read at %d: batch %d holds %d to %d, want %d or later", offset, n, b.BaseOffset(), b.LastOffset(), next)
		}
		next, rest = b.LastOffset()+1, tail
	}
	if n > 1 && len(got) > maxBytes {
		t.Fatalf("read at %d: %d bytes in %d batches, asked for %d", offset, len(got), n, maxBytes)
	}
	if d.Next() != next {
		t.Fatalf("read at %d: Next is %d, want %d", offset, d.Next(), next)
	}
}

// FuzzStage stages a segment that a peer sends, over what lies in the directory
// already: it is done only if the file is what the State says, and what is done
// can be adopted and then opens, or is told to be damaged.
func FuzzStage(f *testing.F) {
	one := encode(f, 0, []rec{{ts: 5, value: []byte("one")}, {ts: 9, key: []byte("k")}})
	f.Add([]byte(one), []byte(one[:30]), int64(len(one)), int64(1), uint8(7), uint32(0))
	f.Add([]byte(one), []byte("something else"), int64(len(one)), int64(1), uint8(200), uint32(0))
	f.Add([]byte(one), []byte{}, int64(len(one)+1), int64(0), uint8(1), uint32(1))
	f.Add([]byte(one), []byte(one), int64(len(one)), int64(1), uint8(100), uint32(7))
	w := NewWriter(WriterOptions{ReadCacheBytes: 1 << 20})
	f.Cleanup(func() { w.Close() })
	f.Fuzz(func(t *testing.T, sent, have []byte, size, last int64, piece uint8, crc uint32) {
		if len(sent) == 0 || len(sent) > 1<<14 {
			return
		}
		info := SegmentInfo{Bytes: size, CRC: crc32.Checksum(sent, castagnoli) + crc, LastOffset: last, MaxTimestamp: -1}
		if len(sent) >= BatchHeaderLen {
			info.MaxTimestamp = Batch(sent).maxTime()
		}
		st := State{Next: last + 1, Segments: []SegmentInfo{info}}
		mem := vfs.NewMem()
		writeFile(t, mem, "d/"+logName(0), have)
		calls := 0
		fetch := func(base int64, p []byte, off int64) (int, error) {
			if calls++; calls > 1<<16 {
				t.Fatal("asks without end")
			}
			if base != 0 || off < 0 {
				t.Fatalf("asks for %d of segment %d", off, base)
			}
			if off >= int64(len(sent)) {
				return 0, io.EOF
			}
			return copy(p[:min(len(p), int(piece)+1)], sent[off:]), nil
		}
		right := size == int64(len(sent)) && crc == 0 && last >= 0 && last < math.MaxInt64 && size >= BatchHeaderLen
		if err := Stage(mem, "d", st, nil, fetch, nil); err != nil {
			if right {
				t.Fatalf("what was sent is what was wanted: %v", err)
			}
			if err := Adopt(mem, "log", "d", st); !errors.Is(err, ErrNotStaged) {
				t.Fatalf("adopts what was not staged: %v", err)
			}
			return
		}
		if !right {
			t.Fatalf("staged %d bytes with crc %08x for %+v", len(sent), crc32.Checksum(sent, castagnoli), info)
		}
		if err := Adopt(mem, "log", "d", st); err != nil {
			t.Fatal(err)
		}
		l, err := Open(Options{FS: mem, Dir: "log", Writer: w}, st)
		if err != nil {
			wantDamage(t, err)
			return
		}
		defer l.Close()
		d, err := l.Read(0, 1<<20, true, math.MaxInt64)
		if err != nil {
			wantDamage(t, err) // the checksum of a batch may be wrong within a file whose own is right
			return
		}
		defer d.Release()
		checkPieces(t, d, 0, 1<<20, sent)
		if d.Len() != len(sent) {
			t.Fatalf("%d bytes of %d", d.Len(), len(sent))
		}
	})
}

func writeFile(t testing.TB, fsys vfs.FS, name string, p []byte) {
	t.Helper()
	if err := fsys.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
}
