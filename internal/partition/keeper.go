package partition

import (
	"context"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	keeperInterval = 5 * time.Second
	// producerExpiry is Kafka's producer.id.expiration.ms, times seven: state is small.
	producerExpiry = 7 * 24 * time.Hour
)

// startKeeper runs the leader's upkeep until ctx ends: retention, the expiry of
// idle producers, and a changed segment size. What it decides goes through the
// log, so that all replicas do the same.
func (p *Partition) startKeeper(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(keeperInterval)
		defer tick.Stop()
		for {
			for _, ext := range p.upkeep() {
				if err := p.group.Propose(nil, ext).Error(); err != nil {
					break // no longer the leader; its successor will see to it
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return done
}

// upkeep returns the entries that are due.
func (p *Partition) upkeep() (due [][]byte) {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.log == nil || p.broken != nil {
		return nil
	}
	s, now := p.currentSettings(), p.cfg.Now()
	if s.SegmentBytes > 0 && s.SegmentBytes != p.state.segmentBytes {
		due = append(due, p.command(kindSegmentBytes, s.SegmentBytes))
	}
	if before := now.Add(-producerExpiry).UnixMilli(); p.state.producers.idle(before) {
		due = append(due, p.command(kindExpire, before))
	}
	if start := retain(p.log.State(), s, now); start > p.log.Start() {
		due = append(due, p.command(kindLogStart, start))
	}
	return due
}

// retain applies retention.ms and retention.bytes to whole segments, oldest
// first, and returns the log start. The active segment goes only when all of it
// has expired.
func retain(st seglog.State, s Settings, now time.Time) (start int64) {
	start = st.Start
	var total int64
	for _, seg := range st.Segments {
		total += seg.Bytes
	}
	for i, seg := range st.Segments {
		active := i == len(st.Segments)-1
		expired := s.RetentionTime >= 0 && seg.MaxTimestamp < now.Add(-s.RetentionTime).UnixMilli()
		over := s.RetentionBytes >= 0 && total-seg.Bytes >= s.RetentionBytes && !active
		if !expired && !over {
			return start
		}
		if active {
			return st.Next
		}
		start = st.Segments[i+1].Base
		total -= seg.Bytes
	}
	return start
}
