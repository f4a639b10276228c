package main

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1, 1, 1000}, 1},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("median changed its argument to %v", c.values)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v", got)
	}
}

// Each value must be in a bucket whose middle is within one percent, and buckets in order.
func TestHistogramBuckets(t *testing.T) {
	last := -1
	for _, ns := range []uint64{0, 1, 2, 127, 128, 129, 255, 256, 257, 1000, 65_535, 65_536, 1e6, 1e9, 1e12, math.MaxInt64} {
		b := bucket(ns)
		if b < last || b >= len((&histogram{}).counts) {
			t.Fatalf("%d ns is in bucket %d, after %d", ns, b, last)
		}
		last = b
		if off := math.Abs(float64(middle(b)) - float64(ns)); off > 0.01*float64(ns) {
			t.Errorf("%d ns is in bucket %d, which stands for %d", ns, b, middle(b))
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h, rest histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("a quantile of nothing = %v", got)
	}
	for i := 1; i <= 1000; i++ {
		if i%2 == 0 {
			h.add(time.Duration(i) * time.Microsecond)
		} else {
			rest.add(time.Duration(i) * time.Microsecond)
		}
	}
	h.merge(&rest)
	if h.count() != 1000 {
		t.Fatalf("counted %d", h.count())
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{
		{0, time.Microsecond}, {0.5, 500 * time.Microsecond}, {0.99, 990 * time.Microsecond}, {1, time.Millisecond},
	} {
		got := h.quantile(c.q)
		if off := (got - c.want).Abs(); off > c.want/100 {
			t.Errorf("quantile %v = %v, want %v", c.q, got, c.want)
		}
	}
	h.add(-time.Second) // a clock that went back counts as nothing, and does not panic
	if got := h.quantile(0); got != 0 {
		t.Errorf("the least is %v", got)
	}
}
