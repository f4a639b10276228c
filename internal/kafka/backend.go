package kafka

import "context"

// Backend is the node behind the door. All methods may be called at once from
// many goroutines; those without a context answer from memory and never
// block. What they return is shared and must not be changed by the caller.
//
// Errors are *kerr.Error, made by [Errorf], or wrap one of these; anything
// else reaches the client as UNKNOWN_SERVER_ERROR and is logged. An operation
// that can't be done now (etcd is away) must fail with a retriable code.
type Backend interface {
	ClusterID() string
	NodeID() int32
	// ControllerID is the broker that clients send administration to. Any
	// node takes it; -1 makes the server name one.
	ControllerID() int32
	// Brokers are the live nodes with their address on the named listener.
	Brokers(listener string) []Broker

	Topic(name string) (TopicInfo, bool)
	TopicByID(id [16]byte) (TopicInfo, bool)
	// Topics lists all topics, ordered by name.
	Topics() []TopicInfo
	// TopicsChanged returns a channel that is closed at the next change of
	// topics, leaders or live brokers. Take it before looking.
	TopicsChanged() <-chan struct{}

	// AwaitLeaders returns when the leaders of the named topics (nil is all) are
	// known to be alive; when waiting longer is of no use; or when ctx ends. A
	// client that has just lost a leader asks for Metadata at once, and one that
	// is told of the dead one asks again seconds later only.
	AwaitLeaders(ctx context.Context, topics []string)

	// Partition returns the local replica, or UNKNOWN_TOPIC_OR_PARTITION,
	// NOT_LEADER_OR_FOLLOWER or KAFKA_STORAGE_ERROR. The handle may outlive
	// the replica's leadership or the replica itself; its methods then fail.
	Partition(topic string, index int32) (Partition, error)

	// InitProducerID returns a producer id that was never given out before.
	InitProducerID(ctx context.Context) (int64, error)

	Administration
	Groups
}

// Broker is a live node as clients of one listener see it.
type Broker struct {
	ID   int32
	Host string
	Port int32
	Rack string // "" for none
}

// TopicInfo is a topic as the cluster knows it.
type TopicInfo struct {
	Name       string
	ID         [16]byte
	Internal   bool
	Partitions []PartitionInfo // ordered by Index, which starts at 0 and has no gaps
	// MaxMessageBytes bounds one batch (max.message.bytes); 0 means
	// Limits.MaxMessageBytes.
	MaxMessageBytes int
	Config          map[string]string // what was set for this topic
}

// PartitionInfo says who serves a partition.
type PartitionInfo struct {
	Index    int32
	Leader   int32   // -1 for none
	Epoch    int32   // the leader's
	Replicas []int32 // while the partition moves the wanted ones, and then those that leave
	Leaving  int     // how many of Replicas leave
	ISR      []int32
	Offline  []int32
}

// Partition is the local replica of a partition.
type Partition interface {
	// Append never blocks. It checks the batch (CORRUPT_MESSAGE,
	// INVALID_RECORD, ...) and calls done exactly once, on any goroutine, when
	// it is committed or refused, holding no lock that a Backend method takes.
	// done is quick and does not block. The batch belongs to the partition for
	// good: it aliases the request's buffer, which nobody else writes to.
	Append(batch []byte, done func(AppendResult))

	FetchPartition

	// Offsets is what clients may see; leading is false on a follower, and on
	// a leader whose high watermark may still be behind what clients have seen.
	Offsets() (o Offsets, leading bool)

	// Unsettled says that this replica does not serve, and that it is about to, or
	// that no other one has said yet that it leads, in the leader epoch that the
	// client knows of (below 0: none) or a later one. When it serves, Watch tells;
	// when another one leads, Backend.TopicsChanged. Afterwards the partition is to
	// be looked up again.
	Unsettled(epoch int32) bool

	// OffsetForTimestamp finds the first record whose timestamp is ts or
	// later, and the leader epoch of its batch (-1 if unknown).
	OffsetForTimestamp(ts int64) (offset, timestamp int64, epoch int32, ok bool, err error)

	// MaxTimestamp finds the record with the highest timestamp, and the leader
	// epoch of its batch (-1 if unknown).
	MaxTimestamp() (offset, timestamp int64, epoch int32, ok bool, err error)

	// EpochAt is the leader epoch of what is, or will be, at an offset from the log
	// start on; -1 if unknown.
	EpochAt(offset int64) int32

	// EpochEnd returns the highest epoch that is not above epoch, and the
	// offset where it ends; -1 and -1 when there is none.
	EpochEnd(epoch int32) (e int32, end int64, err error)

	PartitionAdmin
}

// AppendResult is the outcome of Append.
type AppendResult struct {
	BaseOffset int64 // of the batch; of the first copy for a duplicate
	LogStart   int64
	AppendTime int64 // ms; -1 unless the topic uses LogAppendTime
	Err        error
	Records    []RecordError // that Err is about, if it is about some of them
}

// RecordError is one record's fault (KIP-467).
type RecordError struct {
	Index   int32 // of the record in its batch
	Message string
}

// Offsets of a partition.
type Offsets struct {
	Start         int64 // log start
	HighWatermark int64
	LastStable    int64
	Epoch         int32 // the leader's
}

// Data is a run of record batches that is valid until Release, which is
// called once.
type Data interface {
	Bytes() [][]byte
	Len() int
	Release()
}
