package partition

import (
	"errors"
	"math"
	"reflect"
	"testing"
)

func TestSequences(t *testing.T) {
	type batch struct {
		epoch       int16
		first, last int32
		base        int64 // wanted: of a duplicate, or where it is stored
		duplicate   bool
		err         error
	}
	for name, batches := range map[string][]batch{
		"in order":                    {{0, 0, 4, 0, false, nil}, {0, 5, 9, 5, false, nil}},
		"a hole":                      {{0, 0, 4, 0, false, nil}, {0, 6, 9, 0, false, ErrOutOfOrderSequence}},
		"the first is not 0":          {{0, 5, 9, 0, false, ErrOutOfOrderSequence}},
		"sent again":                  {{0, 0, 4, 0, false, nil}, {0, 5, 9, 5, false, nil}, {0, 0, 4, 0, true, nil}, {0, 5, 9, 5, true, nil}},
		"sent again, cut differently": {{0, 0, 4, 0, false, nil}, {0, 0, 3, 0, false, ErrDuplicateSequence}},
		"a new epoch begins at 0":     {{0, 0, 4, 0, false, nil}, {1, 0, 4, 5, false, nil}, {1, 0, 4, 5, true, nil}},
		"a new epoch in the middle":   {{0, 0, 4, 0, false, nil}, {1, 5, 9, 0, false, ErrOutOfOrderSequence}},
		"an old epoch":                {{1, 0, 4, 0, false, nil}, {0, 5, 9, 0, false, ErrProducerEpoch}},
		"older than what is kept":     {{0, 0, 0, 0, false, nil}, {0, 1, 1, 1, false, nil}, {0, 2, 2, 2, false, nil}, {0, 3, 3, 3, false, nil}, {0, 4, 4, 4, false, nil}, {0, 5, 5, 5, false, nil}, {0, 0, 0, 0, false, ErrDuplicateSequence}, {0, 1, 1, 1, true, nil}},
	} {
		s, next := newProducers(), int64(0)
		for i, b := range batches {
			base, duplicate, err := s.check(7, b.epoch, b.first, b.last)
			if !errors.Is(err, b.err) || duplicate != b.duplicate || duplicate && base != b.base {
				t.Fatalf("%s: batch %d: got base %d, duplicate %v, %v", name, i, base, duplicate, err)
			}
			if err == nil && !duplicate {
				s.store(7, b.epoch, sequenced{b.first, b.last, next}, int64(i))
				next += int64(b.last-b.first) + 1
			}
			again := restoreProducers(s.state(), s.expired)
			if !reflect.DeepEqual(again, s) {
				t.Fatalf("%s: a manifest changes the state after batch %d", name, i)
			}
		}
	}
}

func TestSequencesWrap(t *testing.T) {
	const max = math.MaxInt32
	if got := lastSequence(max-1, 3); got != 1 {
		t.Fatalf("four records from %d end at %d, want 1", max-1, got)
	}
	s := newProducers()
	s.store(1, 0, sequenced{max - 4, max, 0}, 0)
	if _, _, err := s.check(1, 0, 0, 5); err != nil {
		t.Fatalf("0 follows %d: %v", max, err)
	}
}

func TestExpiredProducerMayGoOn(t *testing.T) {
	s := newProducers()
	s.store(3, 0, sequenced{0, 9, 0}, 100)
	s.store(4, 0, sequenced{0, 9, 10}, 200)
	s.expire(150)
	if _, _, err := s.check(3, 0, 10, 19); err != nil {
		t.Fatalf("an expired producer goes on: %v", err)
	}
	if _, _, err := s.check(5, 0, 10, 19); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatalf("a producer that never wrote begins in the middle: got %v", err)
	}
}
