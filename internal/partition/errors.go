package partition

import (
	"errors"
	"fmt"
)

// Errors of Append and Read. internal/kafka gives each its code.
var (
	// ErrNotLeader: this replica does not lead, or not yet; ask for the leader again.
	ErrNotLeader = errors.New("this replica does not lead the partition")
	// ErrNotTaken is ErrNotLeader for a batch that was not even queued.
	ErrNotTaken = fmt.Errorf("%w: nothing was taken", ErrNotLeader)
	// ErrOtherTerm is ErrNotLeader for a batch that was meant for another term: it
	// is not stored, and never will be.
	ErrOtherTerm = fmt.Errorf("%w in the term that the batch was meant for", ErrNotLeader)
	// ErrOutOfRange: the offset is below the log start or above the high watermark.
	ErrOutOfRange = errors.New("offset is out of range")
	// ErrNotAvailable: the offset is above what this follower knows to be committed.
	ErrNotAvailable = errors.New("the offset is not known to be committed here yet")
	// ErrOutOfOrderSequence: a batch of an idempotent producer leaves a hole.
	ErrOutOfOrderSequence = errors.New("sequence number is out of order")
	// ErrDuplicateSequence: a batch was stored before, too long ago to know its offset.
	ErrDuplicateSequence = errors.New("sequence number was seen before")
	// ErrProducerEpoch: the producer's epoch is older than one that wrote already.
	ErrProducerEpoch = errors.New("producer epoch is stale")
	// ErrTooLarge: the batch exceeds max.message.bytes.
	ErrTooLarge = errors.New("batch is larger than max.message.bytes")
	// ErrInvalidRecord: the batch is well formed but not acceptable.
	ErrInvalidRecord = errors.New("record batch is invalid")
	// ErrStorage: the replica can't write its data.
	ErrStorage = errors.New("the replica's storage failed")
	// ErrClosed: the replica is closed.
	ErrClosed = errors.New("the replica is closed")
)
