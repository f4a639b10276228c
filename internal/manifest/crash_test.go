package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// seeds are MANIFEST_CASES of them from a random one on, or MANIFEST_SEED.
func seeds(t *testing.T, n int) (first uint64, count int) {
	t.Helper()
	first = rand.Uint64() >> 16
	if v, err := strconv.ParseUint(os.Getenv("MANIFEST_SEED"), 10, 64); err == nil {
		return v, 1
	}
	if v, err := strconv.Atoi(os.Getenv("MANIFEST_CASES")); err == nil {
		n = v
	}
	return first, n
}

func options(fsys vfs.FS) Options {
	return Options{FS: fsys, Dir: "/data/m", Identity: self, Logger: slog.New(slog.DiscardHandler)}
}

// begin makes a snapshot whose Close stores it.
func begin(s *Store, group, index uint64, payload []byte) (raft.SnapshotSink, error) {
	sink, err := s.Group(group).Create(1, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		return nil, err
	}
	_, err = sink.Write(payload)
	return sink, err
}

// tryPut stores what put does, and returns the error.
func tryPut(s *Store, group, index uint64, payload []byte) error {
	sink, err := begin(s, group, index, payload)
	if err != nil {
		return err
	}
	return sink.Close()
}

// state is what a group must have: acked, or one of those under way.
type state struct{ acked, under uint64 }

// TestCrash has many groups write snapshots at once on a disk that loses power
// at a random write or sync, again and again, with payloads of the same sizes,
// so that a torn batch meets the remains of earlier ones. Every group lists its
// newest acknowledged snapshot afterwards, or the one that was under way.
func TestCrash(t *testing.T) {
	first, n := seeds(t, 300)
	batches := 0
	for seed := first; seed < first+uint64(n); seed++ {
		b, err := crashCase(seed)
		if err != nil {
			t.Fatalf("MANIFEST_SEED=%d: %v", seed, err)
		}
		batches += b
	}
	if t.Logf("%d cases, %d batches", n, batches); batches < n/4 {
		t.Error("hardly any batches")
	}
}

func payloadOf(group, index uint64) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%d/%d;", group, index)), 10+int(index%3)*60)
}

func crashCase(seed uint64) (batches int, err error) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll("/data"), m.SyncDir("/")); err != nil {
		return 0, err
	}
	groups := make([]state, 2+r.IntN(12))
	index := uint64(0)
	for round := range 8 {
		if r.IntN(3) == 0 {
			m.ArmCrash(1 + r.Int64N(6)) // while it opens
		}
		s, err := openCrashed(m, r, groups)
		if err != nil {
			return batches, fmt.Errorf("round %d: %w", round, err)
		}
		m.ArmCrash(1 + r.Int64N(12))
		for !m.Crashed() {
			index++
			var wg sync.WaitGroup
			var closing []func()
			before := s.end
			for g := range groups {
				if r.IntN(4) == 0 {
					continue
				}
				groups[g].under = index
				sink, err := begin(s, uint64(g), index, payloadOf(uint64(g), index))
				if err != nil {
					return batches, err
				}
				closing = append(closing, func() {
					if sink.Close() == nil {
						groups[g].acked = index
					}
				})
			}
			for _, fn := range closing {
				wg.Go(fn)
			}
			wg.Wait()
			var head [recordHeader + 1]byte
			if _, err := s.file.ReadAt(head[:], before); err == nil && head[recordHeader] == kindBatch {
				batches++
			}
		}
		s.Close()
		m.Crash(r)
	}
	return batches, nil
}

// openCrashed opens the store and checks every group, again while a crash comes
// in between. What it has listed is durable: it is acknowledged from then on.
func openCrashed(m *vfs.Mem, r *rand.Rand, groups []state) (*Store, error) {
	for {
		s, err := Open(options(m))
		if errors.Is(err, vfs.ErrCrashed) {
			m.Crash(r)
			continue
		}
		if err != nil {
			return nil, err
		}
		for g := range groups {
			var have uint64
			list, err := s.Group(uint64(g)).List()
			if err != nil {
				return nil, err
			}
			if len(list) > 0 {
				have = list[0].Index
			}
			if st := groups[g]; have != st.acked && have != st.under {
				return nil, fmt.Errorf("group %d lists %d; %d is acknowledged, %d under way", g, have, st.acked, st.under)
			}
			groups[g] = state{have, have}
		}
		return s, nil
	}
}

// TestTornStaysTorn: a record that a start has cut off is not made whole by the
// next torn write at its place, which ends in the same bytes.
func TestTornStaysTorn(t *testing.T) {
	first, n := seeds(t, 4000)
	cut := 0
	for seed := first; seed < first+uint64(n); seed++ {
		r := rand.New(rand.NewPCG(seed, 2))
		m := vfs.NewMem()
		if err := errors.Join(m.MkdirAll("/data"), m.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		reopen := func() (s *Store, listed uint64) {
			s, err := Open(options(m))
			if err != nil {
				t.Fatalf("MANIFEST_SEED=%d: %v", seed, err)
			}
			if list, _ := s.Group(1).List(); len(list) > 0 {
				listed = list[0].Index
			}
			return s, listed
		}
		s, _ := reopen()
		put(t, s, 1, 1, []byte("first"))
		payload := bytes.Repeat([]byte{'x'}, 600+r.IntN(300))
		for index := uint64(2); index < 5; index++ {
			m.ArmCrash(2) // at the sync
			_ = tryPut(s, 1, index, payload)
			m.Crash(r)
			var listed uint64
			s, listed = reopen()
			if listed == index {
				break
			}
			if cut++; listed != 1 {
				t.Fatalf("MANIFEST_SEED=%d: lists %d; 1 is acknowledged, %d was under way", seed, listed, index)
			}
		}
		s.Close()
	}
	t.Logf("%d torn records cut", cut)
}

// TestListedIsDurable: what Open lists after the death of the process alone, a
// power loss does not take back.
func TestListedIsDurable(t *testing.T) {
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll("/data"), m.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	dead := errors.New("process is dead")
	fsys := vfs.NewFail(m, func(op vfs.Op, name string) error {
		if op == vfs.OpSync && m.Ops() > 10 {
			return dead
		}
		return nil
	})
	s, err := Open(options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(0)
	for err = nil; err == nil; {
		index++
		err = tryPut(s, 1, index, []byte("payload"))
	}
	if !errors.Is(err, dead) {
		t.Fatal(err)
	}
	s, err = Open(options(m))
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, 1, index, []byte("payload"))
	m.Crash(nil)
	s, err = Open(options(m))
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, 1, index, []byte("payload"))
}
