package partition

import (
	"context"
	"errors"
	"math"

	"github.com/raftsman/raftsman/internal/seglog"
)

// Compaction is one that the leader has decided. It may have been carried out
// here already.
type Compaction struct {
	Seq          int64 `json:"seq"`
	UpTo         int64 `json:"up_to"`
	Time         int64 `json:"time"`           // ms, of the entry
	Horizon      int64 `json:"delete_horizon"` // ms: when the tombstones that it meets first may go
	SegmentBytes int64 `json:"segment_bytes"`
}

// maxCompactions bounds what a replica that does not get on has to carry out. The
// oldest are left out then: the next does as much, in other steps.
const maxCompactions = 100

// compactions are part of the replicated state.
type compactions struct {
	seq  int64
	list []Compaction
}

// pending returns what the log does not know of yet.
func (c *compactions) pending(log *seglog.Log) []Compaction {
	done := log.Compacted().Seq
	for len(c.list) > 0 && c.list[0].Seq <= done {
		c.list = c.list[1:]
	}
	return append([]Compaction(nil), c.list...)
}

func (p *Partition) noteCompaction(c command) {
	all := &p.state.compactions
	all.seq++
	horizon := c.time + max(c.arg[1], 0)
	if horizon < c.time {
		horizon = math.MaxInt64
	}
	all.list = append(all.pending(p.log), Compaction{
		Seq: all.seq, UpTo: min(max(c.arg[0], 0), p.next), Time: c.time, Horizon: horizon, SegmentBytes: p.state.segmentBytes,
	})
	if n := len(all.list); n > maxCompactions {
		all.list = all.list[n-maxCompactions:]
	}
	p.tellCompactions()
}

func (p *Partition) tellCompactions() {
	if p.cfg.OnCompaction != nil && len(p.state.compactions.list) > 0 {
		p.cfg.OnCompaction()
	}
}

// CompactLimits are what a compaction may take.
type CompactLimits struct {
	Memory int64                                      // bytes, for keys
	Wait   func(ctx context.Context, bytes int) error // before that is read or written; nil: nobody is
}

// Compact carries out the oldest compaction that was decided and not carried out
// yet; ok is false if there is none. It may be called again after an error, and
// goes on where it was. One call at a time.
func (p *Partition) Compact(ctx context.Context, limits CompactLimits) (stats seglog.CompactStats, ok bool, err error) {
	log, err := p.stored()
	if errors.Is(err, ErrClosed) {
		return stats, false, nil
	}
	if err != nil {
		return stats, false, err
	}
	p.applyMu.Lock()
	pending := p.state.compactions.pending(log)
	p.applyMu.Unlock()
	if len(pending) == 0 {
		return stats, false, nil
	}
	c := pending[0]
	stats, err = log.Compact(ctx, seglog.CompactRequest{
		Seq: c.Seq, UpTo: c.UpTo, SegmentBytes: c.SegmentBytes, Now: c.Time, Horizon: c.Horizon,
		Memory: limits.Memory, Wait: limits.Wait,
	})
	if errors.Is(err, seglog.ErrClosed) {
		return stats, false, nil // it goes on when the replica is open again
	}
	p.stuck.Store(err != nil && ctx.Err() == nil)
	p.freeSoon(log)
	return stats, true, err
}

// freeSoon has a manifest written soon if there are files that only the last one
// still names: they go with the next.
func (p *Partition) freeSoon(log *seglog.Log) {
	if g := p.opened.Load(); g != nil && log.Obsolete() > 0 {
		g.WantSnapshot()
	}
}

// DirtyBytes is how much there is in sealed segments that was never compacted; 0 if
// the topic is not compacted.
func (p *Partition) DirtyBytes() (bytes int64) {
	if !p.currentSettings().CleanupCompact {
		return 0
	}
	log, err := p.stored()
	if err != nil {
		return 0
	}
	st := log.State()
	for i, seg := range st.Segments {
		if sealed := st.Sealed || i < len(st.Segments)-1; sealed && seg.LastOffset >= st.Compacted.UpTo {
			bytes += seg.Bytes
		}
	}
	return bytes
}

// Compacting is how many compactions were decided and not carried out here yet.
func (p *Partition) Compacting() int {
	log, err := p.stored()
	if err != nil {
		return 0
	}
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	return len(p.state.compactions.pending(log))
}
