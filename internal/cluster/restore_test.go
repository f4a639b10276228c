package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// evidence is what a node with this store's view says.
func (s running) evidence(t *testing.T, node int32) cluster.Evidence {
	t.Helper()
	view, err := s.Picture()
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Evidence{
		Format: cluster.EvidenceFormat, Cluster: "test", ClusterID: s.View().Meta.ClusterID, Node: node,
		Incarnation: fmt.Sprintf("i%d", node), Source: fmt.Sprintf("node %d's address", node), Live: true, View: view,
	}
}

func planOf(t *testing.T, c *clientv3.Client, s running, evidence ...cluster.Evidence) *cluster.RestorePlan {
	t.Helper()
	p, err := tryPlan(t, c, s, evidence...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryPlan(t *testing.T, c *clientv3.Client, s running, evidence ...cluster.Evidence) (*cluster.RestorePlan, error) {
	t.Helper()
	now, err := cluster.ReadSnapshot(t.Context(), c, s.Keys())
	if err != nil {
		t.Fatal(err)
	}
	return cluster.PlanRestore(s.Keys(), now, evidence)
}

// populate makes topics t0…, each with a partition on nodes 1 and 2.
func populate(t *testing.T, c *clientv3.Client, s running, n int) {
	t.Helper()
	for i := range n {
		topic, err := s.CreateTopic(t.Context(), fmt.Sprintf("t%d", i), 1, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c, fmt.Sprintf("assignments/t%d/0", i), cluster.Assignment{TopicID: topic.ID, Epoch: 1, Generation: 3, Replicas: []cluster.Replica{
			{Node: 1, ID: uint64(2*i + 1), Incarnation: "i1"}, {Node: 2, ID: uint64(2*i + 2), Incarnation: "i2"}}})
	}
	put(t, c, "replica-ids", cluster.Counter{Next: int64(2*n + 1)})
	s.sees(t, "all of it", func(v *cluster.View) bool {
		return len(v.Topics) == n && len(v.Assignments) == n && v.ReplicaIDs.Next == int64(2*n+1)
	})
}

// dump is every key but meta, the numbers and frozen.
func dump(t *testing.T, c *clientv3.Client) map[string]string {
	t.Helper()
	resp, err := c.Get(t.Context(), base, withPrefix)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range resp.Kvs {
		rel := strings.TrimPrefix(string(kv.Key), base)
		if strings.Contains(rel, "/") {
			all[rel] = string(kv.Value)
		}
	}
	return all
}

func same(a, b map[string]string) string {
	for k, v := range a {
		if b[k] != v {
			return fmt.Sprintf("%s is %q, was %q", k, b[k], v)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			return k + " is new"
		}
	}
	return ""
}

// TestRestoreIntoAnEmptiedPrefix interrupts a restore of many transactions at
// each of them: until the last one nothing may be changed, and another run
// completes it.
func TestRestoreIntoAnEmptiedPrefix(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, t.TempDir())
	populate(t, c, s, 200) // four transactions
	if _, err := s.AllocProducerIDs(t.Context(), 5000); err != nil {
		t.Fatal(err)
	}
	put(t, c, "users/u", `{"unknown":"to this version"}`)
	s.sees(t, "the user", func(v *cluster.View) bool { return v.ProducerIDs.Next == 5001 })
	eventually(t, "the user", func() bool { e := s.evidence(t, 1); return strings.Contains(string(e.View), "users/u") })
	before := dump(t, c)
	if _, err := c.Delete(t.Context(), base, withPrefix); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the freeze", isFrozen)

	e1, e2 := s.evidence(t, 1), s.evidence(t, 2)
	e2.ProducerIDs = 70_000 // held in reserve, and the view is behind
	e2.Replicas = []cluster.ReplicaEvidence{{Topic: "lost", TopicID: "L", Replica: 900}}
	for stop := 1; ; stop++ {
		p := planOf(t, c, s, e1, e2)
		if p.Well || p.Epoch != 2 || p.Topics != 200 || p.Assignments != 200 || len(p.Missing) != 0 {
			t.Fatalf("plan %+v", p)
		}
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		err := cluster.Restore(ctx, c, s.Keys(), p, func(int) {
			if calls++; calls == stop {
				cancel()
			}
		})
		cancel()
		if err == nil {
			if stop < 3 {
				t.Fatalf("only %d runs", stop)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		// Neither the node with a view nor one without may write now.
		if _, err := s.CreateTopic(t.Context(), "u", 1, 1, nil); !errors.Is(err, cluster.ErrFrozen) {
			t.Fatalf("create: %v", err)
		}
		fresh := open(t, c, "")
		if _, err := fresh.EnsureMeta(t.Context()); !errors.Is(err, cluster.ErrFrozen) {
			t.Fatalf("a new node's meta: %v", err)
		}
		// What was written already is not written again.
		if again := planOf(t, c, s, e1, e2); len(again.Writes) >= len(p.Writes) {
			t.Fatalf("%d keys to write after an interruption, %d before", len(again.Writes), len(p.Writes))
		}
	}
	s.sees(t, "the thaw", func(v *cluster.View) bool { return !isFrozen(v) && v.Meta.Epoch == 2 })
	if d := same(before, dump(t, c)); d != "" {
		t.Fatal(d)
	}
	first, err := s.AllocProducerIDs(t.Context(), 1)
	if err != nil || first < 70_000+1_000_000 {
		t.Fatalf("producer id %d, %v", first, err)
	}
	if v := s.View(); v.ReplicaIDs.Next < 901+10_000 || v.NodeIDs.Next != 3 {
		t.Fatalf("replica ids from %d, node ids from %d", v.ReplicaIDs.Next, v.NodeIDs.Next)
	}
	// All is well, and whoever comes with another plan is told so.
	if p := planOf(t, c, s, s.evidence(t, 1), s.evidence(t, 2)); !p.Well {
		t.Fatalf("etcd now: %s", p.Etcd)
	}
}

// TestRestoreIsNotOvertaken: two restores at once, or one on old knowledge.
func TestRestoreIsNotOvertaken(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	populate(t, c, s, 2)
	if _, err := c.Delete(t.Context(), base+"meta"); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the freeze", isFrozen)
	one, two := planOf(t, c, s, s.evidence(t, 1)), planOf(t, c, s, s.evidence(t, 1))
	// One that is interrupted leaves its mark, too.
	begun := false
	err := cluster.Restore(t.Context(), c, s.Keys(), one, func(int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := cluster.Restore(ctx, c, s.Keys(), two, func(int) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Errorf("the second: %v", err)
		}
	})
	if !errors.Is(err, cluster.ErrRestoreOvertaken) {
		t.Fatalf("the first, while another had begun: %v", err)
	}
	one, two = planOf(t, c, s, s.evidence(t, 1)), planOf(t, c, s, s.evidence(t, 1))
	if one.Writes = append(one.Writes, cluster.Write{Key: "x", Value: "y"}); len(two.Writes) == 0 {
		two.Writes = one.Writes // there is something to write
	}
	err = cluster.Restore(t.Context(), c, s.Keys(), one, func(int) {
		if !begun {
			begun = true
			if err := cluster.Restore(t.Context(), c, s.Keys(), two, func(int) {}); err != nil {
				t.Errorf("the second: %v", err)
			}
		}
	})
	if !errors.Is(err, cluster.ErrRestoreOvertaken) {
		t.Fatalf("the first: %v", err)
	}
	if err := cluster.Restore(t.Context(), c, s.Keys(), one, func(int) {}); !errors.Is(err, cluster.ErrRestoreOvertaken) {
		t.Fatalf("an old plan: %v", err)
	}
}

// TestRestoreMergesViews: the newest assignment wins, a group's own agreement
// beats all views, the deleted stays deleted, and who is missing is named.
func TestRestoreMergesViews(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	populate(t, c, s, 3)
	old := s.evidence(t, 1) // before what follows
	id := s.View().Topics["t0"].ID
	put(t, c, "assignments/t0/0", cluster.Assignment{TopicID: id, Epoch: 1, Generation: 4, Replicas: []cluster.Replica{
		{Node: 2, ID: 2, Incarnation: "i2"}, {Node: 3, ID: 7, Incarnation: "i3"}}, Initial: []cluster.Replica{
		{Node: 1, ID: 1, Incarnation: "i1"}, {Node: 2, ID: 2, Incarnation: "i2"}}})
	if err := s.DeleteTopic(t.Context(), "t2"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(t.Context(), base+"assignments/t2/0"); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the changes", func(v *cluster.View) bool { return len(v.Assignments) == 2 && len(v.Deleted) == 1 })
	newer := s.evidence(t, 2)
	dead := names(s.View().Deleted)[0]
	newer.Replicas = []cluster.ReplicaEvidence{
		{Topic: "t1", TopicID: s.View().Topics["t1"].ID, Replica: 3, Term: 9, Leading: true, Voters: []uint64{4, 12}, Epoch: 1, Generation: 8},
		{Topic: "t0", TopicID: id, Replica: 2, Term: 9, Leading: true, Voters: []uint64{1, 2}, Epoch: 1, Generation: 3},
		{Topic: "t1", TopicID: s.View().Topics["t1"].ID, Replica: 12, Term: 5, Voters: []uint64{3, 4}, Epoch: 1, Generation: 9},
	}
	if _, err := c.Delete(t.Context(), base, withPrefix); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the freeze", isFrozen)

	p := planOf(t, c, s, old, newer)
	if !slices.Equal(p.Missing, []int32{3}) {
		t.Errorf("missing %v", p.Missing)
	}
	writes := map[string]string{}
	for _, w := range p.Writes {
		writes[w.Key] = w.Brief()
	}
	for key, want := range map[string]string{
		"assignments/t0/0": "1.4 on node:replica 2:2 3:7",
		// Replica 12 seems to be on node 2 beside replica 4: that is no assignment.
		"assignments/t1/0": "1.3 on node:replica 1:3 2:4",
		"assignments/t2/0": "", "topics/t2": "",
	} {
		if got := writes[key]; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if writes["deleted/"+dead] == "" {
		t.Error("the tombstone is lost")
	}
	all := strings.Join(p.Differences, "\n")
	for _, want := range []string{"t0/0 is 1.4", "topic t2", "can't be an assignment"} {
		if !strings.Contains(all, want) {
			t.Errorf("differences without %q:\n%s", want, all)
		}
	}

	// A view of another history brings back what nobody has deleted, and only that.
	strayed := old
	strayed.View = otherEtcd(t, old.View)
	for _, w := range planOf(t, c, s, strayed, newer).Writes {
		if w.Key == "topics/t2" {
			t.Error("a deleted topic is back")
		}
	}
	forgetful := newer
	forgetful.View = without(t, newer.View, "deleted/"+dead)
	kept := 0
	for _, w := range planOf(t, c, s, strayed, forgetful).Writes {
		if w.Key == "topics/t2" || w.Key == "assignments/t2/0" {
			kept++
		}
	}
	if kept != 2 {
		t.Error("a topic that only a view of another history has is lost")
	}

	// The replica is node 3's, which now speaks.
	newer.Replicas[2].Replica = 2
	third := cluster.Evidence{Format: 1, Cluster: "test", ClusterID: newer.ClusterID, Node: 3, Incarnation: "i3", Source: "x",
		Replicas: []cluster.ReplicaEvidence{{Topic: "t1", TopicID: newer.Replicas[0].TopicID, Replica: 12}}}
	p = planOf(t, c, s, old, newer, third)
	for _, w := range p.Writes {
		if w.Key == "assignments/t1/0" && w.Brief() != "2.9 on node:replica 2:4 3:12" {
			t.Errorf("%s: %s", w.Key, w.Brief())
		}
	}

	// Evidence that does not fit is refused.
	foreign := third
	foreign.ClusterID = "another"
	if _, err := tryPlan(t, c, s, newer, foreign); err == nil || !strings.Contains(err.Error(), "belongs to cluster another") {
		t.Errorf("a foreign node: %v", err)
	}
	if _, err := tryPlan(t, c, s, newer, newer); err == nil {
		t.Error("one node spoke twice")
	}
	if _, err := tryPlan(t, c, s, third); err == nil {
		t.Error("a plan without a view")
	}
}

// TestRestoreIntoAnotherEtcd: its cluster id is the right one from then on.
func TestRestoreIntoAnotherEtcd(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	dir := t.TempDir()
	s := made(t, c, dir)
	populate(t, c, s, 3)
	was := s.View().EtcdClusterID
	kept := filepath.Join(t.TempDir(), "kept")
	e.Stop()
	if err := os.CopyFS(kept, os.DirFS(e.Dir())); err != nil {
		t.Fatal(err)
	}
	e.Wipe(t)
	e.Rename("another")
	e.Restart(t)
	s.sees(t, "the freeze", isFrozen)
	p := planOf(t, c, s, s.evidence(t, 1), s.evidence(t, 2))
	if err := cluster.Restore(t.Context(), c, s.Keys(), p, func(int) {}); err != nil {
		t.Fatal(err)
	}
	v := s.sees(t, "the thaw", func(v *cluster.View) bool { return !isFrozen(v) })
	if v.EtcdClusterID == was || len(v.Topics) != 3 || len(v.Assignments) != 3 {
		t.Fatalf("etcd %x, it was %x; %d topics, %d assignments", v.EtcdClusterID, was, len(v.Topics), len(v.Assignments))
	}
	if _, err := s.CreateTopic(t.Context(), "new", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	// The next process knows the new etcd, and the old one is a wrong one now.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = run(t, c, dir)
	s.sees(t, "the new topic", func(v *cluster.View) bool {
		return v.Source == cluster.SourceEtcd && len(v.Topics) == 4 && !isFrozen(v)
	})
	e.Stop()
	e.Wipe(t)
	e.Rename("m1")
	if err := os.CopyFS(e.Dir(), os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	s.sees(t, "the freeze for the old etcd", isFrozen)
}

// TestRestoreSeesAnotherCluster in etcd, made where this one was.
func TestRestoreSeesAnotherCluster(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	populate(t, c, s, 1)
	e := s.evidence(t, 1)
	put(t, c, "meta", cluster.Meta{ClusterID: "other", Epoch: 4, Format: 1, Created: time.Unix(1, 0)})
	put(t, c, "topics/theirs", cluster.Topic{ID: "T", Partitions: 1, ReplicationFactor: 1})
	p := planOf(t, c, s, e)
	if p.Foreign != "other" || p.Well {
		t.Fatalf("plan %+v", p)
	}
}

// otherEtcd makes a view one of another etcd.
func otherEtcd(t *testing.T, view json.RawMessage) json.RawMessage {
	t.Helper()
	return edit(t, view, func(v map[string]any) { v["etcd_cluster_id"] = "abc" })
}

// without removes a key from a view.
func without(t *testing.T, view json.RawMessage, key string) json.RawMessage {
	t.Helper()
	return edit(t, view, func(v map[string]any) {
		v["keys"] = slices.DeleteFunc(v["keys"].([]any), func(k any) bool { return k.(map[string]any)["key"] == key })
	})
}

func edit(t *testing.T, view json.RawMessage, f func(map[string]any)) json.RawMessage {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(view, &v); err != nil {
		t.Fatal(err)
	}
	f(v)
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func names[V any](m map[string]V) (ns []string) {
	for n := range m {
		ns = append(ns, n)
	}
	return ns
}
