package cluster_test

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// What operators want survives a restore; what was under way fails.
func TestRestoreKeepsWishesAndEndsOperations(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, t.TempDir())
	populate(t, c, s, 1)
	for rel, value := range map[string]string{
		"config/nodes/2":   `{"state":"decommissioned"}`,
		"config/rebalance": `{"paused":true}`,
		"config/brokers/2": `{"config":{"log.retention.ms":"5"}}`,
		"config/later":     `{"of":"a later version"}`,
		"ops/done":         `{"kind":"drain","node":1,"state":"done","finished":"2026-11-21T12:00:00Z"}`,
		"ops/running":      `{"kind":"decommission","node":2,"state":"running","progress":{"done":1,"total":2,"estimate_seconds":9}}`,
		"ops/new":          `{"kind":"drain","node":1}`,
		"ops/nonsense":     `[]`,
	} {
		if _, err := c.Put(t.Context(), base+rel, value); err != nil {
			t.Fatal(err)
		}
	}
	s.sees(t, "all of it", func(v *cluster.View) bool {
		return len(v.Ops) == 3 && len(v.Wishes) == 1 && v.Rebalance.Paused && v.Broken["ops/nonsense"] != ""
	})
	before := dump(t, c)
	evidence := s.evidence(t, 1)

	// A well etcd: nothing changes.
	for _, w := range planOf(t, c, s, evidence).Writes {
		if strings.Contains(w.Key, "/") {
			t.Errorf("a well etcd gets %+v", w)
		}
	}

	if _, err := c.Delete(t.Context(), base, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Restore(t.Context(), c, s.Keys(), planOf(t, c, s, evidence), func(int) {}); err != nil {
		t.Fatal(err)
	}
	after := dump(t, c)
	for _, rel := range []string{"ops/running", "ops/new"} {
		if op := after[rel]; !strings.Contains(op, `"state":"failed"`) || !strings.Contains(op, "ask again") || strings.Contains(op, "estimate") {
			t.Errorf("%s is %s", rel, op)
		}
		delete(before, rel)
		delete(after, rel)
	}
	if why := same(before, after); why != "" {
		t.Error(why)
	}
}

// A wish that only an older view has was taken back; one of another history may
// still be wanted.
func TestRestoreOfWishesOfSeveralViews(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	populate(t, c, s, 1)
	const wish = "config/nodes/2"
	if _, err := c.Put(t.Context(), base+wish, `{"state":"decommissioned"}`); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the wish", func(v *cluster.View) bool { return len(v.Wishes) == 1 })
	old := s.evidence(t, 1)
	if _, err := c.Delete(t.Context(), base+wish); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "no wish", func(v *cluster.View) bool { return len(v.Wishes) == 0 })
	newer := s.evidence(t, 2)
	if _, err := c.Delete(t.Context(), base, withPrefix); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the freeze", isFrozen)

	strayed := old
	strayed.View = otherEtcd(t, old.View)
	for _, k := range []struct {
		of   cluster.Evidence
		want bool
	}{{old, false}, {strayed, true}} {
		kept := false
		for _, w := range planOf(t, c, s, k.of, newer).Writes {
			kept = kept || w.Key == wish && w.Value == `{"state":"decommissioned"}`
		}
		if kept != k.want {
			t.Errorf("the wish is kept: %v, want %v", kept, k.want)
		}
	}
}
