package node

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/kafka"
)

// backend is the node as its Kafka server sees it.
type backend struct{ n *Node }

// topicCache keeps what Topic answers until the view, a leader or a node
// changes: every produce request asks for it.
type topicCache struct {
	mu     sync.Mutex
	view   *cluster.View
	change uint64
	byName map[string]kafka.TopicInfo
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
		addr, ok := node.Listeners[listener]
		if !ok {
			addr = node.Kafka
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			continue
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		brokers = append(brokers, kafka.Broker{ID: node.Node, Host: host, Port: int32(p), Rack: node.Rack})
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
	want := uuid.UUID(id).String()
	for name, t := range v.Topics {
		if t.ID == want {
			return b.topic(v, name, t), true
		}
	}
	return kafka.TopicInfo{}, false
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
	info := kafka.TopicInfo{Name: name, Internal: strings.HasPrefix(name, "__"), Config: t.Config}
	if id, err := uuid.Parse(t.ID); err == nil {
		info.ID = id
	}
	info.MaxMessageBytes = int(b.n.replicas.settings(t.Config).MaxMessageBytes)
	info.Partitions = make([]kafka.PartitionInfo, t.Partitions)
	for i := range info.Partitions {
		info.Partitions[i] = b.partition(v, name, t.ID, int32(i))
	}
	return info
}

func (b backend) partition(v *cluster.View, topic, topicID string, index int32) kafka.PartitionInfo {
	info := kafka.PartitionInfo{Index: index, Leader: -1, Epoch: -1}
	a, placed := v.Assignments[cluster.TopicPartition{Topic: topic, Partition: index}]
	if !placed || a.TopicID != topicID {
		return info
	}
	for _, r := range a.Replicas {
		info.Replicas = append(info.Replicas, r.Node)
		if !b.n.alive(r.Node) {
			info.Offline = append(info.Offline, r.Node)
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
	if !ok || b.n.stuck.Load() && b.ledElsewhere(id) {
		return nil, kerr.NotLeaderForPartition
	}
	return localPartition{p, &b.n.space, &b.n.redirects, id}, nil
}

func (b backend) CreateTopic(ctx context.Context, spec kafka.CreateTopicSpec) (kafka.TopicInfo, error) {
	if spec.Assignments != nil {
		return kafka.TopicInfo{}, kafka.Errorf(kerr.InvalidRequest, "replicas can't be assigned by hand when a topic is created: leave the placement to the cluster")
	}
	if err := validateConfig(spec.Config); err != nil {
		return kafka.TopicInfo{}, kafka.Errorf(kerr.InvalidConfig, "%s", err.Error())
	}
	v := b.n.store.View()
	rf := spec.ReplicationFactor
	if rf <= 0 {
		// Nodes that are away for the moment count: a topic that was made with
		// fewer replicas would keep them.
		known := max(len(v.Nodes), int(v.NodeIDs.Next)-1, 1)
		rf = int16(min(3, known))
	}
	live, reached := b.registered(ctx, int(rf))
	if int(rf) > live && int(rf) <= reached {
		return kafka.TopicInfo{}, kafka.Errorf(kerr.RequestTimedOut, "%d nodes can be reached, and %d of them are registered in etcd by now: try again.", reached, live)
	}
	if int(rf) > live {
		return kafka.TopicInfo{}, kafka.Errorf(kerr.InvalidReplicationFactor, "Replication factor: %d larger than available brokers: %d.", rf, live)
	}
	if err := checkMinInSync(spec.Config, rf); err != nil {
		return kafka.TopicInfo{}, kafka.Errorf(kerr.InvalidConfig, "%s", err.Error())
	}
	if spec.ValidateOnly {
		info := kafka.TopicInfo{Name: spec.Name, Config: spec.Config, Partitions: make([]kafka.PartitionInfo, spec.Partitions)}
		for i := range info.Partitions {
			info.Partitions[i] = kafka.PartitionInfo{Index: int32(i), Leader: -1, Epoch: -1, Replicas: make([]int32, rf)}
		}
		if _, exists := b.n.store.View().Topics[spec.Name]; exists {
			return info, kafka.Errorf(kerr.TopicAlreadyExists, "Topic '%s' already exists.", spec.Name)
		}
		return info, b.clusterError(cluster.ValidateTopicName(spec.Name))
	}
	t, err := b.n.store.CreateTopic(ctx, spec.Name, spec.Partitions, rf, spec.Config)
	if err != nil {
		return kafka.TopicInfo{}, b.clusterError(err)
	}
	info := kafka.TopicInfo{Name: spec.Name, Config: spec.Config, Partitions: make([]kafka.PartitionInfo, spec.Partitions)}
	if id, err := uuid.Parse(t.ID); err == nil {
		info.ID = id
	}
	for i := range info.Partitions {
		info.Partitions[i] = kafka.PartitionInfo{Index: int32(i), Leader: -1, Epoch: -1, Replicas: make([]int32, rf)}
	}
	return info, nil
}

// registerWait is how long a new topic waits for nodes that are there and not
// registered yet.
const registerWait = 5 * time.Second

// registered counts the registered nodes and those that answer. When there are
// fewer than wanted and more answer, their leases ran out while etcd was away;
// they register again in a moment, for which it waits.
func (b backend) registered(ctx context.Context, want int) (live, reached int) {
	live, reached = len(b.n.store.View().Nodes), b.reached()
	if live >= want || reached < want || !b.n.store.Connected() {
		return live, reached
	}
	ctx, cancel := context.WithTimeout(ctx, registerWait)
	defer cancel()
	b.n.store.WaitFor(ctx, func(v *cluster.View) bool { return len(v.Nodes) >= want })
	return len(b.n.store.View().Nodes), b.reached()
}

// reached counts this node and the peers that answer it.
func (b backend) reached() int {
	n := 1
	for _, peer := range b.n.peers.Peers() {
		if b.n.alive(peer) {
			n++
		}
	}
	return n
}

func (b backend) DeleteTopic(ctx context.Context, name string) error {
	return b.clusterError(b.n.store.DeleteTopic(ctx, name))
}

func (b backend) CreatePartitions(ctx context.Context, name string, count int32, validateOnly bool) error {
	t, ok := b.n.store.View().Topics[name]
	if !ok {
		return kerr.UnknownTopicOrPartition
	}
	if count <= t.Partitions {
		return kafka.Errorf(kerr.InvalidPartitions, "Topic currently has %d partitions, which is higher than or equal to the requested %d.", t.Partitions, count)
	}
	if validateOnly {
		return nil
	}
	return b.clusterError(b.n.store.CreatePartitions(ctx, name, count))
}

func (b backend) InitProducerID(ctx context.Context) (int64, error) {
	id, err := b.n.producerIDs.take(ctx)
	if err != nil {
		// Clients ask a coordinator again when it is loading or away.
		return 0, kafka.Errorf(kerr.CoordinatorLoadInProgress, "no producer id can be had: %s", err.Error())
	}
	return id, nil
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
		{cluster.ErrFrozen, kerr.RequestTimedOut}, // clients give up in time and show the reason
		{cluster.ErrUnavailable, kerr.RequestTimedOut},
	} {
		if errors.Is(err, e.is) {
			return kafka.Errorf(e.code, "%s", err.Error())
		}
	}
	return err
}

// changes wakes everybody who waits for a change of topics, leaders or nodes.
type changes struct {
	mu sync.Mutex
	n  uint64
	ch chan struct{}
}

// count rises with each change.
func (c *changes) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *changes) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ch == nil {
		c.ch = make(chan struct{})
	}
	return c.ch
}

func (c *changes) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.ch != nil {
		close(c.ch)
		c.ch = nil
	}
}
