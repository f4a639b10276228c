package controller

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// node is a node that is registered, holds replicas, or has a wish, with what
// it holds by the assignments. Planners count their own changes in.
type node struct {
	id          int32
	up          bool // registered
	incarnation string
	state       string
	wish        string
	rack        *rack
	replicas    int
	leads       int      // how often it is the preferred leader
	leading     int      // partitions that it leads now
	freed       []uint64 // replicas placed on it that it never opens again
	bytes       int64    // of its replicas, as far as their leaders have told
	leaving     string
	away        bool // what leaves, leaves because the node is away
}

// takes says that the node may get new replicas.
func (n *node) takes() bool { return n.up && n.state == cluster.StateReady && n.wish == "" }

// rack counts what its nodes that take replicas hold together. A node that is
// not registered has one of its own: where it stood is not known.
type rack struct {
	index    int
	nodes    int
	replicas int
}

// span is where a topic's partitions are in world.parts.
type span struct{ from, to int }

// world is a view made ready for planning. Plan makes one, and its planners
// work on it one after the other.
type world struct {
	view    *cluster.View
	facts   Facts
	ids     *idSource
	nodes   map[int32]*node
	order   []*node // by id
	takers  []*node // those of order that take replicas
	racks   int
	parts   []part // in order; those without an assignment have no replicas
	topics  map[string]span
	strays  map[cluster.TopicPartition]int // assignments that no topic has
	budget  int                            // replicas that may begin to move
	moving  int                            // partitions that are not settled
	pending bool                           // replicas have to leave where they are
	here    []int                          // how many replicas of a partition each rack has, for the moment
	said    map[string]bool                // reasons of Blocked changes
	changes []Change
}

func newWorld(view *cluster.View, facts Facts) *world {
	w := &world{
		view: view, facts: facts, nodes: map[int32]*node{}, said: map[string]bool{},
		topics: map[string]span{}, strays: map[cluster.TopicPartition]int{}, budget: facts.Moves,
	}
	w.findParts()
	w.findNodes()
	w.hear()
	w.count()
	return w
}

// findParts lists the partitions in order, without sorting them all.
func (w *world) findParts() {
	total := len(w.view.Assignments)
	w.parts = make([]part, 0, total+total/8)
	found := 0
	for _, name := range w.view.TopicNames() {
		from, topic := len(w.parts), w.view.Topics[name]
		for i := range topic.Partitions {
			tp := cluster.TopicPartition{Topic: name, Partition: i}
			a, ok := w.view.Assignments[tp]
			if ok {
				found++
			}
			w.parts = append(w.parts, part{tp: tp, a: a, pinned: asWanted(topic.Replicas[i], a.Replicas)})
		}
		w.topics[name] = span{from, len(w.parts)}
	}
	if found < total {
		w.findStrays()
	}
	for i := range w.parts {
		p := &w.parts[i]
		_, dead := w.view.Deleted[p.a.TopicID]
		p.touched = dead || len(p.a.Replicas) == 0 || w.view.IsBroken(p.tp)
	}
}

// findStrays adds the assignments of topics that are gone.
func (w *world) findStrays() {
	var strays []cluster.TopicPartition
	for tp := range w.view.Assignments {
		if s, ok := w.topics[tp.Topic]; !ok || int(tp.Partition) >= s.to-s.from {
			strays = append(strays, tp)
		}
	}
	for _, tp := range strays {
		w.parts = append(w.parts, part{tp: tp, a: w.view.Assignments[tp]})
	}
	slices.SortFunc(w.parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.tp.Topic, b.tp.Topic), cmp.Compare(a.tp.Partition, b.tp.Partition))
	})
	clear(w.topics)
	for i := range w.parts {
		tp := w.parts[i].tp
		if s, ok := w.topics[tp.Topic]; ok && int(tp.Partition) == i-s.from {
			w.topics[tp.Topic] = span{s.from, i + 1}
		} else if tp.Partition == 0 {
			w.topics[tp.Topic] = span{i, i + 1}
		} else {
			w.strays[tp] = i
		}
	}
}

