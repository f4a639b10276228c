package testcluster

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// place makes a topic with one partition on nodes 1, 2 and 3 of four.
func (c *Cluster) place(t *testing.T, m metadata, topic string) (tp cluster.TopicPartition, a cluster.Assignment) {
	t.Helper()
	if _, err := kadm.NewClient(c.Client()).CreateTopic(t.Context(), 1, 3, nil, topic); err != nil {
		t.Fatal(err)
	}
	tp = cluster.TopicPartition{Topic: topic}
	before := m.await("the topic's assignment", func(v *cluster.View) bool { return len(v.Assignments[tp].Replicas) == 3 }).Assignments[tp]
	m.settled(tp)
	a = m.assign(tp, 1, 2, 3)
	m.settled(tp)
	for _, r := range before.Replicas {
		if r.Node == 4 {
			c.awaitFreed(t, 4, r.ID)
		}
	}
	return tp, a
}

// TestMoveUnderLoad moves all replicas of a partition, its leader's too, to other
// nodes and back, under all kinds of producers: nothing is lost, the groups get
// there, and each node frees what it no longer holds.
func TestMoveUnderLoad(t *testing.T) {
	c := Start(t, 4, nil)
	m := c.metadata(t)
	tp, first := c.place(t, m, "moves")
	all := c.writers("moves", 1, 2<<10, 5*time.Millisecond)
	fresh(t, "before the move", all)
	moved := m.assign(tp, 4, 2, 3)
	began := time.Now()
	m.settled(tp)
	t.Logf("moved one replica of three in %v", time.Since(began).Round(time.Millisecond))
	fresh(t, "after the move", all)
	c.awaitFreed(t, 1, replicaOn(first, 1))
	for _, node := range []int32{2, 3, 4} {
		if !c.holds(node, replicaOn(moved, node)) {
			t.Errorf("node %d has no data of its replica", node)
		}
	}
	back := m.assign(tp, 1, 4, 2)
	m.settled(tp)
	if replicaOn(back, 1) == replicaOn(first, 1) {
		t.Fatal("a replica id was used again")
	}
	fresh(t, "after the move back", all)
	c.awaitFreed(t, 3, replicaOn(first, 3))
	c.finish(t, all)
}

// TestReplacedReplicaIsKeptUntilConfirmed: a node that can't hear from the group's
// leader keeps a replica that its assignment no longer names, over a restart
// too, and frees it once the leader has confirmed that it is no member. The
// partition's assignment vanishing by hand frees nothing.
func TestReplacedReplicaIsKeptUntilConfirmed(t *testing.T) {
	c := Start(t, 4, nil)
	m := c.metadata(t)
	tp, first := c.place(t, m, "kept")
	all := c.writers("kept", 1, 100, 20*time.Millisecond)
	fresh(t, "before the move", all)
	for _, other := range []int32{1, 2, 4} {
		c.Network.Cut(3, other)
	}
	m.assign(tp, 1, 2, 4)
	m.settled(tp)
	old := replicaOn(first, 3)
	pass(t, 2*time.Second)
	if !c.holds(3, old) {
		t.Fatal("a replica was freed though no leader could be asked")
	}
	c.Stop(3)
	c.Restart(3)
	pass(t, 2*time.Second)
	if !c.holds(3, old) {
		t.Fatal("a replica was freed after a restart though no leader could be asked")
	}
	for _, other := range []int32{1, 2, 4} {
		c.Network.Heal(3, other)
	}
	c.awaitFreed(t, 3, old)
	fresh(t, "afterwards", all)
	c.finish(t, all)
}

