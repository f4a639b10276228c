package node

import (
	"slices"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
)

func TestRetiredMembers(t *testing.T) {
	v := &cluster.View{
		Wishes: map[int32]cluster.NodeWish{
			2: {State: cluster.WishDecommissioned}, 3: {State: cluster.WishDecommissioned}, 4: {State: cluster.WishDrained}, 6: {State: cluster.WishDecommissioned},
		},
		Assignments: map[cluster.TopicPartition]cluster.Assignment{
			{Topic: "t"}: {Replicas: []cluster.Replica{{Node: 1}, {Node: 3}}},
		},
	}
	met := []cluster.Node{
		{Node: 1, EtcdMember: "one"}, {Node: 2, EtcdMember: "two"}, {Node: 3, EtcdMember: "three"}, {Node: 4, EtcdMember: "four"},
		{Node: 5}, {Node: 6, EtcdMember: "one"},
	}
	for _, c := range []struct {
		name  string
		self  cluster.Node
		leave bool
		want  []string
	}{
		{"one that stays", cluster.Node{Node: 1, EtcdMember: "one"}, false, []string{"two"}},
		{"one that holds nothing any more", cluster.Node{Node: 2, EtcdMember: "two"}, true, []string{"two"}},
		{"one that has left", cluster.Node{Node: 2}, true, nil},
		{"one that still holds something", cluster.Node{Node: 3, EtcdMember: "three"}, true, []string{"two"}},
		{"one that is drained", cluster.Node{Node: 4, EtcdMember: "four"}, false, []string{"two"}},
	} {
		leave, retired := retiredMembers(v, met, c.self)
		if leave != c.leave || !slices.Equal(retired, c.want) {
			t.Errorf("%s: %v, %v", c.name, leave, retired)
		}
	}
}

func TestRetiredNodes(t *testing.T) {
	wish := cluster.NodeWish{State: cluster.WishDecommissioned}
	v := &cluster.View{
		Wishes:      map[int32]cluster.NodeWish{2: wish, 3: wish, 4: wish, 5: {State: cluster.WishDrained}},
		Nodes:       map[int32]cluster.Node{1: {Node: 1}, 2: {Node: 2}},
		Assignments: map[cluster.TopicPartition]cluster.Assignment{{Topic: "t"}: {Replicas: []cluster.Replica{{Node: 3}}}},
	}
	if got := retiredNodes(v); len(got) != 1 || !got[4] {
		t.Errorf("%v", got)
	}
}
