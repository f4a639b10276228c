package controller

import (
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// live says that a replica's node is registered with the disk that holds it, and
// has not freed it.
func (w *world) live(r cluster.Replica) bool {
	n := w.nodes[r.Node]
	return n != nil && n.up && n.incarnation == r.Incarnation && !slices.Contains(n.freed, r.ID)
}

func (w *world) lives(rs []cluster.Replica) (n int) {
	for _, r := range rs {
		if w.live(r) {
			n++
		}
	}
	return n
}

// fit says that a replica is live and in sync.
func (w *world) fit(p *part, r cluster.Replica) bool {
	return w.live(r) && !slices.Contains(p.lagging, r.Node)
}

func (w *world) fits(p *part, rs []cluster.Replica) (n int) {
	for _, r := range rs {
		if w.fit(p, r) {
			n++
		}
	}
	return n
}

// whole says that nothing is wrong with a partition.
func (w *world) whole(p *part) bool {
	return p.settled() && w.fits(p, p.a.Replicas) == len(p.a.Replicas)
}

// unsafe says why a partition's members can't become others, or nothing. The
// group's leader adds the new ones, waits until they have everything, and only
// then removes the others, in any order. So a majority has to be fit of the
// members that are, and of those that shall be together with the dead that
// wait to be removed. A new one counts when its node is live: it does not vote
// before it is in sync.
func (w *world) unsafe(p *part, want []cluster.Replica) string {
	old := p.voters()
	if n := w.fits(p, old); 2*n <= len(old) {
		return fmt.Sprintf("only %d of its %d replicas are live and in sync, %d are needed to change them; bring the others back",
			n, len(old), len(old)/2+1)
	}
	fit, of := 0, len(want)
	for _, r := range want {
		if hasID(old, r.ID) && w.fit(p, r) || !hasID(old, r.ID) && w.live(r) {
			fit++
		}
	}
	for _, r := range old {
		if !hasID(want, r.ID) && !w.live(r) {
			of++
		}
	}
	if 2*fit <= of {
		return fmt.Sprintf("only %d of its %d new replicas would be live and in sync", fit, len(want))
	}
	return ""
}