// find returns a partition, nil if there is none.
func (w *world) find(tp cluster.TopicPartition) *part {
	if s, ok := w.topics[tp.Topic]; ok && int(tp.Partition) < s.to-s.from && tp.Partition >= 0 {
		return &w.parts[s.from+int(tp.Partition)]
	}
	if i, ok := w.strays[tp]; ok {
		return &w.parts[i]
	}
	return nil
}

// findNodes gathers the nodes, and which of them each partition is on.
func (w *world) findNodes() {
	at := func(id int32) *node {
		n := w.nodes[id]
		if n == nil {
			n = &node{id: id}
			w.nodes[id] = n
		}
		return n
	}
	for id, reg := range w.view.Nodes {
		n := at(id)
		n.up, n.incarnation, n.state = true, reg.Incarnation, reg.State
	}
	for id, wish := range w.view.Wishes {
		at(id).wish = wish.State
	}
	total := 0
	for i := range w.parts {
		total += len(w.parts[i].a.Replicas)
	}
	all := make([]*node, 0, total)
	for i := range w.parts {
		p, from := &w.parts[i], len(all)
		for _, r := range p.a.Replicas {
			all = append(all, at(r.Node))
		}
		p.nodes = all[from:len(all):len(all)]
	}
	racks := map[string]*rack{}
	for _, id := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[id]
		w.order = append(w.order, n)
		if n.up {
			n.rack = racks[w.view.Nodes[id].Rack]
		}
		if n.rack == nil {
			n.rack = &rack{index: w.racks}
			w.racks++
			if n.up {
				racks[w.view.Nodes[id].Rack] = n.rack
			}
		}
	}
}

// count adds up what nodes and racks hold.
func (w *world) count() {
	for i := range w.parts {
		p := &w.parts[i]
		for i, n := range p.nodes {
			n.replicas++
			n.bytes += p.bytes
			if i == 0 {
				n.leads++
			}
		}
		if p.leader != nil && !p.settled() {
			w.moving++
			w.budget -= p.arriving()
		}
	}
	w.recruit()
}

// recruit finds who takes replicas; again when a wish has changed.
func (w *world) recruit() {
	w.takers = w.takers[:0]
	for _, n := range w.order {
		n.rack.nodes, n.rack.replicas = 0, 0
	}
	for _, n := range w.order {
		if n.takes() {
			w.takers = append(w.takers, n)
			n.rack.nodes++
			n.rack.replicas += n.replicas
		}
	}
}

// shift counts a replica that moves.
func (w *world) shift(p *part, from, to *node) {
	from.replicas--
	from.bytes -= p.bytes
	if from.takes() {
		from.rack.replicas--
	}
	to.replicas++
	to.bytes += p.bytes
	if to.takes() {
		to.rack.replicas++
	}
}

// blocked says why something can't be done, each reason once.
func (w *world) blocked(tp cluster.TopicPartition, reason string) {
	if !w.said[reason] {
		w.said[reason] = true
		w.changes = append(w.changes, Change{Kind: cluster.Blocked, TP: tp, Reason: reason})
	}
}

// replace decides on other replicas of a partition, or another order of them.
// Those with id 0 get one.
func (w *world) replace(p *part, replicas []cluster.Replica, reason string) cluster.Assignment {
	next, taken := p.a, 0
	next.Initial = slices.Clone(p.a.Bootstrap())
	next.Former = p.former()
	next.Replicas = replicas
	for i := range next.Replicas {
		if next.Replicas[i].ID == 0 {
			next.Replicas[i].ID = w.ids.take()
			taken++
		}
	}
	next.Epoch, next.Generation = max(w.view.Meta.Epoch, p.a.Epoch), p.a.Generation+1
	w.changes = append(w.changes, Change{
		Kind: cluster.Replace, TP: p.tp, Assignment: next, Revision: p.a.ModRevision,
		CounterRevision: w.ids.revision, NewIDs: taken, Reason: reason,
	})
	p.touched = true
	return next
}

// awaySince is since when a node has been away; ok is false if it is not, or
// was just seen to go.
func (w *world) awaySince(n *node) (since time.Time, ok bool) {
	if n.up {
		return time.Time{}, false
	}
	since, ok = w.facts.Away[n.id]
	return since, ok
}
