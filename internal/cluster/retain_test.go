package cluster_test

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

func remove(t *testing.T, c *clientv3.Client, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if _, err := c.Delete(t.Context(), base+key); err != nil {
			t.Fatal(err)
		}
	}
}

func restore(t *testing.T, c *clientv3.Client, s running, p *cluster.RestorePlan) {
	t.Helper()
	if err := cluster.Restore(t.Context(), c, s.Keys(), p, func(int) {}); err != nil {
		t.Fatal(err)
	}
}

func broken(n int) func(*cluster.View) bool {
	return func(v *cluster.View) bool { return len(v.Broken) == n }
}

// TestKeysDeletedByHand: topics and assignments that vanish without a tombstone
// stay in the view, across a reconnection, a restart and a restart without etcd;
// each is reported once, and a restore puts them back.
func TestKeysDeletedByHand(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c, dir := e.Client(t), t.TempDir()
	s := made(t, c, dir)
	populate(t, c, s, 3)
	before := dump(t, c)
	remove(t, c, "assignments/t0/0", "topics/t1")
	holds := func(s running, when string) {
		t.Helper()
		v := s.sees(t, "what is gone", broken(2))
		if v.Frozen != "" || len(v.Topics) != 3 || len(v.Assignments) != 3 ||
			!v.IsBroken(cluster.TopicPartition{Topic: "t0"}) || !v.IsBroken(cluster.TopicPartition{Topic: "t1"}) {
			t.Fatalf("%s: %+v", when, v)
		}
		for _, key := range []string{"assignments/t0/0", "topics/t1"} {
			if n := s.logs.count("key=" + base + key); n != 1 {
				t.Errorf("%s: %s is reported %d times", when, key, n)
			}
		}
	}
	holds(s, "deleted")
	if _, err := s.CreateTopic(t.Context(), "t1", 1, 1, nil); err == nil || !strings.Contains(err.Error(), "restore-metadata") {
		t.Errorf("a topic in the place of a lost one: %v", err)
	}
	e.Cut()
	eventually(t, "the loss", func() bool { return !s.Connected() })
	e.Mend(t)
	eventually(t, "the connection", s.Connected)
	holds(s, "after a reconnection")
	s.Close()
	s = run(t, c, dir)
	s.sees(t, "etcd", func(v *cluster.View) bool { return v.Source == cluster.SourceEtcd })
	holds(s, "after a restart")
	s.Close()
	e.Stop()
	holds(open(t, c, dir), "without etcd")
	e.Restart(t)
	s = run(t, c, dir)
	s.sees(t, "etcd", func(v *cluster.View) bool { return v.Source == cluster.SourceEtcd })

	p := planOf(t, c, s, s.evidence(t, 1))
	if p.Well || !strings.Contains(p.Etcd, "topics/t1 was deleted") || !strings.Contains(p.Etcd, "assignments/t0/0 was deleted") {
		t.Errorf("etcd is %s (well: %v)", p.Etcd, p.Well)
	}
	restore(t, c, s, p)
	s.sees(t, "everything mended", func(v *cluster.View) bool { return len(v.Broken) == 0 && v.Meta.Epoch == 2 })
	if d := same(before, dump(t, c)); d != "" {
		t.Error(d)
	}
	if n := s.logs.count("as it should be again"); n != 2 {
		t.Errorf("%d keys are reported as mended", n)
	}
}

// TestGoneTopicIsDeleted: a tombstone, or an operator's cleaning up of what no
// topic explains, ends the keeping.
func TestGoneTopicIsDeleted(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, t.TempDir())
	populate(t, c, s, 2)
	id := s.View().Topics["t0"].ID
	remove(t, c, "topics/t0", "assignments/t0/0")
	s.sees(t, "two lost keys", broken(2))
	put(t, c, "deleted/"+id, `{"topic":"t0","deleted":"2026-01-01T00:00:00Z"}`)
	s.sees(t, "the end of t0", func(v *cluster.View) bool {
		return len(v.Topics) == 1 && len(v.Assignments) == 1 && len(v.Broken) == 0
	})
	if err := s.DeleteTopic(t.Context(), "t1"); err != nil {
		t.Fatal(err)
	}
	remove(t, c, "assignments/t1/0")
	s.sees(t, "nothing left", func(v *cluster.View) bool { return len(v.Topics)+len(v.Assignments)+len(v.Broken) == 0 })
}

// TestLastGoodValueSurvives: a node that starts, also without etcd, while a key
// makes no sense has the key's last good value, and a restore writes it.
func TestLastGoodValueSurvives(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c, dir := e.Client(t), t.TempDir()
	s := made(t, c, dir)
	populate(t, c, s, 2)
	before := dump(t, c)
	put(t, c, "assignments/t0/0", "{nonsense")
	put(t, c, "assignments/t0/0", "more of it")
	put(t, c, "topics/t1", `{"topic_id":""}`)
	s.sees(t, "nonsense", broken(2))
	s.Close()
	e.Stop()
	offline := open(t, c, dir)
	if v := offline.View(); len(v.Topics) != 2 || len(v.Assignments) != 2 || len(v.Broken) != 2 {
		t.Fatalf("without etcd: %+v", v)
	}
	e.Restart(t)
	s = run(t, c, dir)
	v := s.sees(t, "etcd", func(v *cluster.View) bool { return v.Source == cluster.SourceEtcd })
	if len(v.Topics) != 2 || len(v.Assignments) != 2 || len(v.Broken) != 2 {
		t.Fatalf("after a restart: %+v", v)
	}
	p := planOf(t, c, s, s.evidence(t, 1))
	if p.Well || !strings.Contains(p.Etcd, "topics/t1 makes no sense") {
		t.Errorf("etcd is %s (well: %v)", p.Etcd, p.Well)
	}
	restore(t, c, s, p)
	s.sees(t, "everything mended", func(v *cluster.View) bool { return len(v.Broken) == 0 && v.Meta.Epoch == 2 })
	if d := same(before, dump(t, c)); d != "" {
		t.Error(d)
	}
}

// TestCounterDeletedByHand: it is never begun anew.
func TestCounterDeletedByHand(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, t.TempDir())
	populate(t, c, s, 1)
	remove(t, c, "replica-ids")
	if v := s.sees(t, "the freeze", isFrozen); !strings.Contains(v.Frozen, "replica-ids") {
		t.Errorf("frozen because %s", v.Frozen)
	}
}
