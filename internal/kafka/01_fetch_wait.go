package kafka

import (
	"context"
	"time"
)

// fetchWait bounds the max_wait that a client may ask for.
const fetchWait = 5 * time.Minute

// wait parks a fetch until it can be answered: enough bytes, an error, its
// time over, or the connection draining. It answers unless the connection has
// ended. No data is held while it waits.
func (op *fetchOp) wait(ctx context.Context) {
	timer := time.NewTimer(min(millis(op.req.MaxWaitMillis), fetchWait))
	defer timer.Stop()
	for {
		op.park(ctx, timer.C)
		if ctx.Err() != nil {
			op.end()
			return
		}
		if op.pass() || op.late && !op.held {
			op.answer()
			return
		}
		op.release()
	}
}

// park returns when a partition is not as the last pass saw it, or when something
// is not waited for any more.
func (op *fetchOp) park(ctx context.Context, timeout <-chan time.Time) {
	if op.bell == nil {
		op.bell = make(chan struct{}, 1)
	}
	for _, p := range op.parts {
		p.watch(op.bell)
	}
	for {
		var changed <-chan struct{}
		var election <-chan time.Time
		if op.held {
			if op.election == nil {
				op.election = time.After(op.s.opts.Limits.ElectionWait)
			}
			changed, election = op.s.backend.TopicsChanged(), op.election
			if op.oneSettled() {
				return
			}
		}
		select {
		case <-changed:
			continue
		case <-op.bell:
		case <-election:
			op.hasty = true
		case <-timeout:
			op.late = true
		case <-op.x.conn.stop:
			op.hasty, op.late = true, true
		case <-ctx.Done():
		}
		return
	}
}

// oneSettled says whether an election that the last pass saw is over.
func (op *fetchOp) oneSettled() bool {
	for _, p := range op.parts {
		if p.held && !p.part.Unsettled(p.epoch) {
			return true
		}
	}
	return false
}
