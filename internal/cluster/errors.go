package cluster

import (
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/pkg/election"
)

var (
	// ErrTopicExists: a topic of this name, or of one that collides with it.
	ErrTopicExists = errors.New("topic exists")
	// ErrTopicUnknown: no topic of this name.
	ErrTopicUnknown = errors.New("unknown topic")
	// ErrInvalidTopic: a name that Kafka does not allow.
	ErrInvalidTopic = errors.New("invalid topic name")
	// ErrInvalidPartitions: a partition count that is out of range, or that
	// would shrink the topic.
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	// ErrInvalidReplicationFactor: a replication factor that is out of range.
	ErrInvalidReplicationFactor = errors.New("invalid replication factor")
	// ErrInvalidReplicas: nodes for a topic's partitions that make no sense.
	ErrInvalidReplicas = errors.New("invalid replicas")
	// ErrOpExists: an operation with this id.
	ErrOpExists = errors.New("operation exists")
	// ErrOpUnknown: no operation with this id.
	ErrOpUnknown = errors.New("unknown operation")
	// ErrOpEnded: it is too late to cancel.
	ErrOpEnded = errors.New("operation has ended")
	// ErrUnavailable: etcd is away, or did not answer in time; ask again. A
	// change may have been made or not.
	ErrUnavailable = errors.New("cluster metadata is unavailable, try again")
	// ErrFrozen: etcd does not hold what it held, and nothing may be changed
	// until an operator has seen to it.
	ErrFrozen = errors.New("cluster metadata is frozen")
	// ErrFenced: another node has won; nothing was changed.
	ErrFenced = errors.New("refused: another node has won")
	// ErrConflict: a key is not as the winner's view had it; plan again.
	ErrConflict = errors.New("metadata has changed meanwhile")
)

// FencedError is the refusal of a stale winner's transaction.
type FencedError struct {
	Token  election.Token
	Winner *Candidate // who leads now; nil for nobody
}

func (e *FencedError) Error() string {
	if e.Winner == nil {
		return fmt.Sprintf("refused: this node's election key %s (revision %d) is gone and nobody has won yet",
			e.Token.Key, e.Token.CreateRevision)
	}
	return fmt.Sprintf("%v: node %d at revision %d, this token has revision %d",
		ErrFenced, e.Winner.Node, e.Winner.CreateRevision, e.Token.CreateRevision)
}

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }
