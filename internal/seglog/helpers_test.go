package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	xerialSnappy = 10 // not a codec of its own: snappy in the Java clients' framing
	allCodecs    = 5
)

type rec struct {
	offset, ts int64
	key, value []byte
}

// encode makes a produced batch at offset 0 of records given by ts and value.
func encode(t testing.TB, codec int, recs []rec) Batch {
	t.Helper()
	base, top := recs[0].ts, recs[0].ts
	for _, r := range recs {
		top = max(top, r.ts)
	}
	var body []byte
	for i, r := range recs {
		p := []byte{0}
		p = binary.AppendVarint(p, r.ts-base)
		p = binary.AppendVarint(p, int64(i))
		p = appendField(p, r.key)
		p = appendField(p, r.value)
		p = binary.AppendVarint(p, 1)
		p = appendField(p, []byte("h"))
		p = appendField(p, nil)
		body = append(binary.AppendVarint(body, int64(len(p))), p...)
	}
	return frame(codec, compress(t, codec, body), len(recs), base, max(top, base))
}

func appendField(p, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(p, -1)
	}
	return append(binary.AppendVarint(p, int64(len(v))), v...)
}

func frame(codec int, body []byte, n int, base, top int64) Batch {
	b := make(Batch, BatchHeaderLen, BatchHeaderLen+len(body))
	b = append(b, body...)
	be := binary.BigEndian
	be.PutUint32(b[posLength:], uint32(len(b)-batchPrefix))
	b[posMagic] = 2
	be.PutUint16(b[posAttributes:], uint16(codec)&attrCodec)
	be.PutUint32(b[posLastDelta:], uint32(n-1))
	be.PutUint64(b[posBaseTime:], uint64(base))
	be.PutUint64(b[posMaxTime:], uint64(top))
	be.PutUint64(b[posProducerID:], ^uint64(0))
	be.PutUint16(b[posProducerEp:], ^uint16(0))
	be.PutUint32(b[posBaseSeq:], ^uint32(0))
	be.PutUint32(b[posNumRecords:], uint32(n))
	be.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
	return b
}

// zstdEncoder is shared: a new one allocates megabytes.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return e
})

func compress(t testing.TB, codec int, body []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case codecNone:
		return body
	case codecSnappy:
		return snappy.Encode(nil, body)
	case xerialSnappy:
		p := append(append([]byte(nil), xerial...), 0, 0, 0, 1, 0, 0, 0, 1)
		for len(body) > 0 {
			n := min(len(body), 100)
			block := snappy.Encode(nil, body[:n])
			p = append(binary.BigEndian.AppendUint32(p, uint32(len(block))), block...)
			body = body[n:]
		}
		return p
	case codecGzip:
		w = gzip.NewWriter(&out)
	case codecLZ4:
		z := lz4.NewWriter(&out)
		if err := z.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
			t.Fatal(err)
		}
		w = z
	case codecZstd:
		return zstdEncoder().EncodeAll(body, nil)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// randomBatch has up to n records with times around now.
func randomBatch(t testing.TB, r *rand.Rand, codec, n, valueLen int, now int64) (Batch, []rec) {
	recs := make([]rec, 1+r.IntN(n))
	for i := range recs {
		recs[i].ts = now + int64(r.IntN(40)) - 20
		recs[i].value = make([]byte, r.IntN(valueLen+1))
		for k := range recs[i].value {
			recs[i].value[k] = byte(r.IntN(8))
		}
		if r.IntN(2) == 0 {
			recs[i].key = []byte{byte(i)}
		}
	}
	return encode(t, codec, recs), recs
}

func testWriter(t testing.TB, opts WriterOptions) *Writer {
	w := NewWriter(opts)
	t.Cleanup(func() { w.Close() })
	return w
}

// tinyWriter has chunks of two pages, so that everything happens often.
func tinyWriter(t testing.TB) *Writer {
	return testWriter(t, WriterOptions{TailBytes: 64 << 10, ChunkBytes: 8 << 10, ReadCacheBytes: 1 << 20, OpenFiles: 3, IndexCacheBytes: 1 << 10, IdleAfter: 10 * time.Millisecond})
}

func mustOpen(t testing.TB, opts Options, st State) *Log {
	t.Helper()
	l, err := Open(opts, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func flat(d Data) []byte {
	defer d.Release()
	return bytes.Join(d.Bytes(), nil)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 10 s: %s", what)
		}
		<-tick.C
	}
}

func readFileOf(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		t.Fatal(err)
	}
	return p
}

func wantDamage(t testing.TB, err error) *DamageError {
	t.Helper()
	var d *DamageError
	if !errors.As(err, &d) {
		t.Fatalf("error %v, want a DamageError", err)
	}
	return d
}

func logName(base int64) string   { return segmentKey{base: base}.fileName(logSuffix) }
func indexName(base int64) string { return segmentKey{base: base}.fileName(indexSuffix) }
