package main

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// subBits is how finely a histogram tells values apart: within 1/128, below one percent.
const subBits = 7

// A histogram counts durations. All methods may be called at once.
type histogram struct {
	counts [(64 - subBits) << subBits]atomic.Uint64
}

// bucket is where a value in nanoseconds is counted: the values below 128 each by
// themselves, then 128 buckets for each power of two.
func bucket(ns uint64) int {
	exp := max(0, bits.Len64(ns)-subBits-1)
	return exp<<subBits + int(ns>>exp)
}

// middle is the value that stands for a bucket.
func middle(bucket int) uint64 {
	exp := max(0, bucket>>subBits-1)
	low := uint64(bucket-exp<<subBits) << exp
	return low + (uint64(1)<<exp)/2
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(0, d)))].Add(1)
}

// merge adds what other has counted.
func (h *histogram) merge(other *histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
}

func (h *histogram) count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile returns the value that the share q of all is not above, 0 if there is none.
func (h *histogram) quantile(q float64) time.Duration {
	n := h.count()
	if n == 0 {
		return 0
	}
	rank := max(1, uint64(math.Ceil(q*float64(n))))
	for i := range h.counts {
		c := h.counts[i].Load()
		if c >= rank {
			return time.Duration(middle(i))
		}
		rank -= c
	}
	return math.MaxInt64 // counted meanwhile
}

// millis is for figures that people read.
func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// median returns the middle value, or the mean of the two in the middle; NaN if there is none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	if mid := len(s) / 2; len(s)%2 == 1 {
		return s[mid]
	} else {
		return (s[mid-1] + s[mid]) / 2
	}
}
