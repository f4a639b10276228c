package controller

import (
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// place assigns the partitions that have no assignment.
func place(w *world) {
	var placed [][]*node // of the Place changes, in order
	first := len(w.changes)
	for _, name := range w.view.TopicNames() {
		topic := w.view.Topics[name]
		if _, broken := w.view.Broken["topics/"+name]; broken {
			continue
		}
		ever := w.view.EverPlaced(name, topic)
		for index := range topic.Partitions {
			tp := cluster.TopicPartition{Topic: name, Partition: index}
			if a := &w.find(tp).a; len(a.Replicas) > 0 {
				if _, dead := w.view.Deleted[a.TopicID]; a.TopicID != topic.ID && !dead {
					w.blocked(tp, fmt.Sprintf(
						"its assignment belongs to topic id %s, which was never deleted; delete that key if its data is not wanted", a.TopicID))
				}
				continue // of a deleted topic: placed once it is removed
			}
			if w.view.IsBroken(tp) {
				continue
			}
			if at, why := hold(w.view, tp, ever); why != "" {
				if w.blocked(at, why); at.Partition < 0 {
					break
				}
				continue
			}
			if _, wanted := topic.Replicas[index]; wanted {
				if !w.placeWanted(tp, topic) {
					break // in order: one that was passed over would count as lost
				}
				continue
			}
			if need := int(topic.ReplicationFactor); need > len(w.takers) {
				w.blocked(cluster.TopicPartition{Topic: name, Partition: -1},
					fmt.Sprintf("%d replicas need as many ready nodes, there are %d", need, len(w.takers)))
				break
			}
			placed = append(placed, w.choose(int(topic.ReplicationFactor)))
			w.changes = append(w.changes, Change{
				Kind: cluster.Place, TP: tp, Topic: topic, CounterRevision: w.ids.revision,
				Assignment: cluster.Assignment{TopicID: topic.ID, Epoch: w.view.Meta.Epoch, Generation: 1},
			})
		}
	}
	levelLeaders(w.takers, placed, 10*len(w.takers))
	for i := range w.changes[first:] {
		c := &w.changes[first+i]
		if c.Kind != cluster.Place {
			continue
		}
		if len(c.Assignment.Replicas) == 0 {
			for _, n := range placed[0] {
				c.Assignment.Replicas = append(c.Assignment.Replicas, cluster.Replica{Node: n.id, Incarnation: n.incarnation})
			}
			placed = placed[1:]
		}
		for j := range c.Assignment.Replicas { // in order: the counter never goes back
			c.Assignment.Replicas[j].ID = w.ids.take()
		}
		c.NewIDs = len(c.Assignment.Replicas)
	}
}

// placeWanted places a partition on the nodes that its topic's creator has
// chosen, if they are there.
func (w *world) placeWanted(tp cluster.TopicPartition, topic cluster.Topic) bool {
	want := topic.Replicas[tp.Partition]
	for _, id := range want {
		if n := w.nodes[id]; n == nil || !n.up {
			w.blocked(tp, fmt.Sprintf("it is wanted on node %d, which is not there; bring the node back, or delete the topic", id))
			return false
		}
	}
	a := cluster.Assignment{TopicID: topic.ID, Epoch: w.view.Meta.Epoch, Generation: 1}
	for i, id := range want {
		n := w.nodes[id]
		a.Replicas = append(a.Replicas, cluster.Replica{Node: id, Incarnation: n.incarnation})
		n.replicas++
		if n.takes() {
			n.rack.replicas++
		}
		if i == 0 {
			n.leads++
		}
	}
	w.changes = append(w.changes, Change{
		Kind: cluster.Place, TP: tp, Topic: topic, CounterRevision: w.ids.revision, Assignment: a,
	})
	return true
}

// asWanted says that a partition is on the nodes that its topic's creator has
// chosen: the balancer leaves it there.
func asWanted(want []int32, replicas []cluster.Replica) bool {
	if len(want) == 0 || len(want) != len(replicas) {
		return false
	}
	for _, r := range replicas {
		if !slices.Contains(want, r.Node) {
			return false
		}
	}
	return true
}

// choose picks n nodes for a partition and counts it for them. The first is
// the preferred leader.
func (w *world) choose(n int) []*node {
	chosen := make([]*node, 0, n)
	here := make([]int, w.racks) // replicas of this partition
	for range n {
		best := w.best(chosen, here)
		chosen = append(chosen, best)
		here[best.rack.index]++
		best.replicas++
		best.rack.replicas++
	}
	leader := 0
	for i, n := range chosen {
		if n.leads < chosen[leader].leads {
			leader = i
		}
	}
	chosen[0], chosen[leader] = chosen[leader], chosen[0]
	chosen[0].leads++
	return chosen
}

// best is the best place for one more replica, besides the nodes that are
// taken; nil if there is none.
func (w *world) best(taken []*node, here []int) (best *node) {
	for _, n := range w.takers {
		if !slices.Contains(taken, n) && (best == nil || before(n, best, here)) {
			best = n
		}
	}
	return best
}

// before says whether a is the better place for a replica: the rack with
// fewer replicas of this partition, then the rack that is emptier for its
// size, then the emptier node, by replicas and then by bytes.
func before(a, b *node, here []int) bool {
	if a.rack != b.rack {
		if x, y := here[a.rack.index], here[b.rack.index]; x != y {
			return x < y
		}
		if x, y := a.rack.replicas*b.rack.nodes, b.rack.replicas*a.rack.nodes; x != y {
			return x < y
		}
	}
	if a.replicas != b.replicas {
		return a.replicas < b.replicas
	}
	if a.bytes != b.bytes {
		return a.bytes < b.bytes
	}
	if a.leads != b.leads {
		return a.leads < b.leads
	}
	return a.id < b.id
}
