package kafkagateway

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// codeOf is the one place where errors become Kafka codes.
func codeOf(err error) int16 {
	var ke *kerr.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ke):
		return ke.Code
	case errors.Is(err, errUnasked):
		return kerr.LeaderNotAvailable.Code
	default:
		return kerr.NotLeaderForPartition.Code // a node that was lost
	}
}

// final says that a partition is not looked for any more: there is none of that
// name.
func final(err error) bool {
	var ke *kerr.Error
	return errors.As(err, &ke) && (!ke.Retriable || unknownCode(ke.Code))
}

// movedCode says whether a node means that it does not lead, or does not know yet
// that it does.
func movedCode(code int16) bool {
	return code == kerr.NotLeaderForPartition.Code || code == kerr.LeaderNotAvailable.Code || unknownCode(code)
}

// unknownCode says whether a node does not know a partition.
func unknownCode(code int16) bool {
	return code == kerr.UnknownTopicOrPartition.Code || code == kerr.UnknownTopicID.Code
}
