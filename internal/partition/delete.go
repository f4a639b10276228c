package partition

import (
	"errors"
	"fmt"
	"math"
)

// ErrPolicy: the topic is compacted only, and keeps the last record of each key.
var ErrPolicy = errors.New("can not be deleted due to the configured policy")

// DeleteRecords raises the log start to offset, or to the high watermark for -1,
// and returns the log start once that is committed and applied here. The log
// start never goes back: an offset below it changes nothing. Errors:
// ErrNotLeader, ErrOutOfRange above the high watermark, ErrPolicy, ErrStorage.
func (p *Partition) DeleteRecords(offset int64) (logStart int64, err error) {
	p.mu.Lock()
	o, leading, s := p.offsets, p.leading, p.settings
	p.mu.Unlock()
	if offset == -1 {
		offset = o.HighWatermark
	}
	switch {
	case !leading:
		return -1, ErrNotLeader
	case s.CleanupCompact && !s.CleanupDelete:
		return -1, fmt.Errorf("records of partition %s-%d %w", p.cfg.Topic, p.cfg.Index, ErrPolicy)
	case offset < 0 || offset > o.HighWatermark:
		return -1, ErrOutOfRange
	case offset <= o.Start:
		return o.Start, nil
	}
	f := p.group.Propose(nil, p.command(kindLogStart, offset))
	if err := f.Error(); err != nil {
		return -1, proposeError(err)
	}
	out, ok := f.Response().(*outcome)
	if !ok {
		return -1, ErrStorage
	}
	if out.err != nil {
		return -1, out.err
	}
	o, _ = p.Offsets()
	return o.Start, nil
}

// Producer is what the partition remembers of an idempotent producer.
type Producer struct {
	ID           int64
	Epoch        int16
	LastSequence int32
	LastTime     int64 // ms, of its last batch by the leader's clock
}

// Producers lists the idempotent producers by id. The error is ErrNotLeader.
func (p *Partition) Producers() ([]Producer, error) {
	if _, leading := p.Offsets(); !leading {
		return nil, ErrNotLeader
	}
	p.applyMu.Lock()
	states := p.state.producers.state()
	p.applyMu.Unlock()
	list := make([]Producer, 0, len(states))
	for _, s := range states {
		one := Producer{ID: s.ID, Epoch: s.Epoch, LastSequence: -1, LastTime: s.Time}
		if n := len(s.Batches); n > 0 {
			one.LastSequence = int32(min(s.Batches[n-1][1], math.MaxInt32))
		}
		list = append(list, one)
	}
	return list, nil
}
