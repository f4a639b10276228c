package wal

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestWriteAmplification: a log of eight small files whose groups keep more or
// less live than it can hold writes at most twice what is appended, but for the
// first turn. Where it is too small it says so once, and goes on beyond its limit.
func TestWriteAmplification(t *testing.T) {
	first, n := seeds(t, 1)
	for seed := first; seed < first+uint64(n); seed++ {
		for _, share := range []int64{10, 20, 45, 120} { // percent of the limit that stays live
			t.Run(fmt.Sprintf("WAL_SEED=%d/%d%%", seed, share), func(t *testing.T) {
				amplifyCase(t, rand.New(rand.NewPCG(seed, uint64(share))), share)
			})
		}
	}
}

func amplifyCase(t *testing.T, r *rand.Rand, share int64) {
	opts := small(newMem(t))
	opts.SizeLimit, opts.TailBytes, opts.slowDown = 8*opts.FileSize, -1, time.Microsecond
	var said bytes.Buffer
	opts.Logger = slog.New(slog.NewTextHandler(&said, nil))
	l := open(t, opts)
	const groups = 113
	keep := opts.SizeLimit * share / 100 / groups // what each group holds back
	last := make([]uint64, groups)
	for appended := int64(0); appended < 5*opts.SizeLimit; {
		id := r.IntN(groups)
		g := l.Group(uint64(id + 1))
		size := 40 + r.IntN(200)
		last[id]++
		must(t, g.StoreLog(entry(last[id], 1, size)))
		appended += int64(size + frameHead)
		if _, live := g.Size(); live > keep {
			from, err := g.FirstIndex()
			must(t, err)
			if to := from + (last[id]-from)/2; to < last[id] {
				must(t, g.DeleteRange(from, to))
			}
		}
	}
	s := l.Stats()
	bound := 2 + float64(opts.SizeLimit)*1.5/float64(s.WrittenBytes-s.CopiedBytes)
	t.Logf("amplification %.2f, %d of %d bytes, %d live", s.WriteAmplification(), s.SizeBytes, opts.SizeLimit, s.LiveBytes)
	if a := s.WriteAmplification(); a > bound {
		t.Errorf("%.2f bytes written for each that was appended, want at most %.2f", a, bound)
	}
	must(t, l.Close())
	if n := strings.Count(said.String(), "raise --wal-size-limit"); n > 1 || n == 0 && s.SizeBytes > opts.SizeLimit+opts.FileSize {
		t.Errorf("said %d times that the limit is too small; size %d of %d", n, s.SizeBytes, opts.SizeLimit)
	}
	l = open(t, opts)
	for id := range last {
		if _, to := l.Group(uint64(id + 1)).FirstIndex(); to != nil {
			t.Fatal(to)
		}
		if got, _ := l.Group(uint64(id + 1)).LastIndex(); got != last[id] {
			t.Fatalf("group %d ends at %d, want %d", id+1, got, last[id])
		}
	}
}
