package seglog

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzClean compacts whatever passes for a stored batch: what is left is one too, at
// the same offsets, with some of the records and nothing else, and compacting it once
// more changes nothing.
func FuzzClean(f *testing.F) {
	for _, codec := range []int{0, 1, 2, 3, 4, xerialSnappy} {
		for which := range byte(4) {
			f.Add([]byte(encode(f, codec, []rec{
				{ts: 5, key: []byte("a"), value: []byte("one")}, {ts: 9, key: []byte("k")}, {ts: 2, value: []byte("x")}, {ts: 4, key: []byte("b"), value: []byte("y")},
			})), which, true)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, which byte, hold bool) {
		b := Batch(bytes.Clone(p))
		if len(b) >= BatchHeaderLen {
			recrc(b)
		}
		if b.ValidateStored() != nil {
			return
		}
		before, err := recordsOf(b)
		if err != nil && !b.Control() {
			return
		}
		c := batchCleaner{now: 100, horizon: 200}
		dead := func(offset int64, key []byte) bool { return which>>(offset&7)&1 != 0 && key != nil }
		out, err := c.clean(b, hold, dead)
		if err != nil {
			t.Fatal(err)
		}
		if out == nil {
			if hold || b.Control() {
				t.Fatal("nothing is left")
			}
			return
		}
		out = bytes.Clone(out)
		if err := out.ValidateStored(); err != nil {
			t.Fatalf("what is left: %v", err)
		}
		if out.BaseOffset() != b.BaseOffset() || out.LastOffset() != b.LastOffset() || out.ProducerID() != b.ProducerID() ||
			out.BaseSequence() != b.BaseSequence() || out.LeaderEpoch() != b.LeaderEpoch() {
			t.Fatal("the batch is another")
		}
		if b.Control() {
			return
		}
		after, err := recordsOf(out)
		if err != nil || int(out.NumRecords()) != len(after) {
			t.Fatalf("%d records, %d of them there: %v", out.NumRecords(), len(after), err)
		}
		for _, r := range after {
			i := slices.IndexFunc(before, func(o rec) bool { return o.offset == r.offset })
			if i < 0 || before[i].ts != r.ts || !bytes.Equal(before[i].key, r.key) || !bytes.Equal(before[i].value, r.value) || r.key == nil {
				t.Fatalf("record at %d was not there so", r.offset)
			}
		}
		again, err := c.clean(out, hold, dead)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("compacting again changes %d bytes to %d: %v", len(out), len(again), err)
		}
	})
}

func recordsOf(b Batch) (recs []rec, err error) {
	err = Records(b, func(offset, ts int64, key, value []byte) bool {
		recs = append(recs, rec{offset, ts, slices.Clone(key), slices.Clone(value)})
		return true
	})
	return recs, err
}
