package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// target is a node that takes replicas, with what it has so far.
type target struct {
	id          int32
	incarnation string
	rack        *rack
	replicas    int
	leads       int // how often it is the preferred leader
}

// rack counts what its ready nodes hold together.
type rack struct {
	nodes    int
	replicas int
}

// place assigns the partitions that have no assignment.
func place(view *cluster.View, ids *idSource) (changes []Change) {
	targets := census(view)
	var placed [][]*target // of the Place changes, in order
	for _, name := range view.TopicNames() {
		topic := view.Topics[name]
		if _, broken := view.Broken["topics/"+name]; broken {
			continue
		}
		for p := range topic.Partitions {
			tp := cluster.TopicPartition{Topic: name, Partition: p}
			if a, ok := view.Assignments[tp]; ok {
				if _, dead := view.Deleted[a.TopicID]; a.TopicID != topic.ID && !dead {
					changes = append(changes, Change{Kind: cluster.Blocked, TP: tp, Reason: fmt.Sprintf(
						"its assignment belongs to topic id %s, which was never deleted; delete that key if its data is not wanted", a.TopicID)})
				}
				continue // of a deleted topic: placed once it is removed
			}
			if view.IsBroken(tp) {
				continue
			}
			if need := int(topic.ReplicationFactor); need > len(targets) {
				changes = append(changes, Change{Kind: cluster.Blocked,
					TP:     cluster.TopicPartition{Topic: name, Partition: -1},
					Reason: fmt.Sprintf("%d replicas need as many ready nodes, there are %d", need, len(targets))})
				break
			}
			placed = append(placed, choose(targets, int(topic.ReplicationFactor)))
			changes = append(changes, Change{
				Kind: cluster.Place, TP: tp, TopicRevision: topic.CreateRevision, CounterRevision: ids.revision,
				Assignment: cluster.Assignment{TopicID: topic.ID, Epoch: view.Meta.Epoch, Generation: 1},
			})
		}
	}
	levelLeaders(targets, placed)
	for i := range changes {
		if c := &changes[i]; c.Kind == cluster.Place {
			for _, t := range placed[0] {
				c.Assignment.Replicas = append(c.Assignment.Replicas, cluster.Replica{Node: t.id, ID: ids.take(), Incarnation: t.incarnation})
			}
			c.NewIDs, placed = len(placed[0]), placed[1:]
		}
	}
	return changes
}

// census returns the ready nodes, by id, with what they hold.
func census(view *cluster.View) []*target {
	byID, racks := map[int32]*target{}, map[string]*rack{}
	for id, n := range view.Nodes {
		if n.State != cluster.StateReady {
			continue
		}
		r := racks[n.Rack]
		if r == nil {
			r = &rack{}
			racks[n.Rack] = r
		}
		r.nodes++
		byID[id] = &target{id: id, incarnation: n.Incarnation, rack: r}
	}
	for _, a := range view.Assignments {
		for i, r := range a.Replicas {
			if t := byID[r.Node]; t != nil {
				t.replicas++
				t.rack.replicas++
				if i == 0 {
					t.leads++
				}
			}
		}
	}
	targets := make([]*target, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		targets = append(targets, byID[id])
	}
	return targets
}

// choose picks n nodes for a partition and counts it for them. The first is
// the preferred leader.
func choose(targets []*target, n int) []*target {
	chosen := make([]*target, 0, n)
	here := map[*rack]int{} // replicas of this partition
	for range n {
		var best *target
		for _, t := range targets {
			if !slices.Contains(chosen, t) && (best == nil || before(t, best, here)) {
				best = t
			}
		}
		chosen = append(chosen, best)
		here[best.rack]++
		best.replicas++
		best.rack.replicas++
	}
	leader := 0
	for i, t := range chosen {
		if t.leads < chosen[leader].leads {
			leader = i
		}
	}
	chosen[0], chosen[leader] = chosen[leader], chosen[0]
	chosen[0].leads++
	return chosen
}

// before says whether a is the better place for a replica: the rack with
// fewer replicas of this partition, then the rack that is emptier for its
// size, then the emptier node.
func before(a, b *target, here map[*rack]int) bool {
	if a.rack != b.rack {
		if x, y := here[a.rack], here[b.rack]; x != y {
			return x < y
		}
		if x, y := a.rack.replicas*b.rack.nodes, b.rack.replicas*a.rack.nodes; x != y {
			return x < y
		}
	}
	if a.replicas != b.replicas {
		return a.replicas < b.replicas
	}
	if a.leads != b.leads {
		return a.leads < b.leads
	}
	return a.id < b.id
}
