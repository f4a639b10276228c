package main

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// afterKill is how long after a leader's death gaps count that come of it. Later ones are those
// of its restart.
const afterKill = 5 * time.Second

// failover kills the leader of partition 0 under load, again and again.
func failover(ctx context.Context, e *env) (figures, error) {
	l, err := startLoad(ctx, e, loading{window: e.cfg.window, clients: e.cfg.clients, lossy: true})
	if err != nil {
		return nil, err
	}
	defer l.close()
	if err := pass(ctx, e.cfg.warm); err != nil {
		return nil, err
	}
	var gaps []float64
	err = e.measure(func() error {
		for range e.cfg.kills {
			gap, err := kill(ctx, e, l)
			if err != nil {
				return err
			}
			gaps = append(gaps, millis(gap))
		}
		_, err := e.settled(ctx, 5*time.Minute) // the last one that was killed is back
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := l.finish(ctx); err != nil {
		return nil, err
	}
	f := figures{"gap_ms": median(gaps), "gap_max_ms": 0, "resent": float64(l.failed.Load())}
	for i, g := range gaps {
		f["gap_max_ms"] = max(f["gap_max_ms"], g)
		f[fmt.Sprintf("gap_ms.%02d", i+1)] = g
	}
	return f, nil
}

// kill kills a leader, returns the longest time without an acknowledgement that any partition
// had of it, and has the node back.
func kill(ctx context.Context, e *env, l *load) (gap time.Duration, err error) {
	leaders, err := e.settled(ctx, 5*time.Minute)
	if err != nil {
		return 0, err
	}
	victim := e.ps.nodes()[leaders[0]]
	l.forget()
	if err := victim.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill %s: %w", victim.name, err)
	}
	if err := pass(ctx, afterKill); err != nil {
		return 0, err
	}
	err = eventually(ctx, 2*time.Minute, func() error {
		longest, silent := l.gap()
		if silent > 0 {
			return fmt.Errorf("%d partitions take nothing since %s was killed%s", silent, victim.name, l.said())
		}
		gap = longest
		return nil
	})
	if err != nil {
		return 0, err
	}
	<-victim.done
	return gap, victim.start()
}
