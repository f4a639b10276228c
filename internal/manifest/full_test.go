package manifest

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// failing opens a store whose operations of one kind fail while armed.
func failing(t *testing.T, op vfs.Op, err error, fatal func(error)) (s *Store, base *vfs.Mem, armed *atomic.Bool) {
	t.Helper()
	armed = new(atomic.Bool)
	base = vfs.NewMem()
	fsys := vfs.NewFail(base, func(o vfs.Op, _ string) error {
		if o == op && armed.Load() {
			return err
		}
		return nil
	})
	s, oerr := Open(Options{FS: fsys, Dir: "/m", Identity: self, Logger: slog.New(slog.DiscardHandler), OnFatal: fatal})
	if oerr != nil {
		t.Fatal(oerr)
	}
	return s, base, armed
}

func TestFullDiskIsNotFinal(t *testing.T) {
	s, base, full := failing(t, vfs.OpWrite, syscall.ENOSPC, func(err error) { t.Errorf("told of a failure: %v", err) })
	put(t, s, 1, 1, []byte("first"))
	full.Store(true)
	if err := s.put(1, raft.SnapshotMeta{Index: 2}, []byte("second")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("put on a full disk: %v", err)
	}
	check(t, s, 1, 1, []byte("first"))
	full.Store(false)
	put(t, s, 1, 3, []byte("third"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{FS: base, Dir: "/m", Identity: self, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, 1, 3, []byte("third"))
}

// TestRewriteWithoutSpace: the record that made a rewrite due is kept.
func TestRewriteWithoutSpace(t *testing.T) {
	s, _, full := failing(t, vfs.OpCreate, syscall.ENOSPC, func(err error) { t.Errorf("told of a failure: %v", err) })
	full.Store(true)
	big := make([]byte, 1<<20)
	for i := range uint64(12) {
		put(t, s, 2, i+1, big)
	}
	check(t, s, 2, 12, big)
	before := s.generation
	full.Store(false)
	for i := range uint64(3) {
		put(t, s, 2, i+20, big)
	}
	if s.generation == before {
		t.Error("not rewritten when there was space")
	}
	check(t, s, 2, 22, big)
}

func TestFailureIsFinalAndToldOnce(t *testing.T) {
	boom := errors.New("boom")
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		told := 0
		s, _, armed := failing(t, op, boom, func(err error) {
			if told++; !errors.Is(err, boom) {
				t.Error(err)
			}
		})
		armed.Store(true)
		for range 2 {
			if err := s.put(1, raft.SnapshotMeta{Index: 1}, []byte("x")); !errors.Is(err, boom) {
				t.Fatalf("%s fails: put returned %v", op, err)
			}
			armed.Store(false) // it must not be tried again
		}
		if told != 1 {
			t.Errorf("%s fails: told %d times", op, told)
		}
	}
}
