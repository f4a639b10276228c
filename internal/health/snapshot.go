package health

import (
	"maps"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// Snapshot is the cluster as one node sees it at one time.
type Snapshot struct {
	View       *cluster.View
	Nodes      []Node      // by number
	Partitions []Partition // by topic and number
}

// Partition is a partition as the asked node sees it.
type Partition struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"` // -1: none
	Term      uint64  `json:"term"`
	Replicas  []int32 `json:"replicas"` // nodes, the preferred leader first; empty: not placed yet
	InSync    []int32 `json:"in_sync"`
	Lagging   []int32 `json:"lagging,omitempty"` // nodes that answer, whose replicas are not in sync
	Offline   []int32 `json:"offline,omitempty"` // nodes that don't answer
	Wiped     []int32 `json:"wiped,omitempty"`   // nodes that came back with an empty data directory
	Moving    bool    `json:"moving,omitempty"`  // its members are not those of the assignment yet
	Bytes     int64   `json:"bytes,omitempty"`   // of one replica, about; 0: not known

	minority bool // too few of the replicas can be there
}

// TP names the partition.
func (p *Partition) TP() cluster.TopicPartition {
	return cluster.TopicPartition{Topic: p.Topic, Partition: p.Partition}
}

// Leader is who leads a partition.
type Leader struct {
	Node   int32 // 0: nobody that answers
	Term   uint64
	InSync []int32 // nodes
}

// Partitions puts together what is known of all partitions, in order. leader and
// alive say what the nodes told each other.
func Partitions(v *cluster.View, leader func(topic, topicID string, partition int32) Leader, alive func(node int32) bool) []Partition {
	moving := movingSet(v)
	all := []Partition{}
	for _, topic := range v.TopicNames() {
		t := v.Topics[topic]
		for i := range t.Partitions {
			tp := cluster.TopicPartition{Topic: topic, Partition: i}
			p := Partition{Topic: topic, Partition: i, Leader: -1, Replicas: []int32{}, InSync: []int32{}}
			a, placed := v.Assignments[tp]
			if placed && a.TopicID == t.ID {
				l := leader(topic, t.ID, i)
				p.fill(v, a, l, alive)
				p.Moving = moving[tp] || l.Node > 0 && newer(a, v.Status[l.Node])
				p.Bytes = v.Status[l.Node].Bytes[topic][i]
			}
			all = append(all, p)
		}
	}
	return all
}

func movingSet(v *cluster.View) map[cluster.TopicPartition]bool {
	moving := make(map[cluster.TopicPartition]bool)
	for _, s := range v.Status {
		for topic, list := range s.Moving {
			for _, i := range list {
				moving[cluster.TopicPartition{Topic: topic, Partition: i}] = true
			}
		}
	}
	return moving
}

// newer says that the leader has not told yet what became of an assignment.
func newer(a cluster.Assignment, s cluster.NodeStatus) bool {
	return s.Assignments > 0 && a.ModRevision > s.Assignments
}

func (p *Partition) fill(v *cluster.View, a cluster.Assignment, l Leader, alive func(int32) bool) {
	if l.Node > 0 {
		p.Leader, p.Term = l.Node, l.Term
	}
	there := 0
	for _, r := range a.Replicas {
		p.Replicas = append(p.Replicas, r.Node)
		node, registered := v.Nodes[r.Node]
		switch {
		case !alive(r.Node):
			p.Offline = append(p.Offline, r.Node)
			continue
		case registered && node.Incarnation != r.Incarnation:
			p.Wiped = append(p.Wiped, r.Node)
			continue
		}
		there++
		if l.Node > 0 && (r.Node == l.Node || slices.Contains(l.InSync, r.Node)) {
			p.InSync = append(p.InSync, r.Node)
		} else if l.Node > 0 {
			p.Lagging = append(p.Lagging, r.Node)
		}
	}
	p.minority = there < len(a.Replicas)/2+1
}

// Node is a node as the asked one sees it. Leads and Replicas are counted here,
// for all nodes; the rest of the registration is what the node last said.
type Node struct {
	cluster.Node
	Alive      bool       `json:"alive"`      // it answers pings
	Registered bool       `json:"registered"` // in etcd, when that was last seen
	AwaySince  *time.Time `json:"away_since,omitempty"`
	Wish       string     `json:"wish,omitempty"`   // drained, decommissioned
	Behind     int        `json:"behind,omitempty"` // its replicas that are not in sync
	Bytes      int64      `json:"bytes,omitempty"`  // of its replicas, about; 0: not known
}

// gone says that nothing of a node is left but the memory of it.
func (n *Node) gone() bool { return !n.Alive && !n.Registered && n.Replicas == 0 && n.Wish == "" }

// Nodes puts together what is known of all nodes that answer, are registered or
// hold replicas, or of which an operator wants something, in order. met are their
// last known registrations. away is since when a node does not answer; nil: it
// does.
func Nodes(v *cluster.View, met []cluster.Node, away func(node int32) *time.Time, partitions []Partition) []Node {
	byID := make(map[int32]*Node)
	at := func(id int32) *Node {
		if byID[id] == nil {
			since := away(id)
			byID[id] = &Node{Node: cluster.Node{Node: id}, Alive: since == nil, AwaySince: since, Wish: v.Wishes[id].State}
		}
		return byID[id]
	}
	for _, n := range met {
		at(n.Node).Node = n
	}
	for id, n := range v.Nodes {
		at(id).Node, at(id).Registered = n, true
	}
	for id := range v.Wishes {
		at(id)
	}
	for _, n := range byID {
		n.Leads, n.Replicas = 0, 0
	}
	for _, p := range partitions {
		for _, id := range p.Replicas {
			n := at(id)
			n.Replicas++
			n.Bytes += p.Bytes
			if !slices.Contains(p.InSync, id) {
				n.Behind++
			}
		}
		if p.Leader > 0 {
			at(p.Leader).Leads++
		}
	}
	all := make([]Node, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		if n := byID[id]; !n.gone() {
			all = append(all, *n)
		}
	}
	return all
}

// node finds a node.
func (s *Snapshot) node(id int32) *Node {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Node.Node == id })
	if i < 0 {
		return nil
	}
	return &s.Nodes[i]
}

// ready counts the nodes that new replicas may be placed on.
func (s *Snapshot) ready() (n int) {
	for id, node := range s.View.Nodes {
		if _, wished := s.View.Wishes[id]; node.State == cluster.StateReady && !wished {
			n++
		}
	}
	return n
}
