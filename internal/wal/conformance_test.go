package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// store is what raft wants of a log.
type store interface {
	raft.LogStore
	raft.StableStore
}

var stores = map[string]func(t testing.TB) store{
	"wal": func(t testing.TB) store { return open(t, small(newMem(t))).Group(7) },
	"wal without tail": func(t testing.TB) store {
		o := small(newMem(t))
		o.TailBytes = -1
		return open(t, o).Group(7)
	},
	"boltdb": func(t testing.TB) store { return openBolt(t) },
}

func openBolt(t testing.TB) store {
	s, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(t.TempDir(), "bolt"), NoSync: true, BoltOptions: &bbolt.Options{NoFreelistSync: true}, MsgpackUseNewTimeFormat: true})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// TestConformance holds every store to what raft expects of one.
func TestConformance(t *testing.T) {
	for name, make := range stores {
		t.Run(name, func(t *testing.T) {
			for name, check := range conformance {
				t.Run(name, func(t *testing.T) { check(t, make(t)) })
			}
		})
	}
}

var conformance = map[string]func(t *testing.T, s store){
	"empty": func(t *testing.T, s store) {
		wantRange(t, s, 0, 0)
		var log raft.Log
		if err := s.GetLog(1, &log); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("got %v", err)
		}
		must(t, s.DeleteRange(1, 10))
		must(t, s.StoreLogs(nil))
	},
	"append and read": func(t *testing.T, s store) {
		must(t, s.StoreLog(entry(1, 1, 0)))
		must(t, s.StoreLogs(entries(2, 9, 1, 1000)))
		must(t, s.StoreLogs(entries(10, 10, 2, 20000)))
		wantRange(t, s, 1, 10)
		wantEntry(t, s, entry(1, 1, 0))
		for i := uint64(2); i < 10; i++ {
			wantEntry(t, s, entry(i, 1, 1000))
		}
		wantEntry(t, s, entry(10, 2, 20000))
		var log raft.Log
		for _, i := range []uint64{0, 11} {
			if err := s.GetLog(i, &log); !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("entry %d: %v", i, err)
			}
		}
	},
	"extensions": func(t *testing.T, s store) {
		log := entry(1, 1, 10)
		log.Extensions = []byte("extensions")
		must(t, s.StoreLog(log))
		wantEntry(t, s, log)
	},
	"begin anywhere": func(t *testing.T, s store) {
		must(t, s.StoreLogs(entries(100, 105, 3, 10)))
		wantRange(t, s, 100, 105)
	},
	"release": func(t *testing.T, s store) {
		must(t, s.StoreLogs(entries(1, 10, 1, 10)))
		must(t, s.DeleteRange(1, 4))
		wantRange(t, s, 5, 10)
		must(t, s.DeleteRange(1, 4))
		must(t, s.DeleteRange(0, 5))
		wantRange(t, s, 6, 10)
		var log raft.Log
		if err := s.GetLog(5, &log); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("got %v", err)
		}
		wantEntry(t, s, entry(6, 1, 10))
	},
	"truncate": func(t *testing.T, s store) {
		must(t, s.StoreLogs(entries(1, 10, 1, 10)))
		must(t, s.DeleteRange(8, 10))
		wantRange(t, s, 1, 7)
		must(t, s.StoreLogs(entries(8, 9, 2, 10)))
		wantRange(t, s, 1, 9)
		wantEntry(t, s, entry(8, 2, 10))
		must(t, s.DeleteRange(5, 100))
		wantRange(t, s, 1, 4)
		must(t, s.DeleteRange(5, 3))
		must(t, s.DeleteRange(5, 9))
		wantRange(t, s, 1, 4)
	},
	"remove all and begin higher": func(t *testing.T, s store) {
		must(t, s.StoreLogs(entries(1, 10, 1, 10)))
		must(t, s.DeleteRange(1, 10))
		wantRange(t, s, 0, 0)
		must(t, s.StoreLogs(entries(100, 101, 4, 10)))
		wantRange(t, s, 100, 101)
		wantEntry(t, s, entry(100, 4, 10))
	},
	"values": func(t *testing.T, s store) {
		if _, err := s.Get([]byte("a")); err == nil || err.Error() != "not found" {
			t.Fatalf("got %v", err)
		}
		if _, err := s.GetUint64([]byte("a")); err == nil || err.Error() != "not found" {
			t.Fatalf("got %v", err)
		}
		if err := s.Set(nil, []byte("v")); err == nil {
			t.Fatal("an empty key was taken")
		}
		must(t, s.Set([]byte("a"), []byte("one")))
		must(t, s.Set([]byte("a"), []byte("two")))
		must(t, s.Set([]byte("b"), nil))
		must(t, s.SetUint64([]byte("CurrentTerm"), 5))
		wantValue(t, s, "a", "two")
		wantValue(t, s, "b", "")
		wantValue(t, s, "CurrentTerm", "\x00\x00\x00\x00\x00\x00\x00\x05")
		if v, err := s.GetUint64([]byte("CurrentTerm")); err != nil || v != 5 {
			t.Fatalf("got %d, %v", v, err)
		}
	},
	"vote": func(t *testing.T, s store) {
		must(t, s.SetUint64([]byte("LastVoteTerm"), 3))
		must(t, s.Set([]byte("LastVoteCand"), []byte("71")))
		must(t, s.SetUint64([]byte("LastVoteTerm"), 4))
		must(t, s.Set([]byte("LastVoteCand"), []byte("71")))
		if v, err := s.GetUint64([]byte("LastVoteTerm")); err != nil || v != 4 {
			t.Fatalf("got %d, %v", v, err)
		}
		wantValue(t, s, "LastVoteCand", "71")
	},
}

