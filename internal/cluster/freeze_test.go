package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

func isFrozen(v *cluster.View) bool { return v.Frozen != "" }

// refuses checks that a frozen store serves its view and changes nothing.
func (s running) refuses(t *testing.T, reason string) {
	t.Helper()
	v := s.sees(t, "a freeze", isFrozen)
	if !strings.Contains(v.Frozen, reason) || len(v.Topics) != 1 || v.Meta == nil {
		t.Fatalf("frozen: %q, want %q; view %+v", v.Frozen, reason, v)
	}
	_, err := s.CreateTopic(t.Context(), "u", 1, 1, nil)
	if !errors.Is(err, cluster.ErrFrozen) || !strings.Contains(err.Error(), reason) {
		t.Fatalf("create: %v", err)
	}
	if _, err := s.AllocProducerIDs(t.Context(), 10); !errors.Is(err, cluster.ErrFrozen) {
		t.Fatalf("producer ids: %v", err)
	}
	if _, err := s.EnsureMeta(t.Context()); !errors.Is(err, cluster.ErrFrozen) {
		t.Fatalf("meta: %v", err)
	}
	if n := s.logs.count("point the nodes at the right etcd"); n != 1 {
		t.Fatalf("said %d times what to do\n%s", n, s.logs.all.String())
	}
}

func withTopic(t *testing.T, s running) {
	t.Helper()
	if _, err := s.CreateTopic(t.Context(), "t", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the topic", topics(1))
}

func TestMissingMetaFreezes(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	dir := t.TempDir()
	s := made(t, c, dir)
	withTopic(t, s)
	meta := *s.View().Meta
	if _, err := c.Delete(t.Context(), base+"meta"); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "meta is missing")

	// The same bytes again prove nothing, not even to the next process.
	put(t, c, "meta", meta)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = run(t, c, dir)
	if !isFrozen(s.View()) {
		t.Fatal("the freeze did not survive a restart")
	}
	eventually(t, "the new process to say so too", func() bool { return s.logs.count("restore-metadata") == 1 })
	put(t, c, "x", "y")
	if _, err := s.CreateTopic(t.Context(), "u", 1, 1, nil); !errors.Is(err, cluster.ErrFrozen) {
		t.Fatalf("create: %v", err)
	}

	// What an operator's restore leaves: the same cluster in a higher epoch.
	meta.Epoch++
	value, _ := cluster.Encode(meta)
	if _, err := c.Txn(t.Context()).Then(clientv3.OpPut(base+"meta", string(value)), clientv3.OpDelete(base+"frozen")).Commit(); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the thaw", func(v *cluster.View) bool { return !isFrozen(v) && v.Source == cluster.SourceEtcd })
	if _, err := s.CreateTopic(t.Context(), "u", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyPrefixFreezes(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	s := made(t, e.Client(t), "")
	withTopic(t, s)
	put(t, e.Client(t), "assignments/t/0", `{"topic_id":"T","replicas":[{"node":2,"id":7,"incarnation":"i"}],"epoch":1,"generation":3}`)
	s.sees(t, "the assignment", func(v *cluster.View) bool { return len(v.Assignments) == 1 })
	if _, err := e.Client(t).Delete(t.Context(), base, withPrefix); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "meta is missing")
	if len(s.View().Assignments) != 1 {
		t.Fatal("what went with meta was believed")
	}
}

func TestAnotherEtcdFreezesUntilTheFirstIsBack(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	s := made(t, c, "")
	withTopic(t, s)
	keep := filepath.Join(t.TempDir(), "kept")
	e.Stop()
	if err := os.CopyFS(keep, os.DirFS(e.Dir())); err != nil {
		t.Fatal(err)
	}
	e.Wipe(t)
	e.Rename("another") // and so has another cluster id
	e.Restart(t)
	s.refuses(t, "another etcd")

	e.Stop()
	e.Wipe(t)
	e.Rename("m1")
	if err := os.CopyFS(e.Dir(), os.DirFS(keep)); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	s.sees(t, "the thaw", func(v *cluster.View) bool { return !isFrozen(v) })
	if _, err := s.CreateTopic(t.Context(), "u", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
}

func TestRestoredBackupFreezes(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	s := made(t, c, "")
	keep := filepath.Join(t.TempDir(), "kept")
	e.Stop()
	if err := os.CopyFS(keep, os.DirFS(e.Dir())); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	eventually(t, "connected", s.Connected)
	withTopic(t, s)
	e.Stop()
	e.Wipe(t)
	if err := os.CopyFS(e.Dir(), os.DirFS(keep)); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	// Nobody waits for the watch, which would resume in silence.
	s.refuses(t, "older state")
	for i := range 20 { // it grows past what was seen: that changes nothing
		put(t, c, "x", string(rune('a'+i)))
	}
	s.refuses(t, "older state")
}

// Whoever writes to a restored etcd before this node sees it hides that its
// revision went back; the history does not fit all the same.
func TestRestoredBackupThatGrewFreezes(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	dir := t.TempDir()
	s := made(t, c, dir)
	keep := filepath.Join(t.TempDir(), "kept")
	e.Stop()
	if err := os.CopyFS(keep, os.DirFS(e.Dir())); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	eventually(t, "connected", s.Connected)
	if _, err := s.AllocProducerIDs(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	withTopic(t, s)
	s.sees(t, "the numbers", func(v *cluster.View) bool { return v.ProducerIDs.Next == 11 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	e.Stop()
	e.Wipe(t)
	if err := os.CopyFS(e.Dir(), os.DirFS(keep)); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	for i := range 20 {
		put(t, c, "x", string(rune('a'+i)))
	}
	// Another node that remembers nothing takes numbers again, far beyond.
	fresh := run(t, c, "")
	eventually(t, "connected", fresh.Connected)
	if _, err := fresh.EnsureMeta(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.AllocProducerIDs(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	s = run(t, c, dir)
	v := s.sees(t, "a freeze", isFrozen)
	if !strings.Contains(v.Frozen, "another history") || len(v.Topics) != 1 {
		t.Fatalf("frozen: %q, %d topics", v.Frozen, len(v.Topics))
	}
	// And it tells the one that could not know.
	fresh.sees(t, "the freeze of another", isFrozen)
	if n := fresh.logs.count("restore-metadata"); n != 1 {
		t.Fatalf("it said %d times what to do", n)
	}
	if _, err := fresh.AllocProducerIDs(t.Context(), 1); !errors.Is(err, cluster.ErrFrozen) {
		t.Fatalf("producer ids: %v", err)
	}
	if _, err := fresh.CreateTopic(t.Context(), "u", 1, 1, nil); !errors.Is(err, cluster.ErrFrozen) {
		t.Fatalf("create: %v", err)
	}
}

// Where nodes are registered and meta is gone, no new cluster is made.
func TestLostMetaIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	put(t, c, "nodes/1", cluster.Node{Node: 1, Incarnation: "i"})
	s := open(t, c, "")
	if _, err := s.EnsureMeta(t.Context()); !errors.Is(err, cluster.ErrFrozen) {
		t.Fatalf("meta: %v", err)
	}
}
