package node

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/kafka"
)

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
