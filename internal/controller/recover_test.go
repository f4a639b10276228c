package controller

import (
	"slices"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
)

// TestRecover: the survivor gets a new id and stays first, new replicas go to
// ready nodes in other racks, every former id is named, and nobody bootstraps.
func TestRecover(t *testing.T) {
	tp := cluster.TopicPartition{Topic: "t"}
	node := func(id int32, rack, state string) cluster.Node {
		return cluster.Node{Node: id, Incarnation: "new", Rack: rack, State: state}
	}
	a := cluster.Assignment{TopicID: "T", Epoch: 2, Generation: 4, ModRevision: 9, Replicas: []cluster.Replica{
		{Node: 1, ID: 71, Incarnation: "new"}, {Node: 2, ID: 72, Incarnation: "old"}, {Node: 3, ID: 73, Incarnation: "old"}}}
	view := &cluster.View{
		Meta: &cluster.Meta{Epoch: 3},
		Nodes: map[int32]cluster.Node{
			1: node(1, "a", cluster.StateReady), 4: node(4, "a", cluster.StateReady), 5: node(5, "b", cluster.StateReady),
			6: node(6, "c", cluster.StateDraining), 7: node(7, "c", cluster.StateReady),
		},
		Wishes:      map[int32]cluster.NodeWish{7: {State: cluster.WishDrained}},
		Topics:      map[string]cluster.Topic{"t": {ID: "T", Partitions: 1, ReplicationFactor: 3}},
		Assignments: map[cluster.TopicPartition]cluster.Assignment{tp: a},
		ReplicaIDs:  cluster.Counter{Next: 100, ModRevision: 8},
	}
	c, err := Recover(view, tp, cluster.Recovery{From: 71, GivenUp: []uint64{73, 75}, Term: 1000})
	if err != nil {
		t.Fatal(err)
	}
	const want = "replace t/0 3.5 1:100 5:101 4:102 initial 1:71 2:72 3:73: recovered from replica 71, a majority was lost"
	if c.String() != want || c.Revision != 9 || c.CounterRevision != 8 || c.NewIDs != 3 {
		t.Errorf("%s\nwant %s; revisions %d %d, %d ids", c, want, c.Revision, c.CounterRevision, c.NewIDs)
	}
	note := c.Assignment.Recovered
	if note.Into != 100 || !slices.Equal(note.GivenUp, []uint64{71, 72, 73, 75}) {
		t.Errorf("note %+v", note)
	}
	if _, err := Recover(view, tp, cluster.Recovery{From: 80}); err == nil {
		t.Error("a replica that the partition does not have was taken")
	}

	// A second loss: the former ones of the first stay given up. A plan of the
	// winner keeps the note.
	view.Assignments[tp] = c.Assignment
	again, err := Recover(view, tp, cluster.Recovery{From: 101})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{71, 72, 73, 75, 100, 101, 102} {
		if !again.Assignment.IsGivenUp(id) {
			t.Errorf("replica %d is not given up", id)
		}
	}
	node4 := view.Nodes[4]
	node4.Incarnation = "wiped"
	view.Nodes[4] = node4
	changes := Plan(view, Facts{})
	if len(changes) != 1 || changes[0].Kind != cluster.Replace || changes[0].Assignment.Recovered == nil {
		t.Errorf("after another wiped disk: %v", changes)
	}
}
