package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

var self = identity.Identity{ClusterID: "c", NodeID: 1, Incarnation: "i"}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(Options{FS: vfs.OS, Dir: dir, Identity: self, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *Store, group, index uint64, payload []byte) {
	t.Helper()
	sink, err := s.Group(group).Create(1, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}

// check wants index as the only snapshot of a group; 0 is none.
func check(t testing.TB, s *Store, group, index uint64, payload []byte) {
	t.Helper()
	list, err := s.Group(group).List()
	if err != nil {
		t.Fatal(err)
	}
	if index == 0 {
		if len(list) != 0 {
			t.Fatalf("group %d: got snapshot %s, want none", group, list[0].ID)
		}
		return
	}
	if len(list) != 1 || list[0].Index != index {
		t.Fatalf("group %d: got %v, want one snapshot at %d", group, list, index)
	}
	_, r, err := s.Group(group).Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("group %d: payload differs (%v)", group, err)
	}
}

func onlyFile(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("got files %v, want one", names)
	}
	return names[0]
}

func TestNewestSnapshotSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, 7, 10, []byte("ten"))
	put(t, s, 8, 5, []byte("five"))
	put(t, s, 7, 20, []byte("twenty"))
	put(t, s, 9, 1, []byte("gone"))
	if err := s.Drop(9); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		check(t, s, 7, 20, []byte("twenty"))
		check(t, s, 8, 5, []byte("five"))
		check(t, s, 9, 0, nil)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
}

func TestRewriteKeepsWhatIsLive(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	big := bytes.Repeat([]byte("x"), 1<<20)
	put(t, s, 1, 1, []byte("small"))
	for i := range 12 {
		put(t, s, 2, uint64(i+1), append(big, byte(i)))
	}
	check(t, s, 1, 1, []byte("small"))
	check(t, s, 2, 12, append(big, 11))
	st, err := os.Stat(onlyFile(t, dir))
	if err != nil || st.Size() > 6<<20 {
		t.Fatalf("file holds %d bytes (%v): it was not rewritten", st.Size(), err)
	}
	s.Close()
	s = open(t, dir)
	check(t, s, 1, 1, []byte("small"))
	check(t, s, 2, 12, append(big, 11))
}

func TestOtherIdentityIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	other := self
	other.Incarnation = "j"
	_, err := Open(Options{FS: vfs.OS, Dir: dir, Identity: other, Logger: slog.New(slog.DiscardHandler)})
	var mismatch *identity.MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v, want a MismatchError", err)
	}
}

// TestEveryTornTail cuts the file at each byte of its last record.
func TestEveryTornTail(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, 1, 1, []byte("first"))
	before := s.end
	put(t, s, 1, 2, []byte("second"))
	after := s.end
	s.Close()
	whole, err := os.ReadFile(onlyFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for cut := before; cut < after; cut++ {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, fmt.Sprintf("%016x%s", 1, suffix)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, torn)
		check(t, s, 1, 1, []byte("first"))
		put(t, s, 1, 3, []byte("third"))
		s.Close()
		check(t, open(t, torn), 1, 3, []byte("third"))
	}
}

// TestDamageInTheMiddle flips each byte of a record that another one follows.
func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	from := s.end
	put(t, s, 1, 1, []byte("first"))
	to := s.end
	put(t, s, 1, 2, []byte("second"))
	s.Close()
	name := onlyFile(t, dir)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for at := from; at < to; at++ {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{FS: vfs.OS, Dir: dir, Identity: self, Logger: slog.New(slog.DiscardHandler)})
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Offset != from {
			t.Fatalf("byte %d flipped: got %v, want damage at byte %d", at, err, from)
		}
	}
}
