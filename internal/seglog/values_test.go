package seglog

import (
	"math/rand/v2"
	"testing"
)

// TestValues: a log has the same last values whatever was compacted in it, and
// whatever memory there is; others if one value is another.
func TestValues(t *testing.T) {
	open := func() *Log {
		return mustOpen(t, Options{FS: dirs(t), Dir: "p/log", Writer: tinyWriter(t), SegmentBytes: 4000}, State{})
	}
	a, b, other := open(), open(), open()
	k := &keyed{r: rand.New(rand.NewPCG(testSeed(t), 1))}
	for i := range 500 {
		batch := k.batch(t, 2000)
		for _, l := range []*Log{a, b, other} {
			if l == other && i == 499 {
				batch = encode(t, 0, []rec{{ts: 1, key: []byte("key-1"), value: []byte("another")}})
			}
			_, next := l.Offsets()
			if err := l.Append(batch, next, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, to := a.Offsets()
	sum := func(l *Log, memory int64) Values {
		t.Helper()
		p := l.Pin()
		defer p.Close()
		v, err := p.Values(t.Context(), ValuesRequest{From: 100, To: to}, memory)
		if err != nil {
			t.Fatal(err)
		}
		v.Bytes = 0
		return v
	}
	want := sum(a, 1<<20)
	if want.Keys == 0 {
		t.Fatal("no keys")
	}
	if got := sum(a, 1); got != want {
		t.Errorf("with little memory %+v, want %+v", got, want)
	}
	for seq := int64(1); seq <= 3; seq++ {
		compactNow(t, b, CompactRequest{Seq: seq, UpTo: upTo(b.State()) * seq / 3, SegmentBytes: 4000, Now: seq * 10, Horizon: seq*10 + 10, Memory: 1 << 20})
		if got := sum(b, 1<<20); got != want {
			t.Errorf("after compaction %d: %+v, want %+v", seq, got, want)
		}
	}
	if got := sum(other, 1<<20); got == want {
		t.Error("another last value makes no difference")
	}
}
