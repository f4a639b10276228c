package node

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/partition"
)

// backend is the node as its Kafka server sees it.
type backend struct{ n *Node }

// topicCache keeps what Topic answers until the view, a leader or a node
// changes, and the topics by id until the view does: every produce request asks.
type topicCache struct {
	mu     sync.Mutex
	view   *cluster.View
	change uint64
	byName map[string]kafka.TopicInfo
	ids    *cluster.View // that byID was made of
	byID   map[[16]byte]string
}

// nameOf returns the topic that has an id in a view.
func (c *topicCache) nameOf(id [16]byte, view *cluster.View) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids != view {
		c.ids, c.byID = view, make(map[[16]byte]string, len(view.Topics))
		for name, t := range view.Topics {
			if id, err := uuid.Parse(t.ID); err == nil {
				c.byID[id] = name
			}
		}
	}
	name, ok := c.byID[id]
	return name, ok
}

func (c *topicCache) get(name string, view *cluster.View, change uint64, build func() kafka.TopicInfo) kafka.TopicInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view != view || c.change != change {
		c.view, c.change, c.byName = view, change, make(map[string]kafka.TopicInfo)
	}
	info, ok := c.byName[name]
	if !ok {
		info = build()
		c.byName[name] = info
	}
	return info
}

var _ kafka.Backend = backend{}

func (b backend) ClusterID() string { return b.n.dir.id.ClusterID }
func (b backend) NodeID() int32     { return b.n.dir.id.NodeID }

// ControllerID is the winner, while it is known and alive.
func (b backend) ControllerID() int32 {
	if w := b.n.store.View().Winner; w != nil && b.n.alive(w.Node) {
		return w.Node
	}
	return -1
}

// Brokers are the nodes that are registered in etcd, and those that this one can
// reach. While etcd is away nobody is left out: a client that was told of a node
// cut off from the others, and of no other, would never get away from it.
func (b backend) Brokers(listener string) []kafka.Broker {
	var brokers []kafka.Broker
	v, connected := b.n.store.View(), b.n.store.Connected()
	for _, node := range b.n.peers.all() {
		if _, registered := v.Nodes[node.Node]; connected && !registered && !b.n.alive(node.Node) {
			continue
		}
		if one := brokerOn(node, listener); one.Host != "" || one.Port != 0 {
			brokers = append(brokers, one)
		}
	}
	return brokers
}

func (b backend) Topic(name string) (kafka.TopicInfo, bool) {
	v := b.n.store.View()
	t, ok := v.Topics[name]
	if !ok {
		return kafka.TopicInfo{}, false
	}
	return b.topic(v, name, t), true
}

func (b backend) TopicByID(id [16]byte) (kafka.TopicInfo, bool) {
	v := b.n.store.View()
	name, ok := b.n.topics.nameOf(id, v)
	if !ok {
		return kafka.TopicInfo{}, false
	}
	return b.topic(v, name, v.Topics[name]), true
}

func (b backend) Topics() []kafka.TopicInfo {
	v := b.n.store.View()
	topics := make([]kafka.TopicInfo, 0, len(v.Topics))
	for name, t := range v.Topics {
		topics = append(topics, b.topic(v, name, t))
	}
	slices.SortFunc(topics, func(x, y kafka.TopicInfo) int { return strings.Compare(x.Name, y.Name) })
	return topics
}

func (b backend) topic(v *cluster.View, name string, t cluster.Topic) kafka.TopicInfo {
	return b.n.topics.get(name, v, b.n.changes.count(), func() kafka.TopicInfo { return b.build(v, name, t) })
}

func (b backend) build(v *cluster.View, name string, t cluster.Topic) kafka.TopicInfo {
	info := kafka.TopicInfo{Name: name, Internal: kafka.InternalTopic(name), Config: t.Config}
	if id, err := uuid.Parse(t.ID); err == nil {
		info.ID = id
	}
	info.MaxMessageBytes = int(b.n.replicas.settings(v, name).MaxMessageBytes)
	info.Partitions = make([]kafka.PartitionInfo, t.Partitions)
	for i := range info.Partitions {
		info.Partitions[i] = b.partition(v, name, t.ID, int32(i))
	}
	return info
}

