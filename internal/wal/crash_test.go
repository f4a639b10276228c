package wal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// state is what one group should hold.
type state struct {
	first  uint64
	logs   []*raft.Log
	stable map[string]string
	vote   string // "term candidate"
}

func (s state) clone() state {
	s.logs = slices.Clone(s.logs)
	s.stable = maps.Clone(s.stable)
	return s
}

func (s state) last() uint64 {
	if len(s.logs) == 0 {
		return 0
	}
	return s.first + uint64(len(s.logs)) - 1
}

// model follows one group. possible are the states in which a crash may leave
// it: the first is that of the last acknowledgement, the others add, in order,
// removals that were not waited for and the operation under way.
type model struct {
	id       uint64
	possible []state
	term     uint64
	heavy    bool // writes large entries
	idle     bool // writes little
}

func (m *model) now() state { return m.possible[len(m.possible)-1].clone() }

// step does one random operation. An error is the crash.
func (m *model) step(r *rand.Rand, l *Log) error {
	g := l.Group(m.id)
	s := m.now()
	durable := true
	var err error
	try := func(next state, do func() error) {
		m.possible = append(m.possible, next)
		err = do()
	}
	op := r.IntN(20)
	if m.idle && op < 9 && r.IntN(20) > 0 {
		op = 19
	}
	switch {
	case op < 9:
		next := s.last() + 1
		if len(s.logs) == 0 {
			next = s.first + r.Uint64N(20) + 1
		}
		size := r.IntN(700)
		if m.heavy {
			size = r.IntN(3900) // a call fits one file: it is atomic then
		}
		logs := entries(next, next+r.Uint64N(4), m.term, size)
		if len(s.logs) == 0 {
			s.first = next
		}
		s.logs = append(s.logs, logs...)
		try(s, func() error { return g.StoreLogs(logs) })
	case op < 12 && len(s.logs) > 0: // release
		upTo := s.first + r.Uint64N(uint64(len(s.logs)))
		if r.IntN(3) > 0 {
			upTo = s.last() // as most snapshots do
		}
		from := s.first
		s.logs = s.logs[upTo-s.first+1:]
		s.first = upTo + 1
		durable = false
		try(s, func() error { return g.DeleteRange(from, upTo) })
	case op == 12 && len(s.logs) > 1: // truncate
		m.term++
		last := s.last()
		from := last - r.Uint64N(uint64(min(4, len(s.logs)-1)))
		s.logs = s.logs[:from-s.first]
		durable = false
		try(s, func() error { return g.DeleteRange(from, last) })
	case op == 13:
		m.term++
		cand := fmt.Sprint(r.IntN(3))
		s.vote = fmt.Sprint(m.term, " ", cand)
		try(s, func() error {
			return errors.Join(g.SetUint64([]byte("LastVoteTerm"), m.term), g.Set([]byte("LastVoteCand"), []byte(cand)))
		})
	case op == 14:
		key, val := fmt.Sprint("k", r.IntN(3)), strings.Repeat(fmt.Sprint(r.IntN(100)), r.IntN(300))
		old, ok := s.stable[key]
		durable = !ok || old != val // else nothing is written, nor anything queued before
		s.stable[key] = val
		try(s, func() error { return g.Set([]byte(key), []byte(val)) })
	case op == 15 && r.IntN(15) == 0:
		s = state{first: s.first, stable: map[string]string{}}
		try(s, func() error { return l.Drop(m.id) })
	case op == 16:
		return m.compare(g, m.now())
	default:
		return nil
	}
	if err == nil && durable {
		m.possible = m.possible[len(m.possible)-1:]
	}
	return err
}

// compare says how a group differs from a state.
func (m *model) compare(g *Group, s state) error {
	first, err1 := g.FirstIndex()
	last, err2 := g.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if last != s.last() || last > 0 && first != s.first || last == 0 && first != 0 {
		return fmt.Errorf("entries %d to %d, want %d to %d", first, last, s.first, s.last())
	}
	var bytes int64
	for _, want := range s.logs {
		var got raft.Log
		if err := g.GetLog(want.Index, &got); err != nil {
			return err
		}
		if !sameEntry(&got, want) {
			return fmt.Errorf("entry %d of term %d is one of term %d or has other bytes", want.Index, want.Term, got.Term)
		}
		bytes += entrySize(want)
	}
	if n, b := g.Size(); n != uint64(len(s.logs)) || b != bytes {
		return fmt.Errorf("size %d, %d bytes; want %d, %d", n, b, len(s.logs), bytes)
	}
	var vote string
	term, e1 := g.GetUint64([]byte("LastVoteTerm"))
	cand, e2 := g.Get([]byte("LastVoteCand"))
	if (e1 == nil) != (e2 == nil) {
		return fmt.Errorf("half a vote: %v, %v", e1, e2)
	}
	if e1 == nil {
		vote = fmt.Sprint(term, " ", string(cand))
	}
	if vote != s.vote {
		return fmt.Errorf("vote %q, want %q", vote, s.vote)
	}
	for i := range 3 {
		key := fmt.Sprint("k", i)
		got, err := g.Get([]byte(key))
		want, ok := s.stable[key]
		if (err == nil) != ok || string(got) != want {
			return fmt.Errorf("value of %s is %.20q (%v), want %.20q", key, got, err, want)
		}
	}
	return nil
}

