package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (l *local) faults() []fault {
	all := []fault{
		{name: "restart", begin: l.restart},
		{name: "partition", begin: l.partition},
		{name: "one-way", begin: l.oneWay},
		{name: "flap", begin: l.flap},
		{name: "delay", begin: l.delay},
		{name: "loss", begin: l.loss},
		{name: "reset", begin: l.reset},
		{name: "etcd", begin: l.etcdAway},
		{name: "lease", begin: l.revoke},
	}
	if l.cfg.Program != "" {
		all = append(all, fault{name: "kill", begin: l.kill}, fault{name: "pause", begin: l.pause})
	}
	return all
}

// kill kills some nodes, and starts them again.
func (l *local) kill(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	return l.down(l.some(rnd), func(m *member) error { return m.runs.(killable).kill() })
}

// restart ends a node in order, and starts it again.
func (l *local) restart(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	return l.down(l.some(rnd)[:1], func(m *member) error { return m.runs.stop() })
}

// down ends nodes one way or another.
func (l *local) down(nodes []*member, end func(*member) error) (string, func() error, error) {
	var gone []*member
	for _, m := range nodes {
		if m.runs == nil || m.paused || m.runs.ended() != nil {
			continue
		}
		if err := end(m); err != nil {
			return "", nil, err
		}
		m.runs = nil
		gone = append(gone, m)
	}
	if len(gone) == 0 {
		return "", nil, errNotNow
	}
	return names(gone), func() error {
		var errs []error
		for _, m := range gone {
			var err error
			if m.runs, err = m.start(); err != nil {
				m.runs = nil
				errs = append(errs, fmt.Errorf("start node %d again: %w", m.id, err))
			}
		}
		return errors.Join(errs...)
	}, nil
}

// pause stops processes by SIGSTOP, and lets them go on.
func (l *local) pause(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	var stopped []*member
	end := func() error {
		var errs []error
		for _, m := range stopped {
			m.paused = false
			errs = append(errs, m.runs.(killable).goOn())
		}
		return errors.Join(errs...)
	}
	for _, m := range l.some(rnd) {
		if m.runs == nil || m.paused {
			continue
		}
		if err := m.runs.(killable).pause(); err != nil {
			return "", nil, errors.Join(err, end())
		}
		m.paused = true
		stopped = append(stopped, m)
	}
	if len(stopped) == 0 {
		return "", nil, errNotNow
	}
	return names(stopped), end, nil
}

// side chooses directions from some nodes to the others.
func (l *local) side(rnd *rand.Rand) (out, in [][2]int32, what string) {
	n := len(l.nodes)
	perm := rnd.Perm(n)
	k := 1 + rnd.IntN(max(n/2, 1))
	var a, b []*member
	for i, at := range perm {
		if i < k {
			a = append(a, l.nodes[at])
		} else {
			b = append(b, l.nodes[at])
		}
	}
	if rnd.IntN(3) == 0 && len(b) > 1 {
		b = b[:1] // a pair, or a few
	}
	for _, x := range a {
		for _, y := range b {
			out, in = append(out, [2]int32{x.id, y.id}), append(in, [2]int32{y.id, x.id})
		}
	}
	return out, in, fmt.Sprintf("%s and %s", names(a), names(b))
}

// rules sets a rule, and takes it away.
func (l *local) rules(r rule, reset bool, ds [][2]int32, what string) (string, func() error, error) {
	l.net.set(r, reset, ds...)
	return what, func() error { l.net.set(rule{}, reset, ds...); return nil }, nil
}

func (l *local) partition(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	out, in, what := l.side(rnd)
	return l.rules(rule{held: true}, rnd.IntN(2) == 0, append(out, in...), "between "+what)
}

func (l *local) oneWay(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	out, _, what := l.side(rnd)
	return l.rules(rule{held: true}, false, out, "between "+what+", to the latter")
}

func (l *local) delay(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	out, in, what := l.side(rnd)
	d := time.Duration(1+rnd.IntN(300)) * time.Millisecond
	return l.rules(rule{delay: d}, false, append(out, in...), fmt.Sprintf("of %s between %s", d, what))
}

func (l *local) loss(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	out, in, what := l.side(rnd)
	percent := 1 + rnd.IntN(40)
	return l.rules(rule{stall: float64(percent) / 100}, false, append(out, in...), fmt.Sprintf("of %d %% between %s", percent, what))
}

// reset breaks connections, once.
func (l *local) reset(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	out, _, what := l.side(rnd)
	l.net.set(rule{}, true, out...)
	return "between " + what, nil, nil
}

// flap cuts and joins again, many times.
func (l *local) flap(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	out, in, what := l.side(rnd)
	ds := append(out, in...)
	every := time.Duration(20+rnd.IntN(500)) * time.Millisecond
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		defer l.net.set(rule{}, false, ds...)
		for cut := true; ; cut = !cut {
			l.net.set(rule{held: cut}, cut, ds...)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	return fmt.Sprintf("every %s between %s", every, what), func() error { close(stop); wg.Wait(); return nil }, nil
}

// etcdAway keeps the nodes from etcd: it hangs, is slow, or breaks connections.
func (l *local) etcdAway(_ context.Context, rnd *rand.Rand) (string, func() error, error) {
	ds := [][2]int32{{-1, etcdNode}, {etcdNode, -1}}
	switch rnd.IntN(3) {
	case 0:
		return l.rules(rule{delay: time.Duration(50+rnd.IntN(1000)) * time.Millisecond}, false, ds, "slow")
	case 1:
		return l.rules(rule{held: true}, true, ds, "away, connections broken")
	}
	return l.rules(rule{held: true}, false, ds, "away")
}

// revoke revokes leases: of one node, or of all.
func (l *local) revoke(ctx context.Context, rnd *rand.Rand) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	prefix := "/raftsman/" + clusterName + "/nodes/"
	chosen := l.some(rnd)
	revoked := 0
	for _, m := range chosen {
		got, err := l.keys.Get(ctx, prefix+fmt.Sprint(m.id))
		if err != nil {
			return "", nil, err
		}
		if len(got.Kvs) == 1 && got.Kvs[0].Lease != 0 {
			if _, err := l.keys.Revoke(ctx, clientv3.LeaseID(got.Kvs[0].Lease)); err != nil {
				return "", nil, err
			}
			revoked++
		}
	}
	if revoked == 0 {
		return "", nil, errNotNow
	}
	return "of " + names(chosen), nil, nil
}
