package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// env is what a workload has in a round.
type env struct {
	cfg        *config
	system     *system
	ps         *processes
	client     client
	partitions int
	ledgers    []*ledger // by partition
	used       usage     // in the spans that count
}

// figures are what a workload found, by name.
type figures map[string]float64

// run makes all rounds: for each workload the systems in turn, round after round.
func run(ctx context.Context, cfg *config) error {
	out, err := openResults(ctx, cfg)
	if err != nil {
		return err
	}
	defer out.close()
	release, err := fillCache(ctx, cfg)
	if err != nil {
		return err
	}
	defer release()
	var incomplete error
	for _, w := range cfg.chosen {
		for n := range cfg.roundsOf(w) {
			for _, s := range cfg.systems {
				if w.why(s) != "" {
					continue
				}
				if err := counted(ctx, cfg, out, w, s, n+1); err != nil {
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					incomplete = errors.Join(incomplete, err)
				}
			}
		}
	}
	out.table(os.Stdout)
	return incomplete
}

// counted repeats a round until nothing disturbed it.
func counted(ctx context.Context, cfg *config, out *results, w *choice, s *system, n int) error {
	for try := range cfg.tries {
		r := oneRound(ctx, cfg, w, s)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.Round, r.Try = n, try+1
		if err := out.add(r); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, r.line())
		if r.Error != "" {
			return fmt.Errorf("%s of %s, round %d: %s", w, s.name, n, r.Error)
		}
		if r.Discarded == "" {
			return nil
		}
	}
	return fmt.Errorf("%s of %s: round %d was disturbed %d times: stop what else runs here, or raise -others and say so", w, s.name, n, cfg.tries)
}

// oneRound starts the system, runs the workload, reads back what was acknowledged, and stops it.
func oneRound(ctx context.Context, cfg *config, w *choice, s *system) (r round) {
	r = round{Kind: "round", Time: time.Now().UTC().Truncate(time.Second), Workload: w.String(), System: s.name}
	failed := func(err error) round {
		r.Error = err.Error()
		return r
	}
	dir, err := os.MkdirTemp(cfg.dir, "round-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	ps := &processes{dir: dir}
	defer ps.stop()
	cl, err := s.start(ctx, cfg, ps)
	if err != nil {
		return failed(err)
	}
	defer cl.close()
	e := &env{cfg: cfg, system: s, ps: ps, client: cl, partitions: w.partitions}
	for range w.partitions {
		e.ledgers = append(e.ledgers, &ledger{})
	}
	if err := e.create(ctx); err != nil {
		return failed(err)
	}
	runtime.GC() // what earlier rounds left is not this one's
	r.Figures, err = w.run(ctx, e)
	r.Usage = e.used
	if err != nil {
		for _, p := range ps.all {
			err = errors.Join(err, p.ended())
		}
		return failed(err)
	}
	if r.Verdict, err = verify(ctx, e); err != nil {
		return failed(fmt.Errorf("read back: %w", err))
	}
	if err := r.Verdict.err(); err != nil {
		return failed(err)
	}
	r.Discarded = disturbed(e.used, cfg.others)
	return r
}

// disturbed says why a round does not count, "" if it does.
func disturbed(u usage, limit float64) string {
	if foreign := u.foreign(); foreign > limit {
		return fmt.Sprintf("others used %.2f of a core, more than %.2f", foreign, limit)
	}
	return ""
}

// create makes the partitions and waits until all replicas are there.
func (e *env) create(ctx context.Context) error {
	limit := time.Minute + time.Duration(e.partitions)*200*time.Millisecond
	err := e.ps.until(ctx, "the partitions' creation", limit, func(ctx context.Context) error {
		return e.client.create(ctx, e.partitions, e.cfg.retain)
	})
	if err != nil {
		return err
	}
	_, err = e.settled(ctx, limit)
	return err
}

// settled waits until all partitions have a leader and no replica is behind, and returns the
// leaders.
func (e *env) settled(ctx context.Context, limit time.Duration) (leaders []int, err error) {
	answer := 2*time.Second + time.Duration(e.partitions)*time.Millisecond // what is not answered by then is lost
	err = e.ps.until(ctx, "all replicas", limit, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, answer)
		defer cancel()
		leaders, err = e.client.leaders(ctx)
		if err == nil && len(leaders) != e.partitions {
			err = fmt.Errorf("%d of %d partitions", len(leaders), e.partitions)
		}
		return err
	})
	return leaders, err
}

// measure counts what is used while f runs. Several spans add up.
func (e *env) measure(f func() error) error {
	before, err := takeSample()
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	after, err := takeSample()
	if err != nil {
		return err
	}
	e.used = e.used.plus(between(before, after, os.Getpid(), e.ps.roles()))
	return nil
}

// pass lets time go by.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// fillCache fills what memory is free with a file's pages, as it is on a machine that has run for
// long: fresh memory of a guest is dearer. The pages go when others are wanted.
func fillCache(ctx context.Context, cfg *config) (release func(), err error) {
	if !cfg.fillCache {
		return func() {}, nil
	}
	free, err := memoryFree()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.dir, "cache-filler")
	release = func() { _ = os.Remove(path) } // it is scratch
	const chunk = 1 << 20
	fmt.Fprintf(os.Stderr, "filling the page cache: %d MiB\n", max(0, free-spareMemory)/chunk)
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for written := int64(0); written < free-spareMemory && err == nil; written += chunk {
		if err = context.Cause(ctx); err == nil {
			_, err = f.Write(noise[:chunk])
		}
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// spareMemory is left free when the page cache is filled.
const spareMemory = 512 << 20
