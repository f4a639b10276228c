package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/controller"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/partition"
)

// SurvivorState is what a node knows of its replica of a partition, for whoever
// has to decide whether and from which replica the partition begins anew.
type SurvivorState struct {
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	Node      int32  `json:"node"`
	Replica   uint64 `json:"replica"` // 0: the node has none that is open
	Leader    int32  `json:"leader"`  // node that leads, 0 for none
	Term      uint64 `json:"term"`
	// LastTerm and LastIndex are the end of the replica's log.
	LastTerm      uint64   `json:"last_term"`
	LastIndex     uint64   `json:"last_index"`
	HighWatermark int64    `json:"high_watermark"` // what it knows to be committed, at least
	Members       []Member `json:"members"`        // the group's voters, by its configuration
	// Revision is that of the assignment that this is about.
	Revision  int64             `json:"revision"`
	Recovered *cluster.Recovery `json:"recovered,omitempty"`
}

// Member is a replica as another one's node sees it.
type Member struct {
	Node    int32  `json:"node"` // 0: not known
	Replica uint64 `json:"replica"`
	Answers bool   `json:"answers"` // its node is up and can be reached
	// Registered says that the node is registered in etcd, with the data
	// directory that the replica lay in.
	Registered bool `json:"registered"`
}

// RecoverRequest is an operator's decision.
type RecoverRequest struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Replica   uint64 `json:"replica"` // the survivor; this node's
	Revision  int64  `json:"revision"`
	// Destroyed are the nodes of all replicas that are lost, one by one.
	Destroyed []int32 `json:"destroyed"`
	// Term is the highest that any node knows.
	Term uint64 `json:"term"`
	// DataMayBeLost must be true.
	DataMayBeLost bool `json:"data_may_be_lost"`
}

// termGap is how far the terms of the new group are above those that anybody
// left has heard of: the lost ones may have had elections of their own, one term
// each, and a client that saw such a term takes no lower one for news.
const termGap = 1000

// survivor describes the own replica of a partition.
func (n *Node) survivor(topic string, index int32) (SurvivorState, error) {
	v := n.store.View()
	t, known := v.Topics[topic]
	a, placed := v.Assignments[cluster.TopicPartition{Topic: topic, Partition: index}]
	if !known || !placed || a.TopicID != t.ID {
		return SurvivorState{}, gateway.Refuse(gateway.NotFound, fmt.Errorf("there is no partition %s/%d", topic, index))
	}
	id := partitionID{t.ID, index}
	s := SurvivorState{Topic: topic, TopicID: t.ID, Partition: index, Node: n.ID(), Revision: a.ModRevision, Recovered: a.Recovered}
	l, ok := (backend{n}).leader(v, topic, id)
	s.Term = l.term
	if ok {
		s.Leader = l.node
	}
	p, open := n.replicas.get(id)
	if !open {
		return s, nil
	}
	g := p.Group()
	s.Replica = g.Replica()
	s.Term = max(s.Term, g.Status().Term)
	s.LastTerm, s.LastIndex = g.LogEnd()
	offsets, _ := p.Offsets()
	s.HighWatermark = offsets.HighWatermark
	s.Members = n.members(v, a, p)
	return s, nil
}

func (n *Node) members(v *cluster.View, a cluster.Assignment, p *partition.Partition) (all []Member) {
	voters, _ := p.Group().Members()
	for _, replica := range voters {
		m := Member{Replica: replica}
		m.Node, _ = n.peers.NodeOf(replica)
		m.Answers = m.Node != 0 && n.alive(m.Node)
		if reg, ok := v.Nodes[m.Node]; ok {
			m.Registered = !n.elsewhere(a, replica, reg)
		}
		m.Answers = m.Answers && !n.wiped(v, a, m)
		all = append(all, m)
	}
	return all
}

// elsewhere says whether a node's registration is that of another data directory
// than the one in which the replica lay.
func (n *Node) elsewhere(a cluster.Assignment, replica uint64, reg cluster.Node) bool {
	for _, rs := range [][]cluster.Replica{a.Replicas, a.Former, a.Initial} {
		for _, r := range rs {
			if r.ID == replica {
				return r.Incarnation != reg.Incarnation
			}
		}
	}
	return false
}

// wiped says whether the member's node came back with an empty data directory.
func (n *Node) wiped(v *cluster.View, a cluster.Assignment, m Member) bool {
	reg, ok := v.Nodes[m.Node]
	return ok && n.elsewhere(a, m.Replica, reg)
}

