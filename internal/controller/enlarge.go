package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// enlarge gives the topics of the system the replicas that they shall have, as soon
// as there are as many nodes that take some: a topic that was made when there were
// fewer would keep too few. Nothing is ever taken away, and where an operator has
// just put a partition it stays.
func enlarge(w *world) {
	for _, name := range slices.Sorted(maps.Keys(w.facts.Replicas)) {
		topic, ok := w.view.Topics[name]
		if _, broken := w.view.Broken["topics/"+name]; !ok || broken {
			continue
		}
		s := w.topics[name]
		parts := w.parts[s.from:s.to]
		if want := w.facts.Replicas[name]; int(topic.ReplicationFactor) < want && want <= cluster.MaxReplicas {
			if len(w.takers) < want || slices.ContainsFunc(parts, func(p part) bool { return len(p.a.Replicas) == 0 }) {
				continue
			}
			topic.ReplicationFactor = int16(want)
			w.changes = append(w.changes, Change{
				Kind: cluster.Enlarge, TP: cluster.TopicPartition{Topic: name, Partition: -1}, Topic: topic,
				Reason: fmt.Sprintf("%d nodes take replicas now, and it shall have %d", len(w.takers), want),
			})
		}
		for i := range parts {
			w.addReplicas(&parts[i], int(topic.ReplicationFactor))
		}
	}
}

// addReplicas gives a partition as many replicas as it shall have, all at once:
// with two of three it would stand still whenever one is away.
func (w *world) addReplicas(p *part, want int) {
	missing := want - len(p.nodes)
	if missing <= 0 || p.touched || p.pinned || !w.whole(p) || w.budget < min(missing, w.facts.Moves) || w.budget <= 0 {
		return
	}
	w.here = append(w.here[:0], make([]int, w.racks)...)
	for _, n := range p.nodes {
		w.here[n.rack.index]++
	}
	nodes, replicas := slices.Clone(p.nodes), slices.Clone(p.a.Replicas)
	for range missing {
		to := w.best(nodes, w.here)
		if to == nil {
			return
		}
		w.here[to.rack.index]++
		nodes, replicas = append(nodes, to), append(replicas, cluster.Replica{Node: to.id, Incarnation: to.incarnation})
	}
	if w.unsafe(p, replicas) != "" {
		return
	}
	for _, n := range nodes[len(p.nodes):] {
		n.replicas++
		n.bytes += p.bytes
		n.rack.replicas++
	}
	w.budget -= missing
	w.replace(p, replicas, fmt.Sprintf("it has %d of %d replicas", len(p.nodes), want))
}
