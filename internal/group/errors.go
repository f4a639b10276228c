package group

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// code is the error's code; 0 for nil, which means success.
func code(e *kerr.Error) int16 {
	if e == nil {
		return 0
	}
	return e.Code
}

// refusal is what clients are told when a Write was refused. What they may
// retry stays retriable, and tells them to look for the coordinator again where
// that is what has changed.
func refusal(err error) *kerr.Error {
	var ke *kerr.Error
	if !errors.As(err, &ke) {
		return kerr.CoordinatorNotAvailable
	}
	switch ke {
	case kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.FencedLeaderEpoch:
		return kerr.NotCoordinator
	case kerr.UnknownTopicOrPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend,
		kerr.RequestTimedOut, kerr.LeaderNotAvailable:
		return kerr.CoordinatorNotAvailable
	}
	return ke
}

// tooLarge says whether a Write was refused for its size.
func tooLarge(e *kerr.Error) bool {
	return e == kerr.MessageTooLarge || e == kerr.RecordListTooLarge || e == kerr.InvalidFetchSize
}

// metadataRefusal is refusal for group metadata: nothing that clients do makes
// it smaller.
func metadataRefusal(err error) *kerr.Error {
	e := refusal(err)
	if tooLarge(e) {
		return kerr.UnknownServerError
	}
	return e
}

// commitRefusal is refusal for offsets.
func commitRefusal(err error) *kerr.Error {
	e := refusal(err)
	if tooLarge(e) {
		return kerr.InvalidCommitOffsetSize
	}
	return e
}
