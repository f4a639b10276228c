package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/config"
	"github.com/raftsman/raftsman/internal/kafka"
)

// CreateTopics implements kafka.Administration.
func (b backend) CreateTopics(ctx context.Context, specs []kafka.CreateTopicSpec) []kafka.CreatedTopic {
	made := make([]kafka.CreatedTopic, len(specs))
	var topics []cluster.NewTopic
	var at []int
	for i, spec := range specs {
		t, err := b.newTopic(ctx, spec)
		if err == nil && spec.ValidateOnly {
			err = b.wouldExist(spec.Name)
		}
		made[i] = b.created(t, err)
		if err == nil && !spec.ValidateOnly {
			topics, at = append(topics, t), append(at, i)
		}
	}
	if len(topics) == 0 {
		return made
	}
	stored, errs, rev := b.n.store.CreateTopics(ctx, topics)
	for j, i := range at {
		if errs[j] != nil {
			made[i] = kafka.CreatedTopic{Err: b.createError(topics[j].Name, errs[j])}
		} else if id, err := uuid.Parse(stored[j].ID); err == nil {
			made[i].Info.ID = id
		}
	}
	b.see(ctx, rev)
	return made
}

// newTopic checks a topic to create.
func (b backend) newTopic(ctx context.Context, spec kafka.CreateTopicSpec) (cluster.NewTopic, error) {
	t := cluster.NewTopic{Name: spec.Name, Partitions: spec.Partitions, ReplicationFactor: spec.ReplicationFactor, Config: spec.Config}
	v := b.n.store.View()
	if err := b.configs(v).CheckTopic(spec.Config); err != nil {
		return t, configError(err)
	}
	if t.ReplicationFactor <= 0 {
		// Nodes that are away for the moment count: a topic that was made with
		// fewer replicas would keep them.
		t.ReplicationFactor = int16(min(3, b.known(v)))
	}
	if spec.Assignments != nil {
		t.Replicas = make(map[int32][]int32, len(spec.Assignments))
		for p, nodes := range spec.Assignments {
			if err := b.checkNodes(v, nodes); err != nil {
				return t, err
			}
			t.Replicas[int32(p)] = nodes
		}
	}
	rf := int(t.ReplicationFactor)
	live, reached := b.registered(ctx, rf)
	if rf > live && rf <= reached {
		return t, kafka.Errorf(kerr.RequestTimedOut, "%d nodes can be reached, and %d of them are registered in etcd by now: try again.", reached, live)
	}
	if rf > live {
		return t, kafka.Errorf(kerr.InvalidReplicationFactor, "Replication factor: %d larger than available brokers: %d.", rf, live)
	}
	if err := checkMinInSync(spec.Config, t.ReplicationFactor); err != nil {
		return t, configError(err)
	}
	return t, nil
}

// known is the number of nodes that the cluster has had.
func (b backend) known(v *cluster.View) int { return max(len(v.Nodes), int(v.NodeIDs.Next)-1, 1) }

