package partition

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"reflect"
	"slices"
	"testing"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
)

func FuzzDecodeCommand(f *testing.F) {
	for k := kindBatches; k <= lastKind; k++ {
		f.Add(command{kind: k, time: 7, arg: [2]int64{1, 2}}.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeCommand(b); err == nil && !reflect.DeepEqual(c.encode(), b) {
			t.Fatalf("%x decodes to what encodes to %x", b, c.encode())
		}
	})
}

// FuzzDecodeManifest restores from whatever passes for a manifest: its numbers
// fit, it comes out the same after another trip, and the state that is made of
// it works.
func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"log":{"start":0,"next":5},"segment_bytes":100}`))
	f.Add([]byte(`{"version":1,"log":{"start":3,"next":9,"segments":[{"base":0,"bytes":99,"crc":7,"max_ts":-1,"last_offset":8}]},` +
		`"epoch":4,"epochs":[{"epoch":1,"start":0},{"epoch":4,"start":7}],"expired_producer_id":-1,"reached":[1,2],"segment_bytes":100,` +
		`"producers":[{"id":9,"epoch":1,"time":5,"batches":[[0,4,0],[5,9,5]]},{"id":10,"epoch":0,"time":1,"batches":[]}]}`))
	f.Add([]byte(`{"version":3,"log":{"start":7,"next":7},"segment_bytes":100,"refill":99}`))
	w := seglog.NewWriter(seglog.WriterOptions{ReadCacheBytes: 1 << 20})
	f.Cleanup(func() { w.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		if m.Version < 1 || m.Version > manifestVersion || m.SegmentBytes < 1 || m.Log.Start < 0 || m.Log.Next < m.Log.Start {
			t.Fatalf("took %+v", m)
		}
		again, err := json.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		second, err := DecodeManifest(again)
		if err != nil || !reflect.DeepEqual(m.Log.Next, second.Log.Next) || len(m.Producers) != len(second.Producers) {
			t.Fatalf("%+v became %+v: %v", m, second, err)
		}
		s := restoreProducers(m.Producers, m.ExpiredID)
		for _, p := range m.Producers {
			if n := len(p.Batches); n > 0 {
				_, _, _ = s.check(p.ID, p.Epoch, int32(p.Batches[n-1][0]), int32(p.Batches[n-1][1]))
			}
			_, _, _ = s.check(p.ID, p.Epoch+1, 0, 5)
		}
		for id, p := range s.byID {
			if p.n < 1 || p.n > keptBatches {
				t.Fatalf("producer %d has %d batches", id, p.n)
			}
		}
		m.Epochs.end(3, m.Epoch, m.Log.Next)
		m.Epochs.at(m.Log.Start)
		mem := vfs.NewMem()
		l, err := seglog.Open(seglog.Options{FS: mem, Dir: "d", Writer: w}, m.Log)
		if err != nil {
			return
		}
		defer l.Close()
		if len(m.Log.Segments) > 0 {
			t.Fatal("opened segments that are not there")
		}
	})
}

// FuzzCheck: a batch with right length and checksum that passes is exactly one,
// of a kind that clients may write, and its records can be applied.
func FuzzCheck(f *testing.F) {
	b := make([]byte, 61, 80)
	be := binary.BigEndian
	be.PutUint32(b[23:], 0)
	be.PutUint32(b[57:], 1)
	b[16] = 2
	be.PutUint64(b[43:], ^uint64(0))
	b = append(b, 14, 0, 0, 0, 1, 2, 'v', 0)
	f.Add(b, false)
	f.Add(append(slices.Clone(b), b...), true)
	pid := slices.Clone(b)
	be.PutUint64(pid[43:], 9)
	f.Add(pid, false)
	f.Fuzz(func(t *testing.T, b []byte, ownLength bool) {
		if len(b) < 61 || len(b) > 1<<16 {
			return
		}
		b = slices.Clone(b)
		n := len(b)
		if ownLength { // what it says, if that can be
			n = 61 + int(be.Uint32(b[8:]))%(len(b)-60)
		}
		be.PutUint32(b[8:], uint32(n-12))
		be.PutUint32(b[17:], crc32.Checksum(b[21:n], crc32.MakeTable(crc32.Castagnoli)))
		batch, err := check(b, 1<<15)
		if err != nil {
			return
		}
		switch count := int32(be.Uint32(b[57:])); {
		case n != len(b) || len(batch) != n:
			t.Fatalf("took %d bytes of %d as one batch", n, len(b))
		case n > 1<<15:
			t.Fatalf("took %d bytes", n)
		case count < 1 || int32(be.Uint32(b[23:])) != count-1:
			t.Fatalf("took %d records with last offset delta %d", count, int32(be.Uint32(b[23:])))
		case b[22]&0x30 != 0 || b[22]&7 > 4:
			t.Fatalf("took attributes %#x", b[22])
		case int64(be.Uint64(b[43:])) >= 0 && (int32(be.Uint32(b[53:])) < 0 || int16(be.Uint16(b[51:])) < 0):
			t.Fatal("took a producer without a sequence")
		case be.Uint32(b[17:]) != crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)):
			t.Fatal("left a wrong checksum")
		}
		_ = seglog.Records(batch, func(int64, int64, []byte, []byte) bool { return true })
	})
}
