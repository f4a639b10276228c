package controller

import (
	"cmp"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// reordersPerMove bounds how many partitions get another preferred leader at a
// time, as a multiple of Options.Moves: no data moves, but clients have to
// find the new leader.
const reordersPerMove = 8

// balanceLeaders evens out how often each node is the preferred leader, by
// reordering replicas, once no replica moves any more.
func balanceLeaders(w *world) {
	room := reordersPerMove*w.facts.Moves - w.moving
	if !w.calm() || w.budget < w.facts.Moves || room <= 0 || apart(w.takers, func(n *node) int { return n.leads }) < 2 {
		return
	}
	var parts []*part
	var members [][]*node
	total := 0
	for i := range w.parts {
		if p := &w.parts[i]; !p.touched && !p.pinned && len(p.nodes) > 1 && w.whole(p) {
			parts = append(parts, p)
			total += len(p.nodes)
		}
	}
	all := make([]*node, 0, total)
	for _, p := range parts {
		from := len(all)
		all = append(all, p.nodes...)
		members = append(members, all[from:len(all):len(all)])
	}
	levelLeaders(w.takers, members, room)
	for i, p := range parts {
		if members[i][0] == p.nodes[0] {
			continue
		}
		if room--; room < 0 {
			return // one step may have changed several
		}
		replicas := make([]cluster.Replica, 0, len(p.nodes))
		for _, n := range members[i] {
			replicas = append(replicas, p.a.Replicas[slices.Index(p.nodes, n)])
		}
		w.replace(p, replicas, "leaderships are evened out")
	}
}

// apart is how far the highest and the lowest of some nodes are apart.
func apart(nodes []*node, of func(*node) int) int {
	if len(nodes) == 0 {
		return 0
	}
	low, high := of(nodes[0]), of(nodes[0])
	for _, n := range nodes {
		low, high = min(low, of(n)), max(high, of(n))
	}
	return high - low
}

// levelLeaders evens out how often each node is the preferred leader, by
// choosing other leaders among the members of partitions. choose alone can
// be off by two or three, because it never reconsiders. placed holds the
// members of each partition, preferred leader first.
//
// A step moves one leadership from a node to another that is preferred at
// least twice less, along a chain of partitions: the first partition's leader
// hands to a member, which hands another partition on, and so forth. Each
// step lowers the sum of squares, so there is an end; steps bounds it.
func levelLeaders(nodes []*node, placed [][]*node, steps int) {
	leaders := map[*node][]int{} // partitions that a node is the preferred leader of
	for i, members := range placed {
		leaders[members[0]] = append(leaders[members[0]], i)
	}
	order := slices.Clone(nodes)
	for range steps {
		slices.SortStableFunc(order, func(a, b *node) int { return cmp.Compare(b.leads, a.leads) })
		least := 0
		if len(order) > 0 {
			least = order[len(order)-1].leads
		}
		if !slices.ContainsFunc(order, func(n *node) bool { return handDown(n, least, leaders, placed) }) {
			return
		}
	}
}

// handDown moves one leadership of from to the least preferred node that can
// be reached, if that is worth it. None is preferred less often than least.
func handDown(from *node, least int, leaders map[*node][]int, placed [][]*node) bool {
	if from.leads-least < 2 {
		return false
	}
	type step struct {
		from      *node
		partition int
	}
	came := map[*node]step{from: {}}
	best := from
search:
	for queue := []*node{from}; len(queue) > 0; queue = queue[1:] {
		for _, p := range leaders[queue[0]] {
			for _, member := range placed[p][1:] {
				if _, seen := came[member]; seen || !member.takes() {
					continue
				}
				came[member] = step{queue[0], p}
				queue = append(queue, member)
				if member.leads < best.leads {
					best = member
				}
				if best.leads == least {
					break search
				}
			}
		}
	}
	if from.leads-best.leads < 2 {
		return false
	}
	for to := best; to != from; {
		s := came[to]
		members := placed[s.partition]
		i := slices.Index(members, to)
		members[0], members[i] = members[i], members[0]
		at := slices.Index(leaders[s.from], s.partition)
		leaders[s.from] = slices.Delete(leaders[s.from], at, at+1)
		leaders[to] = append(leaders[to], s.partition)
		s.from.leads--
		to.leads++
		to = s.from
	}
	return true
}
