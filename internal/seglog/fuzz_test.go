package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
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
				if n := d.Len(); n > len(p)+len(active) {
					t.Fatalf("%d bytes of %d", n, len(p))
				}
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