func wantValue(t testing.TB, s raft.StableStore, key, want string) {
	t.Helper()
	got, err := s.Get([]byte(key))
	if err != nil || string(got) != want {
		t.Fatalf("%s: got %q, %v, want %q", key, got, err, want)
	}
}

// TestSameAsBolt runs random operations on the log and on raft-boltdb.
func TestSameAsBolt(t *testing.T) {
	first, n := seeds(t, 6)
	for seed := first; seed < first+uint64(n); seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		opts := small(newMem(t))
		opts.TailBytes = []int64{-1, 8 << 10, 1 << 20}[r.IntN(3)]
		l := open(t, opts)
		a, b := store(l.Group(3)), openBolt(t)
		other := l.Group(4)
		both := func(do func(s store) error) {
			t.Helper()
			ea, eb := do(a), do(b)
			if ea != nil || eb != nil {
				t.Fatalf("WAL_SEED=%d: %v, boltdb: %v", seed, ea, eb)
			}
		}
		term := uint64(1)
		for step := 0; step < 150; step++ {
			lo, _ := b.FirstIndex()
			hi, _ := b.LastIndex()
			switch op := r.IntN(12); {
			case op < 5:
				next := hi + 1
				if hi == 0 {
					next = r.Uint64N(50) + term*100
				}
				logs := entries(next, next+r.Uint64N(5), term, r.IntN(1500))
				both(func(s store) error { return s.StoreLogs(logs) })
			case op == 5 && hi > 0:
				upTo := lo + r.Uint64N(hi-lo+1)
				both(func(s store) error { return s.DeleteRange(lo, upTo) })
			case op == 6 && hi > 0:
				term++
				from := hi - r.Uint64N(min(4, hi-lo+1))
				both(func(s store) error { return s.DeleteRange(from, hi) })
			case op == 7:
				v := r.Uint64N(3)
				both(func(s store) error { return s.SetUint64([]byte("CurrentTerm"), v) })
			case op == 8:
				key, val := fmt.Sprint("key", r.IntN(3)), fmt.Sprint("value", r.IntN(3))
				both(func(s store) error { return s.Set([]byte(key), []byte(val)) })
			case op == 9:
				vote, cand := r.Uint64N(5)+1, fmt.Sprint(r.IntN(3))
				both(func(s store) error {
					return errors.Join(s.SetUint64([]byte("LastVoteTerm"), vote), s.Set([]byte("LastVoteCand"), []byte(cand)))
				})
			case op == 10:
				last, err := other.LastIndex()
				must(t, err)
				must(t, other.StoreLogs(entries(last+1, last+3, 1, 500)))
				must(t, other.DeleteRange(0, last))
			case op == 11 && r.IntN(4) == 0:
				must(t, l.Close())
				l = open(t, opts)
				a, other = l.Group(3), l.Group(4)
			}
			sameStores(t, seed, a, b)
		}
	}
}

func sameStores(t testing.TB, seed uint64, a, b store) {
	t.Helper()
	af, err := a.FirstIndex()
	must(t, err)
	al, err := a.LastIndex()
	must(t, err)
	bf, _ := b.FirstIndex()
	bl, _ := b.LastIndex()
	if af != bf || al != bl {
		t.Fatalf("WAL_SEED=%d: entries %d to %d, boltdb has %d to %d", seed, af, al, bf, bl)
	}
	for i := af; i > 0 && i <= al; i++ {
		var x, y raft.Log
		must(t, a.GetLog(i, &x))
		must(t, b.GetLog(i, &y))
		if !sameEntry(&x, &y) {
			t.Fatalf("WAL_SEED=%d: entry %d differs", seed, i)
		}
	}
	for _, key := range []string{"CurrentTerm", "key0", "key1", "key2", "LastVoteTerm", "LastVoteCand"} {
		x, ex := a.Get([]byte(key))
		y, ey := b.Get([]byte(key))
		if string(x) != string(y) || fmt.Sprint(ex) != fmt.Sprint(ey) {
			t.Fatalf("WAL_SEED=%d: %s is %q (%v), in boltdb %q (%v)", seed, key, x, ex, y, ey)
		}
	}
}
