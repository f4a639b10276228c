package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/internal/seglog"
)

// Layout is what a replica's segments are.
type Layout struct {
	// CompactedUpTo is where the part ends that was compacted, or may be at any
	// time. Behind it there is what was appended, batch for batch.
	CompactedUpTo int64        `json:"compacted_up_to"`
	Log           seglog.State `json:"log"`
}

// Layout returns what this replica's segments are.
func (p *Partition) Layout() (l Layout, err error) {
	log, err := p.stored()
	if err != nil {
		return l, err
	}
	p.applyMu.Lock()
	pending := p.state.compactions.pending(log)
	st := log.State()
	p.applyMu.Unlock()
	l.CompactedUpTo, l.Log = st.Compacted.UpTo, st
	for _, c := range pending {
		l.CompactedUpTo = max(l.CompactedUpTo, c.UpTo)
	}
	for _, s := range st.Segments {
		if s.Generation > 0 {
			l.CompactedUpTo = max(l.CompactedUpTo, s.LastOffset+1)
		}
	}
	return l, nil
}

// Values sums up the last value of each key in a range below this replica's high
// watermark. It takes up to memory bytes for the keys.
func (p *Partition) Values(ctx context.Context, r seglog.ValuesRequest, memory int64) (v seglog.Values, err error) {
	log, err := p.stored()
	if err != nil {
		return v, err
	}
	pin := log.Pin()
	defer func() { err = errors.Join(err, pin.Close()) }()
	if next := pin.State().Next; r.To > next {
		return v, fmt.Errorf("values up to offset %d: this replica has applied all before %d only", r.To, next)
	}
	return pin.Values(ctx, r, memory)
}

// Graft replaces the beginning of the log, with a damaged segment in it, by another
// replica's segments (seglog.Log.Graft).
func (p *Partition) Graft(ctx context.Context, damaged int64, from seglog.State, fetch seglog.Fetch) error {
	log, err := p.stored()
	if err != nil {
		return err
	}
	err = log.Graft(ctx, damaged, from, fetch)
	p.freeSoon(log)
	return err
}
