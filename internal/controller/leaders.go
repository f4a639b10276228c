package controller

import (
	"cmp"
	"slices"
)

// levelLeaders evens out how often each node is the preferred leader, by
// choosing other leaders among the members of new partitions. choose alone can
// be off by two or three, because it never reconsiders. placed holds the
// members of each new partition, preferred leader first.
//
// A step moves one leadership from a node to another that is preferred at
// least twice less, along a chain of partitions: the first partition's leader
// hands to a member, which hands another partition on, and so forth. Each
// step lowers the sum of squares, so there is an end; the bound is for views
// with many unequal nodes, where the rest can wait for the balancer.
func levelLeaders(targets []*target, placed [][]*target) {
	leaders := map[*target][]int{} // new partitions that a node is the preferred leader of
	for i, members := range placed {
		leaders[members[0]] = append(leaders[members[0]], i)
	}
	order := slices.Clone(targets)
	for range 10 * len(targets) {
		slices.SortStableFunc(order, func(a, b *target) int { return cmp.Compare(b.leads, a.leads) })
		if !slices.ContainsFunc(order, func(t *target) bool { return handDown(t, leaders, placed) }) {
			return
		}
	}
}

// handDown moves one leadership of from to the least preferred node that can
// be reached, if that is worth it.
func handDown(from *target, leaders map[*target][]int, placed [][]*target) bool {
	type step struct {
		from      *target
		partition int
	}
	came := map[*target]step{from: {}}
	best := from
	for queue := []*target{from}; len(queue) > 0; queue = queue[1:] {
		for _, p := range leaders[queue[0]] {
			for _, member := range placed[p][1:] {
				if _, seen := came[member]; seen {
					continue
				}
				came[member] = step{queue[0], p}
				queue = append(queue, member)
				if member.leads < best.leads {
					best = member
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