// TestAbandonedMove: the node that a replica moves to stops half-way, and the
// partition goes back to where it was: no trace of the move is left in the group.
func TestAbandonedMove(t *testing.T) {
	c := Start(t, 4, nil)
	m := c.metadata(t)
	tp, first := c.place(t, m, "abandoned")
	all := c.writers("abandoned", 1, 1<<10, 5*time.Millisecond)
	fresh(t, "before the move", all)
	c.Stop(4)
	v := m.store.View()
	if _, up := v.Nodes[4]; up {
		v = m.await("node 4 to be gone", func(v *cluster.View) bool { _, up := v.Nodes[4]; return !up })
	}
	gone := cluster.Replica{Node: 4, ID: uint64(v.ReplicaIDs.Next), Incarnation: "stopped"}
	m.assignTo(tp, []cluster.Replica{first.Replicas[0], first.Replicas[1], gone}, 1)
	testetcd.Eventually(t, "the leader to have begun", func() bool {
		leader, settled := leaderIn(m.store.View(), tp)
		return leader > 0 && !settled
	})
	fresh(t, "during the move", all)
	m.assignTo(tp, first.Replicas, 0)
	m.settled(tp)
	fresh(t, "after the move was given up", all)
	c.finish(t, all)
	c.Restart(4)
}

// TestWish: a node that an operator wants drained leads nothing soon, under load
// and with the balancer paused, and leads again when the wish is gone.
func TestWish(t *testing.T) {
	c := Start(t, 3, nil)
	m := c.metadata(t)
	c.spread(t, "wish", 3)
	all := c.writers("wish", 3, 100, 10*time.Millisecond)
	fresh(t, "before the wish", all)
	if err := m.store.SetRebalance(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	etcd := c.Etcd.Client(t)
	key := m.store.Keys().Wish(2)
	if _, err := etcd.Put(t.Context(), key, `{"state":"drained"}`); err != nil {
		t.Fatal(err)
	}
	leads := func(v *cluster.View, node int32) int { return len(v.Status[node].Leads["wish"]) }
	m.await("node 2 to lead nothing", func(v *cluster.View) bool { return leads(v, 2) == 0 && leads(v, 1)+leads(v, 3) == 3 })
	fresh(t, "with node 2 drained", all)
	if _, err := etcd.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := m.store.SetRebalance(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	m.await("each node to lead its own again", func(v *cluster.View) bool { return leads(v, 1) == 1 && leads(v, 2) == 1 && leads(v, 3) == 1 })
	c.finish(t, all)
}

// heard is what nodes log.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

// lines returns the lines with a message.
func (h *heard) lines(msg string) (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range strings.Split(h.text.String(), "\n") {
		if strings.Contains(line, msg) {
			all = append(all, line)
		}
	}
	return all
}

// TestStopHandsOver stops nodes in order, one after another, under all kinds of
// producers: each hands over all that it leads, nobody sees an error, and nothing
// is lost. Without etcd it is the same.
func TestStopHandsOver(t *testing.T) {
	var logs heard
	c := Start(t, 3, func(cfg *node.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	m := c.metadata(t)
	c.spread(t, "stops", 3)
	all := c.writers("stops", 3, 1<<10, 5*time.Millisecond)
	fresh(t, "before the first stop", all)
	for _, id := range []int32{1, 2, 3} {
		c.Stop(id)
		fresh(t, "with a node stopped", all)
		c.Restart(id)
		m.await("the node to lead again", func(v *cluster.View) bool { return len(v.Status[id].Leads["stops"]) > 0 })
	}
	c.Etcd.Stop()
	c.Stop(2)
	fresh(t, "with a node and etcd stopped", all)
	c.Restart(2)
	fresh(t, "with the node back", all)
	c.Etcd.Restart(t)
	c.finish(t, all)
	done := logs.lines("leaderships handed over\" handed_over=")
	if len(done) != 4 {
		t.Errorf("%d of 4 stops handed over all that was led", len(done))
	}
	for _, line := range done {
		if strings.Contains(line, "handed_over=0 ") || !strings.Contains(line, "left=0 ") {
			t.Errorf("a node did not hand over: %s", line)
		}
	}
}

// assignTo writes replicas as they are; new ids are at the counter's end.
func (m metadata) assignTo(tp cluster.TopicPartition, replicas []cluster.Replica, newIDs int) {
	m.t.Helper()
	m.write(tp, func(v *cluster.View, next *cluster.Assignment) int {
		next.Replicas = slices.Clone(replicas)
		return newIDs
	})
}
