package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func recrc(b Batch) {
	binary.BigEndian.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
}

func TestValidate(t *testing.T) {
	set16 := func(at int, v uint16) func(Batch) {
		return func(b Batch) { binary.BigEndian.PutUint16(b[at:], v); recrc(b) }
	}
	set32 := func(at int, v uint32) func(Batch) {
		return func(b Batch) { binary.BigEndian.PutUint32(b[at:], v); recrc(b) }
	}
	set64 := func(at int, v int64) func(Batch) {
		return func(b Batch) { binary.BigEndian.PutUint64(b[at:], uint64(v)); recrc(b) }
	}
	for _, c := range []struct {
		name   string
		change func(Batch)
		want   error
	}{
		{"as it is", func(Batch) {}, nil},
		{"base offset is not covered", func(b Batch) { b.SetBaseOffset(1 << 40) }, nil},
		{"leader epoch is not covered", func(b Batch) { b.SetLeaderEpoch(77) }, nil},
		{"magic 1", func(b Batch) { b[posMagic] = 1 }, ErrUnsupportedMagic},
		{"length too long", func(b Batch) { b[posLength+3]++ }, ErrCorrupt},
		{"length too short", func(b Batch) { b[posLength+3]-- }, ErrCorrupt},
		{"negative length", func(b Batch) { b[posLength] = 0x80 }, ErrCorrupt},
		{"flipped bit", func(b Batch) { b[len(b)-1] ^= 1 }, ErrCorrupt},
		{"wrong crc", func(b Batch) { b[posCRC] ^= 1 }, ErrCorrupt},
		{"codec 5", set16(posAttributes, 5), ErrUnknownCodec},
		{"codec 7", set16(posAttributes, 7), ErrUnknownCodec},
		{"log append time", set16(posAttributes, attrAppendTime), nil},
		{"one record more", set32(posNumRecords, 4), ErrCorrupt},
		{"one record less", set32(posNumRecords, 2), ErrCorrupt},
		{"negative record count", set32(posNumRecords, 1<<31), ErrCorrupt},
		{"last offset delta -1", set32(posLastDelta, 1<<32-1), ErrCorrupt},
		{"max timestamp unset", set64(posMaxTime, -1), nil},
		{"max timestamp before base", set64(posMaxTime, 4), ErrInvalidTimestamp},
		{"max timestamp negative", set64(posMaxTime, -2), ErrInvalidTimestamp},
		{"base timestamp negative", set64(posBaseTime, -2), ErrInvalidTimestamp},
	} {
		b := encode(t, 0, []rec{{ts: 5}, {ts: 9, key: []byte("k")}, {ts: 7, value: []byte("v")}})
		c.change(b)
		if err := b.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	many := frame(0, make([]byte, 20), 3, 0, 0)
	if err := many.Validate(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("3 records in 20 bytes: %v", err)
	}
}

func TestNextBatch(t *testing.T) {
	a, b := encode(t, 0, []rec{{ts: 1}}), encode(t, 4, []rec{{ts: 2}, {ts: 3}})
	buf := append(append([]byte(nil), a...), b...)
	one, rest, err := NextBatch(buf)
	if err != nil || !bytes.Equal(one, a) {
		t.Fatal(err)
	}
	two, rest, err := NextBatch(rest)
	if err != nil || !bytes.Equal(two, b) || len(rest) != 0 {
		t.Fatal(err)
	}
	for n := range len(a) {
		if _, _, err := NextBatch(a[:n]); err == nil {
			t.Fatalf("%d of %d bytes pass for a batch", n, len(a))
		}
	}
}

func TestRecordsOfEveryCodec(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, codec := range []int{0, 1, 2, 3, 4, xerialSnappy} {
		for range 20 {
			b, recs := randomBatch(t, r, codec, 50, 200, 1000)
			b.SetBaseOffset(70)
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			i := 0
			err := Records(b, func(offset, ts int64, key, value []byte) bool {
				want := recs[i]
				if offset != 70+int64(i) || ts != want.ts || !bytes.Equal(key, want.key) || !bytes.Equal(value, want.value) {
					t.Fatalf("codec %d: record %d differs", codec, i)
				}
				i++
				return true
			})
			if err != nil || i != len(recs) {
				t.Fatalf("codec %d: %d of %d records, %v", codec, i, len(recs), err)
			}
			b.SetMaxTimestamp(5555, true)
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			err = Records(b, func(_, ts int64, _, _ []byte) bool { i--; return ts == 5555 })
			if err != nil || i != 0 {
				t.Fatal("log append time is not that of every record")
			}
		}
	}
}

// TestBombs: little input that wants to become much.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for _, codec := range []int{1, 2, 3, 4, xerialSnappy} {
		p := compress(t, codec, zeros)
		codec %= xerialSnappy - codecSnappy
		if _, err := decompressUpTo(codec, p, len(zeros)-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("codec %d: %v, want ErrTooLarge", codec, err)
		}
		if out, err := decompressUpTo(codec, p, len(zeros)); err != nil || len(*out) != len(zeros) {
			t.Errorf("codec %d: %v", codec, err)
		}
	}
	lie := binary.AppendUvarint(nil, 100<<20)
	b := frame(codecSnappy, append(lie, 0, 0, 0), 1, 0, 0)
	if err := Records(b, func(int64, int64, []byte, []byte) bool { return true }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("snappy: %v, want ErrCorrupt", err)
	}
}

func TestRepairMaxTimestamp(t *testing.T) {
	for codec := range allCodecs {
		b := encode(t, codec, []rec{{ts: 50}, {ts: 90}, {ts: 70}})
		if changed, err := RepairMaxTimestamp(b); changed || err != nil {
			t.Fatalf("changed a batch that needs no repair (%v)", err)
		}
		b.SetMaxTimestamp(-1, false)
		if changed, err := RepairMaxTimestamp(b); !changed || err != nil {
			t.Fatalf("not repaired: %v", err)
		}
		if err := b.Validate(); err != nil || b.MaxTimestamp() != 90 {
			t.Fatalf("max timestamp %d, %v", b.MaxTimestamp(), err)
		}
	}
}
