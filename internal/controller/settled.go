package controller

import (
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// part is a partition that has an assignment.
type part struct {
	tp      cluster.TopicPartition
	a       cluster.Assignment
	nodes   []*node // of a.Replicas
	leader  *node   // nil: nobody is known to lead
	term    uint64
	seen    bool // the leader acts on this assignment
	moving  bool // and the members are not yet those
	lagging []int32
	bytes   int64
	pinned  bool // an operator, or the topic's creator, has said where it shall be
	touched bool // a planner has decided on it, or nobody shall
}

// settled says that the group's members are those of the assignment.
func (p *part) settled() bool { return p.leader != nil && p.seen && !p.moving }

// voters are the replicas that decide in the group, as far as is known.
func (p *part) voters() []cluster.Replica {
	if p.settled() || len(p.a.Former) == 0 {
		return p.a.Replicas
	}
	return p.a.Former
}

// former are the members for whoever has to find them while the next change
// goes on. Without a leader that has seen the assignment it is not known how far
// the last one has come.
func (p *part) former() []cluster.Replica {
	if p.leader != nil && p.seen || len(p.a.Former) == 0 {
		return slices.Clone(p.voters())
	}
	all := slices.Clone(p.a.Replicas)
	for _, r := range p.a.Former {
		if !hasNode(all, r.Node) {
			all = append(all, r)
		}
	}
	return all
}

// arriving is how many replicas are on their way. A group without a leader
// moves nothing.
func (p *part) arriving() (n int) {
	if p.leader == nil || p.settled() || len(p.a.Former) == 0 {
		return 0
	}
	for _, r := range p.a.Replicas {
		if !hasID(p.a.Former, r.ID) {
			n++
		}
	}
	return n
}

func hasID(rs []cluster.Replica, id uint64) bool {
	return slices.ContainsFunc(rs, func(r cluster.Replica) bool { return r.ID == id })
}

func hasNode(rs []cluster.Replica, id int32) bool {
	return slices.ContainsFunc(rs, func(r cluster.Replica) bool { return r.Node == id })
}

// hear takes in what the leaders say: of two that lead a partition, the one at
// the higher term does.
func (w *world) hear() {
	for id := range w.view.Status {
		n := w.nodes[id]
		if n == nil || !n.up {
			continue
		}
		n.freed = w.view.Status[id].Freed
		for topic, terms := range w.view.Status[id].Leads {
			for index, term := range terms {
				p := w.find(cluster.TopicPartition{Topic: topic, Partition: index})
				if p != nil && (p.leader == nil || term > p.term || term == p.term && id < p.leader.id) {
					p.leader, p.term = n, term
				}
			}
		}
	}
	for i := range w.parts {
		if p := &w.parts[i]; p.leader != nil {
			p.leader.leading++
			p.seen = w.view.Status[p.leader.id].Assignments >= p.a.ModRevision
		}
	}
	for id, s := range w.view.Status {
		own := func(topic string, index int32, do func(*part)) {
			if p := w.find(cluster.TopicPartition{Topic: topic, Partition: index}); p != nil && p.leader != nil && p.leader.id == id {
				do(p)
			}
		}
		for topic, list := range s.Moving {
			for _, index := range list {
				own(topic, index, func(p *part) { p.moving = true })
			}
		}
		for topic, lagging := range s.Lagging {
			for index, nodes := range lagging {
				own(topic, index, func(p *part) { p.lagging = nodes })
			}
		}
		for topic, sizes := range s.Bytes {
			for index, bytes := range sizes {
				own(topic, index, func(p *part) { p.bytes = max(bytes, 0) })
			}
		}
	}
}
