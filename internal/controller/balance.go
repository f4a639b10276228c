package controller

import (
	"cmp"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

const (
	// byteSlack is how far a node's bytes may be from the average, in percent.
	byteSlack = 10
	// minBytesApart is by how many bytes two nodes have to differ at least for
	// that to matter.
	minBytesApart = 64 << 20
)

// calm says that the balancer may work: nobody is away or about to go, and
// nothing has to be moved for other reasons.
func (w *world) calm() bool {
	if w.view.Rebalance.Paused || w.pending || w.facts.Moves <= 0 {
		return false
	}
	_, broken := w.view.Broken["config/rebalance"]
	return !broken && !slices.ContainsFunc(w.order, func(n *node) bool {
		return !n.up && n.replicas > 0 || n.state == cluster.StateDraining
	})
}

// balance moves replicas from full nodes to empty ones: first where a
// partition has two replicas in a rack while another rack has none, then by
// the number of replicas, then by bytes. A difference of one replica stays.
func balance(w *world) {
	if !w.calm() || w.budget <= 0 || len(w.takers) < 2 {
		return
	}
	w.spreadRacks()
	b := balancer{world: w}
	for w.budget > 0 && b.level() {
	}
	for w.budget > 0 && b.levelBytes() {
	}
}

// movable says that the balancer may touch a partition.
func (w *world) movable(p *part) bool { return !p.touched && !p.pinned && w.whole(p) }

// spreadRacks moves a replica out of a rack that has two more of a partition
// than another one which has room.
func (w *world) spreadRacks() {
	if w.racks < 2 {
		return
	}
	here := make([]int, w.racks)
	for i := range w.parts {
		p := &w.parts[i]
		if w.budget <= 0 {
			return
		}
		clear(here)
		most := 0
		for _, n := range p.nodes {
			here[n.rack.index]++
			most = max(most, here[n.rack.index])
		}
		if most < 2 || !w.movable(p) {
			continue
		}
		to := w.best(p.nodes, here)
		if to == nil || here[to.rack.index]+2 > most {
			continue
		}
		from := -1
		for i, n := range p.nodes {
			if here[n.rack.index] == most && (from < 0 || n.replicas > p.nodes[from].replicas) {
				from = i
			}
		}
		w.move(p, from, to, "racks are evened out")
	}
}

// move gives the place of one replica to another node.
func (w *world) move(p *part, index int, to *node, why string) {
	from := p.nodes[index]
	replicas := slices.Clone(p.a.Replicas)
	replicas[index] = cluster.Replica{Node: to.id, Incarnation: to.incarnation}
	w.replace(p, replicas, why)
	w.shift(p, from, to)
	if index == 0 {
		from.leads--
		to.leads++
	}
	w.budget--
}

// balancer finds what to move from one node to another.
type balancer struct {
	*world
	on map[*node][]int // movable partitions by their nodes; made when it is needed
}

func (b *balancer) index() {
	if b.on != nil {
		return
	}
	b.on = make(map[*node][]int, len(b.order))
	for i := range b.parts {
		if p := &b.parts[i]; b.movable(p) {
			for _, n := range p.nodes {
				b.on[n] = append(b.on[n], i)
			}
		}
	}
}

// givers are the nodes that may have to give, the fullest first.
func (b *balancer) givers(less func(a, b *node) int) []*node {
	var givers []*node
	for _, n := range b.order {
		if n.up && n.wish == "" {
			givers = append(givers, n)
		}
	}
	slices.SortStableFunc(givers, func(x, y *node) int { return less(y, x) })
	return givers
}

func byReplicas(a, b *node) int {
	return cmp.Or(cmp.Compare(a.replicas, b.replicas), cmp.Compare(a.bytes, b.bytes), -cmp.Compare(a.id, b.id))
}

func byBytes(a, b *node) int {
	return cmp.Or(cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.replicas, b.replicas), -cmp.Compare(a.id, b.id))
}