func (b backend) partition(v *cluster.View, topic, topicID string, index int32) kafka.PartitionInfo {
	info := kafka.PartitionInfo{Index: index, Leader: -1, Epoch: -1}
	tp := cluster.TopicPartition{Topic: topic, Partition: index}
	a, placed := v.Assignments[tp]
	if !placed || a.TopicID != topicID {
		return info
	}
	for _, r := range a.Replicas {
		info.Replicas = append(info.Replicas, r.Node)
	}
	if len(a.Former) > 0 && v.Moving(tp) {
		for _, r := range a.Former {
			if !slices.Contains(info.Replicas, r.Node) {
				info.Replicas, info.Leaving = append(info.Replicas, r.Node), info.Leaving+1
			}
		}
	}
	for _, node := range info.Replicas {
		if !b.n.alive(node) {
			info.Offline = append(info.Offline, node)
		}
	}
	if l, ok := b.leader(v, topic, partitionID{topicID, index}); ok {
		info.Leader, info.Epoch = l.node, int32(l.term)
		for _, node := range l.inSync {
			if b.n.alive(node) {
				info.ISR = append(info.ISR, node)
			}
		}
		if !slices.Contains(info.ISR, l.node) {
			info.ISR = append(info.ISR, l.node)
		}
	}
	return info
}

// leader is what the nodes told each other, unless the own replica knows of a
// later term, or etcd does: this node may be cut off from its peers. ok says
// that the leader is alive, as far as can be known.
func (b backend) leader(v *cluster.View, topic string, id partitionID) (l leader, ok bool) {
	l, ok = b.n.leaders.of(id)
	ok = ok && b.n.alive(l.node)
	if p, here := b.n.replicas.get(id); here {
		if s := p.Group().Status(); s.Leader != 0 && s.Term > l.term {
			if node, known := b.n.peers.NodeOf(s.Leader); known {
				l, ok = leader{node: node, term: s.Term}, b.n.alive(node)
			}
		}
	}
	connected := b.n.store.Connected() // else what is registered may be dead
	for node, status := range v.Status {
		if term := status.Leads[topic][id.index]; term > l.term {
			_, registered := v.Nodes[node]
			l, ok = leader{node: node, term: term}, registered && (connected || b.n.alive(node))
		}
	}
	return l, ok
}

// whoLeads says whether this node takes batches of a partition, or another one
// has said that it does, in the own replica's term or a later one. What raft says
// comes a little before the other one takes batches.
func (b backend) whoLeads(id partitionID) (here, elsewhere bool) {
	l, ok := b.n.leaders.of(id)
	elsewhere = ok && l.node != b.NodeID() && b.n.alive(l.node)
	if p, open := b.n.replicas.get(id); open {
		here = p.Takes()
		elsewhere = elsewhere && l.term >= p.Group().Status().Term
	}
	return here, elsewhere
}

// ledElsewhere says whether another node is known to lead a partition.
func (b backend) ledElsewhere(id partitionID) bool {
	_, elsewhere := b.whoLeads(id)
	return elsewhere
}

func (b backend) TopicsChanged() <-chan struct{} { return b.n.changes.wait() }

func (b backend) Partition(topic string, index int32) (kafka.Partition, error) {
	v := b.n.store.View()
	t, ok := v.Topics[topic]
	if !ok || index < 0 || index >= t.Partitions {
		return nil, kerr.UnknownTopicOrPartition
	}
	id := partitionID{t.ID, index}
	p, ok := b.n.replicas.get(id)
	if !ok && b.n.replicas.opening(id) {
		return openingPartition{b, id}, nil
	}
	if !ok || b.n.stuck.Load() && b.ledElsewhere(id) {
		return nil, kerr.NotLeaderForPartition
	}
	return b.local(p, id), nil
}

func (b backend) local(p *partition.Partition, id partitionID) localPartition {
	return localPartition{p, &b.n.space, &b.n.redirects, id, &b.n.followers}
}

// clusterError gives an error of the metadata its Kafka code.
func (b backend) clusterError(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range []struct {
		is   error
		code *kerr.Error
	}{
		{cluster.ErrTopicExists, kerr.TopicAlreadyExists},
		{cluster.ErrTopicUnknown, kerr.UnknownTopicOrPartition},
		{cluster.ErrInvalidTopic, kerr.InvalidTopicException},
		{cluster.ErrInvalidPartitions, kerr.InvalidPartitions},
		{cluster.ErrInvalidReplicationFactor, kerr.InvalidReplicationFactor},
		{cluster.ErrInvalidReplicas, kerr.InvalidReplicaAssignment},
		{cluster.ErrFrozen, kerr.RequestTimedOut}, // clients give up in time and show the reason
		{cluster.ErrUnavailable, kerr.RequestTimedOut},
	} {
		if errors.Is(err, e.is) {
			return kafka.Errorf(e.code, "%s", err.Error())
		}
	}
	return err
}
