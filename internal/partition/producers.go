package partition

import (
	"math"
	"slices"
)

// keptBatches is how many batches of a producer are remembered, as many as a
// client may have in flight (KIP-98, max.in.flight.requests.per.connection).
const keptBatches = 5

// producer is what a partition remembers of an idempotent producer.
type producer struct {
	epoch int16
	time  int64 // ms, of the entry with its last batch
	n     int
	last  [keptBatches]sequenced // the newest n, oldest first
}

// sequenced is a stored batch: its first and last sequence number and where it is.
type sequenced struct {
	first, last int32
	base        int64 // offset of its first record
}

// producers is the deduplication state of a partition, part of its replicated
// state.
type producers struct {
	byID map[int64]*producer
	// expired is the highest producer id that was ever expired: ids up to here
	// may be unknown although they wrote before.
	expired int64
}

func newProducers() *producers { return &producers{byID: make(map[int64]*producer), expired: -1} }

// check decides on a batch: duplicate tells that it is stored already, at base.
func (s *producers) check(id int64, epoch int16, first, last int32) (base int64, duplicate bool, err error) {
	p, known := s.byID[id]
	switch {
	case !known:
		if first != 0 && id > s.expired {
			return 0, false, ErrOutOfOrderSequence
		}
		return 0, false, nil
	case epoch < p.epoch:
		return 0, false, ErrProducerEpoch
	case epoch > p.epoch:
		if first != 0 {
			return 0, false, ErrOutOfOrderSequence
		}
		return 0, false, nil
	}
	for _, b := range p.last[:p.n] {
		if b.first == first && b.last == last {
			return b.base, true, nil
		}
	}
	newest := p.last[p.n-1].last
	if first == nextSequence(newest) {
		return 0, false, nil
	}
	// At most half of the number space back is the past.
	if behind := newest - last; behind >= 0 && behind < math.MaxInt32/2 {
		return 0, false, ErrDuplicateSequence
	}
	return 0, false, ErrOutOfOrderSequence
}

// store remembers a batch that check let pass.
func (s *producers) store(id int64, epoch int16, b sequenced, time int64) {
	p := s.byID[id]
	if p == nil {
		p = &producer{epoch: epoch}
		s.byID[id] = p
	}
	if epoch != p.epoch {
		p.epoch, p.n = epoch, 0
	}
	if p.n == keptBatches {
		copy(p.last[:], p.last[1:])
		p.n--
	}
	p.last[p.n] = b
	p.n++
	p.time = time
}

// expire forgets producers that wrote nothing since before (ms).
func (s *producers) expire(before int64) {
	for id, p := range s.byID {
		if p.time < before {
			delete(s.byID, id)
			s.expired = max(s.expired, id)
		}
	}
}

// idle reports whether any producer wrote nothing since before (ms).
func (s *producers) idle(before int64) bool {
	for _, p := range s.byID {
		if p.time < before {
			return true
		}
	}
	return false
}

// nextSequence wraps to 0, as KIP-98 has it.
func nextSequence(n int32) int32 {
	if n == math.MaxInt32 {
		return 0
	}
	return n + 1
}

// lastSequence of a batch that starts at first and whose last record is delta
// records on.
func lastSequence(first, delta int32) int32 {
	if first > math.MaxInt32-delta {
		return delta - (math.MaxInt32 - first) - 1
	}
	return first + delta
}

// producerState is a producer in a manifest.
type producerState struct {
	ID      int64      `json:"id"`
	Epoch   int16      `json:"epoch"`
	Time    int64      `json:"time"`    // ms
	Batches [][3]int64 `json:"batches"` // first and last sequence, base offset
}

func (s *producers) state() []producerState {
	out := make([]producerState, 0, len(s.byID))
	for id, p := range s.byID {
		ps := producerState{ID: id, Epoch: p.epoch, Time: p.time}
		for _, b := range p.last[:p.n] {
			ps.Batches = append(ps.Batches, [3]int64{int64(b.first), int64(b.last), b.base})
		}
		out = append(out, ps)
	}
	slices.SortFunc(out, func(a, b producerState) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

func restoreProducers(states []producerState, expired int64) *producers {
	s := newProducers()
	s.expired = expired
	for _, ps := range states {
		for _, b := range ps.Batches[max(0, len(ps.Batches)-keptBatches):] {
			s.store(ps.ID, ps.Epoch, sequenced{int32(b[0]), int32(b[1]), b[2]}, ps.Time)
		}
	}
	return s
}
