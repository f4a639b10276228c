package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// Change is a decision of the winner.
type Change = cluster.Change

// Options of the winner.
type Options struct {
	RebuildDelay time.Duration // until the replicas of a node that is away are rebuilt; negative: never
	Moves        int           // replicas that move at a time
	Rate         int64         // bytes a second that a node takes for moves, for estimates; -1: no limit
	// SystemTopics tells how many replicas topics of the system shall have at least.
	SystemTopics func(*cluster.View) map[string]int
}

// Facts are what Plan needs to know besides the view.
type Facts struct {
	Options
	Now time.Time
	// Away is since when nodes that hold replicas have not been registered, as
	// far as this winner has seen.
	Away map[int32]time.Time
	// Written is when this winner last wrote an operation, by its id.
	Written map[string]time.Time
	// Replicas is what Options.SystemTopics tells for the view.
	Replicas map[string]int
}

// Plan returns what is to be done in this view, in a fixed order.
func Plan(view *cluster.View, facts Facts) []Change {
	if view.Meta == nil {
		return nil
	}
	w := newWorld(view, facts)
	w.ids = newIDs(w)
	for _, planner := range []func(*world){remove, reincarnate, operate, place, evacuate, enlarge, balance, balanceLeaders} {
		planner(w)
	}
	return w.changes
}

// idSource gives out replica ids, to be reserved by the changes that use them.
type idSource struct {
	next     uint64
	revision int64
}

func newIDs(w *world) *idSource {
	next := uint64(max(w.view.ReplicaIDs.Next, 1))
	for i := range w.parts {
		a := &w.parts[i].a
		for _, rs := range [...][]cluster.Replica{a.Replicas, a.Initial, a.Former} {
			for _, r := range rs {
				next = max(next, r.ID+1)
			}
		}
	}
	return &idSource{next: next, revision: w.view.ReplicaIDs.ModRevision}
}

func (i *idSource) take() uint64 {
	i.next++
	return i.next - 1
}

// remove deletes the assignments of topics that have a tombstone.
func remove(w *world) {
	if len(w.view.Deleted) == 0 {
		return
	}
	for i := range w.parts {
		p := &w.parts[i]
		if _, dead := w.view.Deleted[p.a.TopicID]; dead && !w.view.IsBroken(p.tp) {
			w.changes = append(w.changes, Change{Kind: cluster.Remove, TP: p.tp, Revision: p.a.ModRevision, Reason: "topic deleted"})
		}
	}
}

// reincarnate replaces one replica of a partition whose node came back empty, or
// has freed it before.
func reincarnate(w *world) {
	for i := range w.parts {
		p := &w.parts[i]
		if p.touched {
			continue
		}
		wiped, healthy := -1, 0
		for i, n := range p.nodes {
			switch {
			case w.live(p.a.Replicas[i]):
				healthy++
			case n.up && wiped < 0:
				wiped = i
			}
		}
		if wiped < 0 {
			continue
		}
		n, of := p.nodes[wiped], len(p.a.Replicas)
		why := fmt.Sprintf("the disk of node %d was wiped", n.id)
		freed := slices.Contains(n.freed, p.a.Replicas[wiped].ID)
		if freed {
			why = fmt.Sprintf("node %d has freed replica %d", n.id, p.a.Replicas[wiped].ID)
		}
		// With a leader, one that was on its way decides nothing yet, and the members
		// are between the former ones and these.
		if p.leader != nil && 2*healthy <= of && !hasID(p.voters(), p.a.Replicas[wiped].ID) {
			of, healthy = len(p.a.Former), w.lives(p.a.Former)
		}
		// A freed replica is no member: with a leader there is a majority without it.
		if majority := of/2 + 1; healthy < majority && !(freed && p.leader != nil) {
			w.blocked(p.tp, fmt.Sprintf(
				"%s and only %d of %d replicas are left on live nodes, %d are needed to replace it; bring the others back",
				why, healthy, of, majority))
			p.touched = true
			continue
		}
		late := !p.settled() // a change waits for it
		if !late && w.facts.Moves > 0 && w.budget <= 0 {
			continue
		}
		replicas := slices.Clone(p.a.Replicas)
		replicas[wiped] = cluster.Replica{Node: n.id, Incarnation: n.incarnation}
		w.replace(p, replicas, why)
		if !late {
			w.budget--
		}
	}
}

// TombstoneLife is how long a tombstone stays after its topic's deletion, so
// that a node which was away learns of it.
const TombstoneLife = 7 * 24 * time.Hour

// Forget returns the removal of tombstones that are older than TombstoneLife
// and whose assignments are gone. It is apart from Plan because it needs the
// time.
func Forget(view *cluster.View, now time.Time) (changes []Change) {
	if len(view.Deleted) == 0 {
		return nil
	}
	used := map[string]bool{}
	for _, a := range view.Assignments {
		used[a.TopicID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(view.Deleted)) {
		t := view.Deleted[id]
		if !used[id] && now.Sub(t.Deleted) > TombstoneLife {
			changes = append(changes, Change{Kind: cluster.Forget, TopicID: id, Revision: t.ModRevision,
				Reason: fmt.Sprintf("topic %s was deleted long ago", t.Topic)})
		}
	}
	return changes
}
