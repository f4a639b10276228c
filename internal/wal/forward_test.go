package wal

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// TestSizeLimit: idle, trickling and busy groups share a log that stays near its
// limit, and all of them keep what they have, after a restart too.
func TestSizeLimit(t *testing.T) {
	m := newMem(t)
	opts := small(m)
	l := open(t, opts)
	const idle = 20
	for id := uint64(1); id <= idle; id++ {
		g := l.Group(id)
		must(t, g.SetUint64([]byte("CurrentTerm"), id))
		must(t, g.SetUint64([]byte("LastVoteTerm"), id))
		must(t, g.Set([]byte("LastVoteCand"), fmt.Append(nil, id)))
		must(t, g.StoreLogs(entries(1, id%4, 1, 50)))
	}
	busy, trickle := l.Group(100), l.Group(101)
	for i := uint64(1); i <= 1000; i++ {
		must(t, busy.StoreLog(entry(i, 1, 2000)))
		if i%20 == 0 {
			must(t, busy.DeleteRange(0, i-5))
		}
		if i%50 == 0 {
			must(t, trickle.StoreLog(entry(i/50, 1, 100)))
		}
		if s := l.Stats(); s.SizeBytes > opts.SizeLimit+2*opts.FileSize {
			t.Fatalf("after %d entries: %+v", i, s)
		}
	}
	check := func() {
		t.Helper()
		for id := uint64(1); id <= idle; id++ {
			g := l.Group(id)
			wantRange(t, g, min(1, id%4), id%4)
			for i := uint64(1); i <= id%4; i++ {
				wantEntry(t, g, entry(i, 1, 50))
			}
			wantValue(t, g, "LastVoteCand", fmt.Sprint(id))
			if v, err := g.GetUint64([]byte("CurrentTerm")); err != nil || v != id {
				t.Fatalf("got %d, %v", v, err)
			}
		}
		wantRange(t, l.Group(100), 996, 1000)
		wantRange(t, l.Group(101), 1, 20)
		for i := uint64(1); i <= 20; i++ {
			wantEntry(t, l.Group(101), entry(i, 1, 100))
		}
	}
	check()
	if s := l.Stats(); s.CopiedBytes == 0 || s.OldestFile < 20 {
		t.Fatalf("%+v", s)
	}
	must(t, l.Close())
	l = open(t, opts)
	check()
}

// TestHeavyGroupIsNamed: a group too large to copy makes the log grow, and Stats
// says which; a snapshot of it frees the files.
func TestHeavyGroupIsNamed(t *testing.T) {
	l := open(t, small(newMem(t)))
	heavy := l.Group(5)
	for i := uint64(1); i <= 300; i++ {
		must(t, heavy.StoreLog(entry(i, 1, 2000)))
	}
	s := l.Stats()
	if s.PinnedBy != 5 || s.OldestFile != 1 || s.SizeBytes <= 192<<10 {
		t.Fatalf("%+v", s)
	}
	must(t, heavy.DeleteRange(1, 300))
	must(t, heavy.SetUint64([]byte("CurrentTerm"), 1)) // takes the removal along
	until(t, "files are released", func() bool { return l.Stats().Files <= 2 })
	if s := l.Stats(); s.SizeBytes > 192<<10 || s.PinnedBy != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestRemovalPinsUntilDurable: a removal that is only queued frees no file. If it
// did, a crash could leave the end of a removed range without its beginning.
func TestRemovalPinsUntilDurable(t *testing.T) {
	l := open(t, small(newMem(t)))
	g := l.Group(1)
	must(t, g.StoreLogs(entries(1, 1, 1, 10)))
	must(t, g.StoreLogs(entries(2, 20, 1, 1000)))
	must(t, g.StoreLogs(entries(21, 40, 1, 1000)))
	live := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range l.files {
			n += f.live
		}
		return n
	}
	must(t, g.DeleteRange(2, 40))
	must(t, g.DeleteRange(1, 1))
	wantRange(t, g, 0, 0)
	if n := live(); n != 40 {
		t.Fatalf("%d live frames, want 40", n)
	}
	must(t, g.Set([]byte("a"), nil))
	if n := live(); n != 1 {
		t.Fatalf("%d live frames, want 1", n)
	}
	until(t, "files are released", func() bool { return l.Stats().Files == 1 })
}

// TestReadersKeepFiles: old entries are read while their files are released and
// recycled; what is read is right or gone.
func TestReadersKeepFiles(t *testing.T) {
	opts := small(newMem(t))
	opts.TailBytes = -1
	l := open(t, opts)
	g := l.Group(1)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				first, _ := g.FirstIndex()
				var log raft.Log
				if err := g.GetLog(first, &log); err == nil {
					if !sameEntry(&log, entry(first, 1, 900)) {
						t.Errorf("entry %d has other bytes", first)
					}
				} else if err != raft.ErrLogNotFound {
					t.Error(err)
				}
			}
		})
	}
	for i := uint64(1); i <= 1500; i++ {
		must(t, g.StoreLog(entry(i, 1, 900)))
		if i > 10 {
			must(t, g.DeleteRange(0, i-10))
		}
	}
	close(done)
	wg.Wait()
	if s := l.Stats(); s.OldestFile < 10 {
		t.Fatalf("%+v", s)
	}
}
