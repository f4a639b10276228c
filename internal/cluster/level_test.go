package cluster

import "testing"

func TestLowest(t *testing.T) {
	for name, c := range map[string]struct {
		levels map[int32]int
		level  int
		node   int32
	}{
		"no node":       {nil, 0, 0},
		"all alike":     {map[int32]int{1: 2, 2: 2}, 2, 1},
		"one is behind": {map[int32]int{1: 2, 2: 1, 3: 2}, 1, 2},
		"one has none":  {map[int32]int{1: 2, 3: 0}, 0, 3},
	} {
		v := &View{Nodes: make(map[int32]Node)}
		for id, level := range c.levels {
			v.Nodes[id] = Node{Node: id, Level: level}
		}
		if level, node := v.Lowest(); level != c.level || node != c.node {
			t.Errorf("%s: level %d of node %d, want %d of %d", name, level, node, c.level, c.node)
		}
	}
}
