package main

import (
	"context"
	"time"
)

// idle writes a message to each partition, and then leaves them alone. At last all nodes are
// killed, and started again.
func idle(ctx context.Context, e *env) (figures, error) {
	l, err := startLoad(ctx, e, loading{window: e.partitions, clients: e.cfg.clients, limit: 1})
	if err != nil {
		return nil, err
	}
	if err := l.complete(ctx, 5*time.Minute); err != nil {
		return nil, err
	}
	if err := pass(ctx, e.cfg.settle); err != nil {
		return nil, err
	}
	if err := e.measure(func() error { return pass(ctx, e.cfg.round) }); err != nil {
		return nil, err
	}
	nodes := float64(len(e.ps.nodes()))
	f := figures{"node_cores": e.used.Roles["node"] / e.used.Seconds / nodes}
	var bytes float64
	for _, p := range e.ps.nodes() {
		b, err := p.resident()
		if err != nil {
			return nil, err
		}
		bytes += b
	}
	f["node_mib"] = bytes / nodes / (1 << 20)
	if f["restart_s"], err = restart(ctx, e); err != nil {
		return nil, err
	}
	return f, nil
}

// restart returns how many seconds killed nodes take until all partitions can be written.
func restart(ctx context.Context, e *env) (float64, error) {
	for _, p := range e.ps.nodes() {
		p.kill()
	}
	began := time.Now()
	for _, p := range e.ps.nodes() {
		if err := p.start(); err != nil {
			return 0, err
		}
	}
	_, err := e.settled(ctx, 10*time.Minute)
	return time.Since(began).Seconds(), err
}
