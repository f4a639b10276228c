package node

import (
	"fmt"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/replication"
)

// TestReplacedOf: which open replicas count as replaced, by a view.
func TestReplacedOf(t *testing.T) {
	tp := cluster.TopicPartition{Topic: "t"}
	assigned := func(id string, replicas ...uint64) map[cluster.TopicPartition]cluster.Assignment {
		a := cluster.Assignment{TopicID: id, Epoch: 1, Generation: 2}
		for i, r := range replicas {
			a.Replicas = append(a.Replicas, cluster.Replica{Node: int32(i + 1), ID: r})
		}
		return map[cluster.TopicPartition]cluster.Assignment{tp: a}
	}
	open := []*opened{{id: partitionID{"x", 0}, topic: "t", replica: 7}}
	for _, c := range []struct {
		name string
		view cluster.View
		want int
	}{
		{"the assignment names it", cluster.View{Assignments: assigned("x", 7, 8)}, 0},
		{"the assignment names others", cluster.View{Assignments: assigned("x", 8, 9)}, 1},
		{"no assignment", cluster.View{}, 0},
		{"another topic of that name", cluster.View{Assignments: assigned("y", 8, 9)}, 0},
		{"changes are frozen", cluster.View{Assignments: assigned("x", 8, 9), Frozen: "restored"}, 0},
		{"the key makes no sense", cluster.View{Assignments: assigned("x", 8, 9), Broken: map[string]string{"assignments/t/0": "?"}}, 0},
	} {
		if got := len(replacedOf(&c.view, open)); got != c.want {
			t.Errorf("%s: %d replaced, want %d", c.name, got, c.want)
		}
	}
}

// TestGone: which answer of a leader frees a replica.
func TestGone(t *testing.T) {
	r := replaced{&opened{replica: 7}, cluster.Assignment{Epoch: 2, Generation: 5}}
	for _, c := range []struct {
		epoch, generation int64
		members           []uint64
		want              bool
	}{
		{2, 5, []uint64{8, 9}, true},
		{2, 6, []uint64{8, 9}, true},
		{3, 1, []uint64{8, 9}, true},
		{2, 5, []uint64{7, 8, 9}, false},
		{2, 4, []uint64{8, 9}, false}, // it may add it yet
		{1, 9, []uint64{8, 9}, false},
	} {
		got := gone(replication.Confirmation{Epoch: c.epoch, Generation: c.generation, Members: c.members}, r)
		if got != c.want {
			t.Errorf("%s: got %v, want %v", fmt.Sprint(c.epoch, c.generation, c.members), got, c.want)
		}
	}
}