// recoverable says why a partition may not begin anew from this node's replica,
// or nil. It decides by what the operator says is destroyed, and believes none
// of it that it can disprove.
func recoverable(s SurvivorState, req RecoverRequest) error {
	switch {
	case !req.DataMayBeLost:
		return errors.New("it was not confirmed that acknowledged records may be lost")
	case s.Replica == 0:
		return fmt.Errorf("node %d has no open replica of %s/%d", s.Node, s.Topic, s.Partition)
	case req.Replica != s.Replica:
		return fmt.Errorf("node %d has replica %d, not %d", s.Node, s.Replica, req.Replica)
	case req.Revision != s.Revision:
		return fmt.Errorf("the assignment has changed since it was looked at (revision %d, now %d): look again", req.Revision, s.Revision)
	case s.Leader != 0:
		return fmt.Errorf("node %d leads the partition: nothing needs to be recovered", s.Leader)
	case !slices.ContainsFunc(s.Members, func(m Member) bool { return m.Replica == s.Replica }):
		return fmt.Errorf("replica %d is none of the group's voters: it may lack anything", s.Replica)
	}
	for _, node := range req.Destroyed {
		if !slices.ContainsFunc(s.Members, func(m Member) bool { return m.Node == node }) {
			return fmt.Errorf("node %d was named as destroyed, and holds no replica of this partition", node)
		}
	}
	left := 0
	var back, unnamed []string
	for _, m := range s.Members {
		named := slices.Contains(req.Destroyed, m.Node)
		switch {
		case m.Replica == s.Replica && named:
			return fmt.Errorf("node %d was named as destroyed, and is the one that is asked", m.Node)
		case m.Replica == s.Replica || m.Answers && !named:
			left++
		case named && (m.Answers || m.Registered):
			back = append(back, fmt.Sprint(m.Node))
		case !named:
			unnamed = append(unnamed, fmt.Sprintf("%d (replica %d)", m.Node, m.Replica))
		}
	}
	majority := len(s.Members)/2 + 1
	switch {
	case len(back) > 0:
		return fmt.Errorf("named as destroyed, and not so: node %s answers or is registered in etcd", strings.Join(back, ", "))
	case left >= majority:
		return fmt.Errorf("%d of %d replicas can be reached, a majority: they elect a leader by themselves", left, len(s.Members))
	case len(unnamed) > 0:
		return fmt.Errorf("node %s can't be reached and was not named as destroyed: bring it back, or name it if its data is gone for good", strings.Join(unnamed, ", "))
	}
	return nil
}

// recoverPartition writes an operator's decision down: the partition begins
// anew from this node's replica. All nodes act on what is written, this one by
// replicas.inherit.
func (n *Node) recoverPartition(ctx context.Context, req RecoverRequest) (SurvivorState, error) {
	s, err := n.survivor(req.Topic, req.Partition)
	if err != nil {
		return s, err
	}
	v := n.store.View()
	switch {
	case v.Frozen != "" || v.Halt != nil:
		return s, gateway.Refuse(gateway.Conflict, fmt.Errorf("the cluster's metadata is frozen (%s): see to that first, docs/operations/etcd-loss.md", v.Frozen))
	case v.Source != cluster.SourceEtcd || !n.store.Connected():
		return s, gateway.Refuse(gateway.Unavailable, errors.New("etcd can't be reached: without it nobody can tell the lost replicas, should they return, that they are given up"))
	}
	if err := recoverable(s, req); err != nil {
		return s, gateway.Refuse(gateway.Conflict, err)
	}
	note := cluster.Recovery{
		From: s.Replica, Destroyed: req.Destroyed, Term: max(s.Term, s.LastTerm, req.Term) + termGap,
		LastIndex: s.LastIndex, HighWatermark: s.HighWatermark, At: n.now().UTC(),
	}
	for _, m := range s.Members {
		note.GivenUp = append(note.GivenUp, m.Replica)
	}
	tp := cluster.TopicPartition{Topic: req.Topic, Partition: req.Partition}
	change, err := controller.Recover(v, tp, note)
	if err != nil {
		return s, gateway.Refuse(gateway.Conflict, err)
	}
	registered := make(map[int32]int64)
	for _, m := range s.Members {
		if slices.Contains(req.Destroyed, m.Node) {
			registered[m.Node] = v.Nodes[m.Node].ModRevision // 0: it is not registered
		}
	}
	err = n.store.Recover(ctx, change, registered)
	switch {
	case errors.Is(err, cluster.ErrConflict), errors.Is(err, cluster.ErrFrozen):
		return s, gateway.Refuse(gateway.Conflict, err)
	case err != nil:
		return s, gateway.Refuse(gateway.Unavailable, err)
	}
	n.log.Warn("an operator gives a partition's lost majority up", "topic", req.Topic, "partition", req.Partition,
		"survivor", note.From, "recovered_into", change.Assignment.Recovered.Into, "destroyed", req.Destroyed,
		"replicas", cluster.FormatReplicas(change.Assignment.Replicas), "last_index", note.LastIndex, "high_watermark", note.HighWatermark)
	s.Recovered = change.Assignment.Recovered
	return s, nil
}

// recovery serves it over HTTP.
func (n *Node) recovery() *gateway.Recovery {
	return &gateway.Recovery{
		State: func(topic string, index int32) (any, error) { return n.survivor(topic, index) },
		Recover: func(ctx context.Context, decision []byte) (any, error) {
			var req RecoverRequest
			if err := json.Unmarshal(decision, &req); err != nil {
				return nil, gateway.Refuse(gateway.Invalid, fmt.Errorf("the decision makes no sense: %w", err))
			}
			return n.recoverPartition(ctx, req)
		},
	}
}
