package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// evacuate replaces the replicas of nodes that are away for too long, and those
// of decommissioned nodes: first those that are lost, and of them first the
// partitions that have the fewest replicas left.
func evacuate(w *world) {
	if !w.findLeaving() {
		return
	}
	type task struct {
		p     *part
		index int
		live  int
	}
	var tasks []task
	for i := range w.parts {
		p := &w.parts[i]
		index := slices.IndexFunc(p.nodes, func(n *node) bool { return n.leaving != "" && n.away })
		if index < 0 {
			index = slices.IndexFunc(p.nodes, func(n *node) bool { return n.leaving != "" })
		}
		if index < 0 {
			continue
		}
		w.pending = true
		if p.touched {
			continue
		}
		live := len(p.nodes) + 1
		if p.nodes[index].away {
			live = w.fits(p, p.a.Replicas)
		}
		tasks = append(tasks, task{p, index, live})
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return cmp.Compare(a.live, b.live) })
	for _, t := range tasks {
		w.rehome(t.p, t.index)
	}
}

// findLeaving notes which nodes can't keep their replicas, and why; false if
// there are none. When most nodes are away at once, it is etcd or the network
// that fails, not the nodes.
func (w *world) findLeaving() (some bool) {
	holders, away := 0, 0
	for _, n := range w.order {
		if n.replicas == 0 {
			continue
		}
		holders++
		if !n.up {
			away++
		}
		since, known := w.awaySince(n)
		switch late := known && w.facts.RebuildDelay >= 0 && w.facts.Now.Sub(since) >= w.facts.RebuildDelay; {
		case n.wish == cluster.WishDecommissioned:
			n.leaving = fmt.Sprintf("node %d is decommissioned", n.id)
		case late:
			n.leaving = fmt.Sprintf("node %d has been away for %s", n.id, w.facts.RebuildDelay)
		default:
			continue
		}
		n.away, some = !n.up, true
	}
	if 2*away > holders {
		w.pending = true
		w.blocked(cluster.TopicPartition{Partition: -1}, fmt.Sprintf(
			"%d of the %d nodes that hold replicas are away at once: nothing is rebuilt before most of them are back", away, holders))
		return false
	}
	return some
}

// rehome gives the replica of a node that leaves to another one. A partition
// that is changing is left to end that, unless the replica that it waits for is
// the one that is lost.
func (w *world) rehome(p *part, index int) {
	from, lost := p.nodes[index], p.a.Replicas[index]
	late := !p.settled()
	if why := w.unsafe(p, p.a.Replicas); p.leader == nil && why != "" {
		w.blocked(p.tp, from.leaving+", and "+why)
		return
	}
	if late && (p.leader == nil || !p.seen || len(p.a.Former) == 0 || hasID(p.a.Former, lost.ID)) {
		return
	}
	w.here = append(w.here[:0], make([]int, w.racks)...)
	for i, n := range p.nodes {
		if i != index {
			w.here[n.rack.index]++
		}
	}
	taken := p.nodes
	if late {
		for _, r := range p.a.Former { // they go only when the change is done
			taken = append(taken, w.nodes[r.Node])
		}
	}
	to := w.best(taken, w.here)
	if to == nil {
		why := fmt.Sprintf("%d replicas need as many ready nodes, there are %d", len(p.nodes), len(w.takers))
		if len(w.takers) >= len(p.nodes) {
			why = "every ready node has one of the partition already, or has one that is not removed yet"
		}
		w.blocked(p.tp, fmt.Sprintf("%s, and its replicas have nowhere to go: %s", from.leaving, why))
		return
	}
	replicas := slices.Clone(p.a.Replicas)
	replicas[index] = cluster.Replica{Node: to.id, Incarnation: to.incarnation}
	if why := w.unsafe(p, replicas); why != "" {
		w.blocked(p.tp, from.leaving+", and "+why)
		return
	}
	if !late && w.budget <= 0 {
		return
	}
	if !late {
		w.budget--
	}
	w.lead(p, replicas, index)
	w.replace(p, replicas, from.leaving)
	w.shift(p, from, to)
}

// lead puts the member that is preferred least often first, if the one that
// was first is replaced: the new one has to catch up before it can lead.
func (w *world) lead(p *part, replicas []cluster.Replica, index int) {
	if index > 0 {
		return
	}
	p.nodes[0].leads--
	best := 0
	for i := 1; i < len(replicas); i++ {
		if n := p.nodes[i]; n.takes() && (best == 0 || n.leads < p.nodes[best].leads) {
			best = i
		}
	}
	replicas[0], replicas[best] = replicas[best], replicas[0]
	w.nodes[replicas[0].Node].leads++
}