// recovered takes over the state in which a crash has left the group.
func (m *model) recovered(g *Group) error {
	var all []error
	for i := len(m.possible) - 1; i >= 0; i-- {
		err := m.compare(g, m.possible[i])
		if err == nil {
			m.possible = m.possible[i : i+1]
			return nil
		}
		all = append(all, fmt.Errorf("not state %d of %d: %w", i, len(m.possible), err))
	}
	return fmt.Errorf("group %d: %w", m.id, errors.Join(all...))
}

// TestCrash runs groups at once over a disk that loses power at a random write
// or sync, tears what was not synced, and checks that every group is in a state
// that it had after its last acknowledgement. Each case is several crashes of
// one log, so that recycled files are torn too.
//
// WAL_SEED=n runs one case again (the goroutines' order is not part of the
// seed), WAL_CASES=n runs more of them.
func TestCrash(t *testing.T) {
	n := 250
	if testing.Short() {
		n = 40
	}
	first, n := seeds(t, n)
	var next, recycled, copied atomic.Uint64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < uint64(n) && !t.Failed(); i = next.Add(1) - 1 {
				files, bytes, err := crashCase(first + i)
				if err != nil {
					t.Errorf("WAL_SEED=%d: %v", first+i, err)
				}
				recycled.Add(files)
				copied.Add(bytes)
			}
		})
	}
	wg.Wait()
	t.Logf("%d cases, %d files, %d bytes copied forward", n, recycled.Load(), copied.Load())
}

func crashCase(seed uint64) (files, copied uint64, err error) {
	r := rand.New(rand.NewPCG(seed, 2))
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll("/data"), m.SyncDir("/")); err != nil {
		return 0, 0, err
	}
	var models []*model
	for i := range 1 + r.IntN(6) {
		models = append(models, &model{id: uint64(i + 1), term: 1, heavy: r.IntN(4) == 0, idle: r.IntN(3) == 0,
			possible: []state{{stable: map[string]string{}}}})
	}
	for round := range 6 {
		var stopped atomic.Bool
		fsys := vfs.NewFail(m, func(vfs.Op, string) error {
			if stopped.Load() {
				return vfs.ErrCrashed
			}
			return nil
		})
		opts := small(fsys)
		opts.FileSize = int64(24+8*r.IntN(3)) << 10
		opts.TailBytes = []int64{-1, 4 << 10, 1 << 20}[r.IntN(3)]
		if r.IntN(4) == 0 {
			m.ArmCrash(1 + r.Int64N(12)) // while it opens
		}
		l, err := openAfterCrash(opts, m, r, models)
		if err != nil {
			return files, copied, fmt.Errorf("round %d: %w", round, err)
		}
		processOnly := r.IntN(4) == 0 && !m.Crashed()
		m.ArmCrash(1 << 40)
		if !processOnly && r.IntN(8) > 0 {
			m.ArmCrash(1 + r.Int64N(150))
		}
		errs := make([]error, len(models))
		var wg sync.WaitGroup
		for i, md := range models {
			r := rand.New(rand.NewPCG(seed, uint64(100*round+i+3)))
			stop := r.IntN(80)
			wg.Go(func() {
				for step := 0; step < 80 && errs[i] == nil; step++ {
					if processOnly && i == 0 && step == stop {
						stopped.Store(true)
					}
					errs[i] = md.step(r, l)
				}
			})
		}
		wg.Wait()
		s := l.Stats()
		files, copied = files+s.CurrentFile-s.OldestFile, copied+s.CopiedBytes
		orderly := r.IntN(2) == 0
		cerr := error(nil)
		if orderly {
			cerr = l.Close()
		}
		for i, err := range append(errs, cerr) {
			if err != nil && !errors.Is(err, vfs.ErrCrashed) {
				l.Close()
				return files, copied, fmt.Errorf("round %d, goroutine %d: %w", round, i, err)
			}
		}
		if processOnly {
			stopped.Store(true)
			l.Close()
			// What the process left in the cache may be read and then lost, or
			// not, but never be taken back after Open has returned.
			opts := small(m)
			opts.FileSize = 32 << 10
			l, err := openAfterCrash(opts, m, r, models)
			if err != nil {
				return files, copied, fmt.Errorf("round %d, after the process died: %w", round, err)
			}
			m.ArmCrash(1)
			l.Close()
		}
		m.ArmCrash(1) // whatever still runs stops here
		l.Close()
		m.Crash(r)
	}
	return files, copied, nil
}

// openAfterCrash opens the log and checks every group, again and again while an
// armed crash comes in between.
func openAfterCrash(opts Options, m *vfs.Mem, r *rand.Rand, models []*model) (*Log, error) {
	for {
		l, err := Open(opts)
		for _, md := range models {
			if err == nil {
				err = md.recovered(l.Group(md.id))
			}
		}
		if err == nil {
			return l, nil
		}
		if l != nil {
			l.Close()
		}
		if !errors.Is(err, vfs.ErrCrashed) {
			return nil, err
		}
		m.Crash(r)
	}
}
