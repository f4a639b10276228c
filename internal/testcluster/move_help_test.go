package testcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

// metadata follows the cluster's keys, and writes them as the winner would.
type metadata struct {
	t     *testing.T
	store *cluster.Store
}

func (c *Cluster) metadata(t *testing.T) metadata {
	t.Helper()
	s, err := cluster.New(cluster.Options{Client: c.Etcd.Client(t), Cluster: "test", Logger: Logger("test")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	m := metadata{t, s}
	m.await("the nodes", func(v *cluster.View) bool { return v.Source == cluster.SourceEtcd })
	return m
}

// await waits for a view.
func (m metadata) await(what string, cond func(*cluster.View) bool) *cluster.View {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	v, err := m.store.WaitFor(ctx, cond)
	if err != nil {
		m.t.Fatalf("never saw %s: %v; status %+v, assignments %+v", what, err, m.store.View().Status, m.store.View().Assignments)
	}
	return v
}

// assign gives a partition replicas on nodes. Those it has stay, new ones get ids.
// It returns the assignment as it stands in etcd.
func (m metadata) assign(tp cluster.TopicPartition, nodes ...int32) cluster.Assignment {
	m.t.Helper()
	return m.write(tp, func(v *cluster.View, next *cluster.Assignment) (newIDs int) {
		old := next.Replicas
		next.Replicas = nil
		for _, n := range nodes {
			i := slices.IndexFunc(old, func(r cluster.Replica) bool { return r.Node == n })
			if i >= 0 {
				next.Replicas = append(next.Replicas, old[i])
				continue
			}
			next.Replicas = append(next.Replicas, cluster.Replica{
				Node: n, ID: uint64(v.ReplicaIDs.Next) + uint64(newIDs), Incarnation: v.Nodes[n].Incarnation})
			newIDs++
		}
		return newIDs
	})
}

// write changes a partition's assignment in a transaction of the winner.
func (m metadata) write(tp cluster.TopicPartition, change func(v *cluster.View, next *cluster.Assignment) (newIDs int)) cluster.Assignment {
	m.t.Helper()
	for {
		v := m.await("the assignment", func(v *cluster.View) bool { return len(v.Assignments[tp].Replicas) > 0 && v.Winner != nil })
		old := v.Assignments[tp]
		next := old
		next.Initial = slices.Clone(old.Bootstrap())
		// While it is not known how far the last change has come all of them are.
		next.Former = slices.Clone(old.Replicas)
		if _, settled := leaderIn(v, tp); !settled {
			for _, r := range old.Former {
				if replicaOn(old, r.Node) == 0 {
					next.Former = append(next.Former, r)
				}
			}
		}
		next.Generation++
		newIDs := change(v, &next)
		token := election.Token{Key: v.Winner.Key, CreateRevision: v.Winner.CreateRevision}
		_, err := m.store.Fenced(token).Apply(m.t.Context(), []cluster.Change{{Kind: cluster.Replace, TP: tp, Assignment: next,
			Revision: old.ModRevision, CounterRevision: v.ReplicaIDs.ModRevision, NewIDs: newIDs}})
		if err != nil {
			m.t.Logf("assign again: %v", err) // the view was old
			continue
		}
		return m.await("what was assigned", func(v *cluster.View) bool { return v.Assignments[tp].Generation >= next.Generation }).Assignments[tp]
	}
}

// leader returns the node whose status says that it leads a partition, and
// whether the partition is settled: its members are those of its assignment.
func leaderIn(v *cluster.View, tp cluster.TopicPartition) (leader int32, settled bool) {
	var newest uint64
	for id, s := range v.Status {
		if term := s.Leads[tp.Topic][tp.Partition]; term > newest {
			newest, leader = term, id
			settled = !slices.Contains(s.Moving[tp.Topic], tp.Partition) && s.Assignments >= v.Assignments[tp].ModRevision
		}
	}
	return leader, settled
}

// settled waits until the partition has the members of its assignment.
func (m metadata) settled(tp cluster.TopicPartition) (leader int32) {
	m.t.Helper()
	m.await("the partition to be settled", func(v *cluster.View) bool {
		var ok bool
		leader, ok = leaderIn(v, tp)
		return ok
	})
	return leader
}

// replicaOn is a partition's replica on a node by its assignment.
func replicaOn(a cluster.Assignment, node int32) uint64 {
	for _, r := range a.Replicas {
		if r.Node == node {
			return r.ID
		}
	}
	return 0
}

// holds says whether a node's directory holds data of a replica.
func (c *Cluster) holds(node int32, replica uint64) bool {
	_, err := os.Stat(filepath.Join(c.dir, fmt.Sprint(node), "partitions", fmt.Sprint(replica)))
	return err == nil
}

func (c *Cluster) awaitFreed(t *testing.T, node int32, replica uint64) {
	t.Helper()
	testetcd.Eventually(t, fmt.Sprintf("replica %d on node %d to be freed", replica, node), func() bool { return !c.holds(node, replica) })
}
