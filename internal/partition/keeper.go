package partition

import (
	"cmp"
	"context"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	upkeepInterval = 5 * time.Second
	// keeperTurns: partitions do their upkeep in so many turns, each turn's at the
	// same time. A thousand idle ones wake the process three times a second.
	keeperTurns = 16
	// producerExpiry is Kafka's producer.id.expiration.ms, times seven: state is small.
	producerExpiry = 7 * 24 * time.Hour
	// activeStay is Kafka's log.retention.check.interval.ms: for so long records that
	// come with timestamps beyond retention.ms can be read at least. Kafka looks
	// every five minutes only; the upkeep would have them gone at once.
	activeStay = 5 * time.Minute
)

// startKeeper runs the leader's upkeep until ctx ends: retention, compaction, the
// expiry of idle producers, and segments that are old or of a changed size. What it
// decides goes through the log, so that all replicas do the same.
func (p *Partition) startKeeper(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		every := cmp.Or(p.cfg.UpkeepInterval, upkeepInterval)
		next := time.NewTimer(0)
		defer next.Stop()
		for {
			next.Reset(untilTurn(time.Now(), p.cfg.Replica, every))
			for _, ext := range p.upkeep() {
				if err := p.group.Propose(nil, ext).Error(); err != nil {
					break // no longer the leader; its successor will see to it
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-next.C:
			}
		}
	}()
	return done
}

// untilTurn is how long it is until a replica's next turn.
func untilTurn(now time.Time, replica uint64, every time.Duration) time.Duration {
	turn := every / keeperTurns * time.Duration(replica%keeperTurns)
	return every - (time.Duration(now.UnixNano())-turn)%every
}

// upkeep returns the entries that are due.
func (p *Partition) upkeep() (due [][]byte) {
	s, now, size := p.currentSettings(), p.cfg.Now(), p.segmentBytes()
	p.applyMu.Lock()
	if p.log == nil || p.broken != nil || p.state.refill != 0 {
		p.applyMu.Unlock()
		return nil
	}
	if size > 0 && size != p.state.segmentBytes {
		due = append(due, p.command(kindSegmentBytes, size))
	}
	if before := now.Add(-producerExpiry).UnixMilli(); p.state.producers.idle(before) {
		due = append(due, p.command(kindExpire, before))
	}
	if base, ok := p.log.Active(); ok && p.state.active.old(s, now) {
		due = append(due, p.command(kindRoll, base))
	}
	log, st, busy := p.log, p.log.State(), len(p.state.compactions.pending(p.log)) > 0
	stays := p.state.active.stays(s, now)
	p.applyMu.Unlock()
	// Replicas compact at different times. If the log start rose between, they
	// would make different segments of the same records; a compaction that does
	// not get on must not keep a full disk from getting space, though.
	if start := retain(st, s, now, stays); start > st.Start && (!busy || p.stuck.Load()) {
		due = append(due, p.command(kindLogStart, start))
	}
	if upTo, ok := planCompaction(st, s, now, log.FirstTimestamp); ok && !busy {
		due = append(due, p.command(kindCompact, upTo, s.DeleteRetention.Milliseconds()))
	}
	return due
}

// retain applies retention.ms and retention.bytes to whole segments, oldest
// first, and returns the log start. The active segment goes only when all of it
// has expired, and not while it stays for being new.
func retain(st seglog.State, s Settings, now time.Time, stays bool) (start int64) {
	start = st.Start
	if !s.CleanupDelete {
		return start
	}
	var total int64
	for _, seg := range st.Segments {
		total += seg.Bytes
	}
	for i, seg := range st.Segments {
		active := i == len(st.Segments)-1
		expired := s.RetentionTime >= 0 && seg.MaxTimestamp < now.Add(-s.RetentionTime).UnixMilli()
		over := s.RetentionBytes >= 0 && total-seg.Bytes >= s.RetentionBytes && !active
		if !expired && !over || active && stays {
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
