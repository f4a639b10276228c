package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// Recover is the change by which a partition begins anew from one replica, on
// an operator's word that a majority of the others is destroyed. The note says
// which replica survived, and all that is known of the former group; Into and
// the rest of Former are filled in here. The replicas beside the survivor are
// new ones, as many as ready nodes and the topic's replication factor allow.
// Initial stays what it was, so that nothing bootstraps an empty group.
func Recover(view *cluster.View, tp cluster.TopicPartition, note cluster.Recovery) (Change, error) {
	a, ok := view.Assignments[tp]
	switch {
	case view.Meta == nil || !ok:
		return Change{}, fmt.Errorf("partition %s has no assignment", tp)
	case view.IsBroken(tp):
		return Change{}, fmt.Errorf("the assignment or the topic of %s makes no sense in etcd: mend the key first", tp)
	}
	if _, dead := view.Deleted[a.TopicID]; dead {
		return Change{}, fmt.Errorf("the topic of %s is being deleted", tp)
	}
	i := slices.IndexFunc(a.Replicas, func(r cluster.Replica) bool { return r.ID == note.From })
	if i < 0 {
		return Change{}, fmt.Errorf("replica %d is none of partition %s: they are %s", note.From, tp, cluster.FormatReplicas(a.Replicas))
	}
	w := newWorld(view, Facts{})
	ids := newIDs(w)
	home := a.Replicas[i]
	note.Into = ids.take()
	for _, rs := range [][]cluster.Replica{a.Replicas, a.Initial, a.Former} {
		for _, r := range rs {
			note.GivenUp = append(note.GivenUp, r.ID)
		}
	}
	if a.Recovered != nil {
		note.GivenUp = append(note.GivenUp, a.Recovered.GivenUp...)
	}
	slices.Sort(note.GivenUp)
	note.GivenUp = slices.Compact(note.GivenUp)

	next := a
	next.Initial = slices.Clone(a.Bootstrap())
	// The group's only member, until it has taken the others in.
	next.Former = []cluster.Replica{{Node: home.Node, ID: note.Into, Incarnation: home.Incarnation}}
	next.Replicas = []cluster.Replica{{Node: home.Node, ID: note.Into, Incarnation: home.Incarnation}}
	for _, n := range companions(view, home.Node, int(view.Topics[tp.Topic].ReplicationFactor)-1) {
		next.Replicas = append(next.Replicas, cluster.Replica{Node: n.Node, ID: ids.take(), Incarnation: n.Incarnation})
	}
	next.Epoch, next.Generation = max(view.Meta.Epoch, a.Epoch), a.Generation+1
	next.Recovered = &note
	return Change{
		Kind: cluster.Replace, TP: tp, Assignment: next, Revision: a.ModRevision,
		CounterRevision: ids.revision, NewIDs: len(next.Replicas),
		Reason: fmt.Sprintf("recovered from replica %d, a majority was lost", note.From),
	}, nil
}

// companions are up to n ready nodes for new replicas beside the one at home:
// those in other racks first, then those that hold the fewest replicas.
func companions(view *cluster.View, home int32, n int) []cluster.Node {
	holds := map[int32]int{}
	for _, a := range view.Assignments {
		for _, r := range a.Replicas {
			holds[r.Node]++
		}
	}
	var free []cluster.Node
	for _, id := range view.NodeIDList() {
		_, leaving := view.Wishes[id]
		if node := view.Nodes[id]; id != home && node.State == cluster.StateReady && !leaving {
			free = append(free, node)
		}
	}
	racks := map[string]int{view.Nodes[home].Rack: 1}
	var chosen []cluster.Node
	for len(chosen) < n && len(free) > 0 {
		slices.SortStableFunc(free, func(a, b cluster.Node) int {
			return cmp.Or(cmp.Compare(racks[a.Rack], racks[b.Rack]), cmp.Compare(holds[a.Node], holds[b.Node]), cmp.Compare(a.Node, b.Node))
		})
		racks[free[0].Rack]++
		chosen, free = append(chosen, free[0]), free[1:]
	}
	return chosen
}