// checkNodes refuses replicas on nodes that are not there.
func (b backend) checkNodes(v *cluster.View, nodes []int32) error {
	for _, n := range nodes {
		if _, ok := v.Nodes[n]; !ok {
			return kafka.Errorf(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", n)
		}
	}
	return nil
}

// checkMinInSync: every acknowledged record is on a majority anyway; more than
// that can't be promised yet.
func checkMinInSync(set map[string]string, rf int16) error {
	n, err := strconv.Atoi(set["min.insync.replicas"])
	if err != nil {
		return nil // not set, or refused already
	}
	if majority := int(rf)/2 + 1; n > majority {
		return config.Invalid(fmt.Sprintf("Invalid value %d for configuration min.insync.replicas: acknowledged means fsynced on a majority (%d of %d), more is not supported in this version", n, majority, rf))
	}
	return nil
}

// wouldExist says whether a topic of this name could not be created.
func (b backend) wouldExist(name string) error {
	if err := cluster.ValidateTopicName(name); err != nil {
		return b.clusterError(err)
	}
	if err := b.n.store.Exists(name); err != nil {
		return b.createError(name, err)
	}
	return nil
}

// createError has Kafka's words for a topic that exists. One whose key is broken
// keeps its own.
func (b backend) createError(name string, err error) error {
	v := b.n.store.View()
	_, exists := v.Topics[name]
	_, broken := v.Broken["topics/"+name]
	if exists && !broken && errors.Is(err, cluster.ErrTopicExists) {
		return kafka.Errorf(kerr.TopicAlreadyExists, "Topic '%s' already exists.", name)
	}
	return b.clusterError(err)
}

// created is how a topic is, or would be.
func (b backend) created(t cluster.NewTopic, err error) kafka.CreatedTopic {
	if err != nil {
		return kafka.CreatedTopic{Err: err}
	}
	info := kafka.TopicInfo{Name: t.Name, Config: t.Config, Partitions: make([]kafka.PartitionInfo, t.Partitions)}
	for i := range info.Partitions {
		info.Partitions[i] = kafka.PartitionInfo{Index: int32(i), Leader: -1, Epoch: -1, Replicas: make([]int32, t.ReplicationFactor)}
	}
	return kafka.CreatedTopic{Info: info, ReplicationFactor: t.ReplicationFactor, Configs: b.topicEntries(b.n.store.View(), t.Config)}
}

// see waits until this node's view contains a change, so that whoever made it
// finds it here. That it is not seen in time is no error: it is in etcd.
func (b backend) see(ctx context.Context, rev int64) {
	if rev == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, seeWait)
	defer cancel()
	_, _ = b.n.store.WaitFor(ctx, func(v *cluster.View) bool { return v.Revision >= rev })
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

// DeleteTopics implements kafka.Administration.
func (b backend) DeleteTopics(ctx context.Context, topics []kafka.TopicInfo) []error {
	names := make([]cluster.TopicName, len(topics))
	for i, t := range topics {
		names[i] = cluster.TopicName{Name: t.Name, ID: uuid.UUID(t.ID).String()}
	}
	errs, rev := b.n.store.DeleteTopics(ctx, names)
	b.see(ctx, rev)
	return b.clusterErrors(errs)
}

func (b backend) clusterErrors(errs []error) []error {
	for i := range errs {
		errs[i] = b.clusterError(errs[i])
	}
	return errs
}

// CreatePartitions implements kafka.Administration.
func (b backend) CreatePartitions(ctx context.Context, specs []kafka.CreatePartitionsSpec, validateOnly bool) []error {
	v, errs := b.n.store.View(), make([]error, len(specs))
	var names []cluster.TopicName
	var at []int
	for i, spec := range specs {
		if errs[i] = b.checkGrowth(v, spec); errs[i] == nil && !validateOnly {
			names, at = append(names, cluster.TopicName{Name: spec.Topic}), append(at, i)
		}
	}
	if len(names) == 0 {
		return errs
	}
	stored, rev := b.n.store.EditTopics(ctx, "add partitions to topic", names, func(j int, t *cluster.Topic) error {
		spec := specs[at[j]]
		if added := int(spec.Count - t.Partitions); spec.Assignments != nil && added != len(spec.Assignments) {
			return cluster.ErrInvalidPartitions // somebody was quicker
		}
		return t.Grow(spec.Count, spec.Assignments)
	})
	for j, i := range at {
		errs[i] = b.clusterError(stored[j])
	}
	b.see(ctx, rev)
	return errs
}

// checkGrowth refuses partitions that a topic can't have.
func (b backend) checkGrowth(v *cluster.View, spec kafka.CreatePartitionsSpec) error {
	t, ok := v.Topics[spec.Topic]
	if !ok {
		return kerr.UnknownTopicOrPartition
	}
	for _, nodes := range spec.Assignments {
		if len(nodes) != int(t.ReplicationFactor) {
			return kafka.Errorf(kerr.InvalidReplicaAssignment,
				"The manual partition assignment includes a partition with %d replica(s), but this is not consistent with previous partitions, which have %d replica(s).",
				len(nodes), t.ReplicationFactor)
		}
		if err := b.checkNodes(v, nodes); err != nil {
			return err
		}
	}
	return b.clusterError(t.Grow(spec.Count, spec.Assignments))
}

func (b backend) InitProducerID(ctx context.Context) (int64, error) {
	id, err := b.n.producerIDs.take(ctx)
	if err != nil {
		// Clients ask a coordinator again when it is loading or away.
		return 0, kafka.Errorf(kerr.CoordinatorLoadInProgress, "no producer id can be had: %s", err.Error())
	}
	return id, nil
}
