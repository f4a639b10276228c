package node

import (
	"context"
	"time"
)

const (
	// drainPause is the time between rounds of a drain that has not ended.
	drainPause = 10 * time.Millisecond
	// latePatience is how long a drain waits for replicas that are behind, on nodes
	// that are well.
	latePatience = 3 * time.Second
)

// drain hands everything that this node leads to others before it stops, while
// all of it still serves. What nobody can take over is not waited for, and what
// nobody can yet not for long. It ends
// after Config.DrainTimeout at the latest, and at once when Hurry is called.
func (n *Node) drain(ctx context.Context) {
	began := time.Now()
	n.setShedding(shedStopping, true)
	if n.cfg.DrainTimeout < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DrainTimeout)
	defer cancel()
	led := n.leaders.count()
	var last tally
	for {
		last = n.handover.round(ctx)
		if last.left == 0 && last.moved == 0 && (last.late == 0 || time.Since(began) > latePatience) {
			break // a round that found nothing to do
		}
		select {
		case <-time.After(drainPause):
			continue
		case <-n.hurry:
		case <-ctx.Done():
		}
		break
	}
	left := n.leaders.count()
	facts := []any{"handed_over", max(0, led-left), "left", left, "for", time.Since(began).Round(time.Millisecond)}
	switch {
	case last.left > 0:
		n.log.Warn("stopping before all leaderships were handed over: the other replicas elect leaders when this node is gone", facts...)
	case left > 0:
		n.log.Info("leaderships handed over, but for those that no other replica can take", facts...)
	default:
		n.log.Info("leaderships handed over", facts...)
	}
}

// Hurry ends the wait of a Run whose context has ended: what has not been handed
// over by now is left to the other replicas. It may be called at any time.
func (n *Node) Hurry() { n.hurryOnce.Do(func() { close(n.hurry) }) }
