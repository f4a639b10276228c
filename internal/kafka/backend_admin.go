package kafka

import (
	"context"

	"github.com/raftsman/raftsman/internal/config"
)

// Administration is what the administrative APIs ask of the node. Methods take
// many changes at once, so that they reach the metadata together, and answer
// each with its own error, in the order of the changes. What was changed shows
// on this node when a method returns, but for the leaders of new partitions.
type Administration interface {
	// Defaults are for topics that are created without saying.
	Defaults() Defaults

	// CreateTopics makes topics, or says with ValidateOnly how they would be.
	CreateTopics(ctx context.Context, specs []CreateTopicSpec) []CreatedTopic
	// DeleteTopics deletes the topics that the infos are about, not others that
	// have their names by now.
	DeleteTopics(ctx context.Context, topics []TopicInfo) []error
	// CreatePartitions gives topics more partitions.
	CreatePartitions(ctx context.Context, specs []CreatePartitionsSpec, validateOnly bool) []error

	// DescribeConfigs returns a resource's configurations, ordered by name.
	DescribeConfigs(r ConfigResource) ([]config.Entry, error)
	// AlterConfigs changes configurations, each resource's wholly or not at all.
	AlterConfigs(ctx context.Context, changes []ConfigChange, validateOnly bool) []error

	// LogDirs are this node's.
	LogDirs() []LogDir
	// Absent are the nodes that belong to the cluster and are not live.
	Absent(listener string) []Broker

	// Reassign moves partitions to other nodes, or stops that. It returns when
	// the moves are under way or refused, not when they are done.
	Reassign(ctx context.Context, moves []Reassignment) []error
	// Reassignments are those that are under way, in order.
	Reassignments() []Moving
	// ElectLeaders hands partitions to their preferred leaders, and returns when
	// these lead or ctx ends.
	ElectLeaders(ctx context.Context, partitions []TopicPartition) []error
}

// Defaults of topics that are created without saying.
type Defaults struct {
	AutoCreate        bool // Metadata of an unknown topic creates it
	Partitions        int32
	ReplicationFactor int16
}

// CreateTopicSpec is a topic to create. Defaults are filled in.
type CreateTopicSpec struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	// Assignments, when not nil, lists the replicas of each partition,
	// preferred leader first.
	Assignments  [][]int32
	Config       map[string]string // to be validated by the backend: INVALID_CONFIG
	ValidateOnly bool
}

// CreatedTopic is a topic as it was or would be created.
type CreatedTopic struct {
	Info              TopicInfo
	ReplicationFactor int16
	Configs           []config.Entry // all of them, ordered by name
	Err               error
}

// CreatePartitionsSpec raises a topic's partitions to Count. Assignments, when
// not nil, lists the replicas of the new ones.
type CreatePartitionsSpec struct {
	Topic       string
	Count       int32
	Assignments [][]int32
}

// ConfigResource is what has configurations: a topic, by name; a broker, by
// number; or all brokers, without a name.
type ConfigResource struct {
	Type int8 // as in the protocol
	Name string
}

// ConfigChange is a change of one resource's configurations.
type ConfigChange struct {
	Resource ConfigResource
	config.Change
}

// LogDir is a directory with replicas.
type LogDir struct {
	Path     string
	Replicas []LogDirReplica
	Total    int64 // bytes of its file system; -1 is unknown
	Usable   int64
}

// LogDirReplica is one replica in a directory.
type LogDirReplica struct {
	TopicPartition
	Size int64
	Lag  int64 // offsets behind the high watermark
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic string
	Index int32
}

// Reassignment moves a partition to the given nodes, the preferred leader first.
// With nil it stops what is under way.
type Reassignment struct {
	TopicPartition
	Replicas []int32
}

// Moving is a reassignment that is under way.
type Moving struct {
	TopicPartition
	Replicas []int32 // all of them, old and new
	Adding   []int32
	Removing []int32
}

// PartitionAdmin is what the administrative APIs ask of a [Partition].
type PartitionAdmin interface {
	// DeleteRecords raises the log start to offset, -1 for the high watermark,
	// and returns the log start when that is committed. It blocks until then.
	// Errors: OFFSET_OUT_OF_RANGE, POLICY_VIOLATION, NOT_LEADER_OR_FOLLOWER.
	DeleteRecords(ctx context.Context, offset int64) (logStart int64, err error)
	// Producers are the idempotent producers that the partition remembers, by id.
	Producers() ([]ProducerInfo, error)
}

// ProducerInfo is what a partition remembers of a producer.
type ProducerInfo struct {
	ID           int64
	Epoch        int16
	LastSequence int32
	LastTime     int64 // ms
}