// level moves one replica from the fullest node that can give to the emptiest
// that can take from it and has at least two less.
func (b *balancer) level() bool {
	takers := slices.Clone(b.takers)
	slices.SortStableFunc(takers, byReplicas)
	for _, from := range b.givers(byReplicas) {
		if from.replicas-takers[0].replicas < 2 {
			return false
		}
		b.index()
		if b.give(from, takers, "replicas are evened out",
			func(to *node, _ int64) bool { return from.replicas-to.replicas >= 2 },
			func(to *node) int64 { // the size that evens out the bytes along with the replicas
				return (from.bytes - to.bytes) / int64(from.replicas-to.replicas)
			}) {
			return true
		}
	}
	return false
}

// levelBytes moves one replica from a node that has too many bytes, or to one
// that has too few, where the number of replicas allows it.
func (b *balancer) levelBytes() bool {
	var sum int64
	for _, n := range b.takers {
		sum += n.bytes
	}
	mean := sum / int64(len(b.takers))
	slack := mean * byteSlack / 100
	takers := slices.Clone(b.takers)
	slices.SortStableFunc(takers, byBytes)
	for _, from := range b.givers(byBytes) {
		if from.bytes <= mean {
			return false
		}
		out := func(to *node) bool {
			return from.replicas > to.replicas && from.bytes-to.bytes >= minBytesApart &&
				(from.bytes > mean+slack && to.bytes < mean || to.bytes < mean-slack)
		}
		if !slices.ContainsFunc(takers, out) {
			continue
		}
		b.index()
		if b.give(from, takers, "bytes are evened out",
			func(to *node, size int64) bool { return out(to) && size > 0 && size < from.bytes-to.bytes },
			func(to *node) int64 { return (from.bytes - to.bytes) / 2 }) {
			return true
		}
	}
	return false
}

// give moves one replica away from a node: to the first taker that is wanted
// and can have one of its partitions, the one whose size is nearest to what
// fits. No partition gets more replicas into one rack than it has in another.
func (b *balancer) give(from *node, takers []*node, why string, want func(to *node, size int64) bool, fit func(*node) int64) bool {
	racks := b.byRack(from, takers, want)
	if len(racks) == 0 {
		return false
	}
	var best *part
	rank, off := len(takers), int64(0)
	for _, i := range b.on[from] {
		p := &b.parts[i]
		if p.touched {
			continue
		}
		r := b.reach(p, from, racks, takers, want)
		if r > rank || r == len(takers) {
			continue
		}
		size := fit(takers[r])
		if d := max(p.bytes-size, size-p.bytes); r < rank || d < off {
			best, rank, off = p, r, d
		}
		if rank == racks[0].ranks[0] && off == 0 {
			break // there is no better one
		}
	}
	if best == nil {
		return false
	}
	b.move(best, slices.Index(best.nodes, from), takers[rank], why)
	return true
}

// choice is the takers of one rack that a node may give to, by their ranks.
type choice struct {
	rack  *rack
	ranks []int
}

// byRack lists the takers that are wanted, the rack with the best of them first.
func (b *balancer) byRack(from *node, takers []*node, want func(*node, int64) bool) (racks []choice) {
	for rank, to := range takers {
		if to == from || !want(to, 1) {
			continue
		}
		i := slices.IndexFunc(racks, func(c choice) bool { return c.rack == to.rack })
		if i < 0 {
			i = len(racks)
			racks = append(racks, choice{rack: to.rack})
		}
		racks[i].ranks = append(racks[i].ranks, rank)
	}
	return racks
}

// reach is the rank of the best taker that can have a partition of from;
// len(takers) if there is none.
func (b *balancer) reach(p *part, from *node, racks []choice, takers []*node, want func(*node, int64) bool) int {
	best := len(takers)
	for _, c := range racks {
		if c.rack != from.rack {
			there, here := 0, 0
			for _, n := range p.nodes {
				switch n.rack {
				case c.rack:
					there++
				case from.rack:
					here++
				}
			}
			if there >= here {
				continue
			}
		}
		for _, rank := range c.ranks {
			if rank >= best {
				break
			}
			if to := takers[rank]; want(to, p.bytes) && !slices.Contains(p.nodes, to) {
				best = rank
				break
			}
		}
	}
	return best
}
