package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// Change is a decision of the winner.
type Change = cluster.Change

// Plan returns what is to be done in this view, in a fixed order.
func Plan(view *cluster.View) []Change {
	if view.Meta == nil {
		return nil
	}
	ids := newIDs(view)
	var changes []Change
	for _, planner := range []func(*cluster.View, *idSource) []Change{remove, reincarnate, place} {
		changes = append(changes, planner(view, ids)...)
	}
	return changes
}

// idSource gives out replica ids, to be reserved by the changes that use them.
type idSource struct {
	next     uint64
	revision int64
}

func newIDs(view *cluster.View) *idSource {
	next := uint64(max(view.ReplicaIDs.Next, 1))
	for _, a := range view.Assignments {
		for _, rs := range [][]cluster.Replica{a.Replicas, a.Initial} {
			for _, r := range rs {
				next = max(next, r.ID+1)
			}
		}
	}
	return &idSource{next: next, revision: view.ReplicaIDs.ModRevision}
}

func (i *idSource) take() uint64 {
	i.next++
	return i.next - 1
}

// assigned returns the partitions that have an assignment, in order.
func assigned(view *cluster.View) []cluster.TopicPartition {
	return slices.SortedFunc(maps.Keys(view.Assignments), func(a, b cluster.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// remove deletes the assignments of topics that have a tombstone.
func remove(view *cluster.View, _ *idSource) (changes []Change) {
	if len(view.Deleted) == 0 {
		return nil
	}
	for _, tp := range assigned(view) {
		a := view.Assignments[tp]
		if _, dead := view.Deleted[a.TopicID]; dead && !view.IsBroken(tp) {
			changes = append(changes, Change{Kind: cluster.Remove, TP: tp, Revision: a.ModRevision, Reason: "topic deleted"})
		}
	}
	return changes
}

// reincarnate replaces one replica of a partition whose node came back empty.
func reincarnate(view *cluster.View, ids *idSource) (changes []Change) {
	for _, tp := range assigned(view) {
		a := view.Assignments[tp]
		if _, dead := view.Deleted[a.TopicID]; dead || view.IsBroken(tp) {
			continue
		}
		wiped, healthy := -1, 0
		for i, r := range a.Replicas {
			node, up := view.Nodes[r.Node]
			switch {
			case up && node.Incarnation == r.Incarnation:
				healthy++
			case up && wiped < 0:
				wiped = i
			}
		}
		if wiped < 0 {
			continue
		}
		old := a.Replicas[wiped]
		if majority := len(a.Replicas)/2 + 1; healthy < majority {
			changes = append(changes, Change{Kind: cluster.Blocked, TP: tp, Reason: fmt.Sprintf(
				"the disk of node %d was wiped and only %d of %d replicas are left on live nodes, %d are needed to replace it; bring the others back",
				old.Node, healthy, len(a.Replicas), majority)})
			continue
		}
		next := a
		next.Initial = slices.Clone(a.Bootstrap())
		next.Replicas = slices.Clone(a.Replicas)
		next.Replicas[wiped] = cluster.Replica{Node: old.Node, ID: ids.take(), Incarnation: view.Nodes[old.Node].Incarnation}
		next.Epoch, next.Generation = following(view, a)
		changes = append(changes, Change{
			Kind: cluster.Replace, TP: tp, Assignment: next, Revision: a.ModRevision,
			CounterRevision: ids.revision, NewIDs: 1,
			Reason: fmt.Sprintf("the disk of node %d was wiped", old.Node),
		})
	}
	return changes
}

// following returns the epoch and generation after those of an assignment.
func following(view *cluster.View, a cluster.Assignment) (epoch, generation int64) {
	return max(view.Meta.Epoch, a.Epoch), a.Generation + 1
}

// TombstoneLife is how long a tombstone stays after its topic's deletion, so
// that a node which was away learns of it.
const TombstoneLife = 7 * 24 * time.Hour

// Forget returns the removal of tombstones that are older than TombstoneLife
// and whose assignments are gone. It is apart from Plan because it needs the
// time.
func Forget(view *cluster.View, now time.Time) (changes []Change) {
	if len(view.Deleted) == 0 {
		return nil
	}
	used := map[string]bool{}
	for _, a := range view.Assignments {
		used[a.TopicID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(view.Deleted)) {
		t := view.Deleted[id]
		if !used[id] && now.Sub(t.Deleted) > TombstoneLife {
			changes = append(changes, Change{Kind: cluster.Forget, TopicID: id, Revision: t.ModRevision,
				Reason: fmt.Sprintf("topic %s was deleted long ago", t.Topic)})
		}
	}
	return changes
}
