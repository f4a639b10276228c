package httpgateway

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
)

// refuse makes an error for the client.
func refuse(code connect.Code, format string, args ...any) *connect.Error {
	return connect.NewError(code, fmt.Errorf(format, args...))
}

// explained gives an error its code and says what to do about it.
func explained(err error) *connect.Error {
	var known *connect.Error
	if errors.As(err, &known) {
		return known
	}
	for _, e := range []struct {
		is     error
		code   connect.Code
		remedy string
	}{
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "ask again, with more time"},
		{context.Canceled, connect.CodeCanceled, ""},
		{cluster.ErrOpUnknown, connect.CodeNotFound, "ListOperations shows those there are"},
		{cluster.ErrTopicUnknown, connect.CodeNotFound, "ListTopics shows those there are"},
		{cluster.ErrOpExists, connect.CodeAlreadyExists, ""},
		{cluster.ErrFrozen, connect.CodeUnavailable, "raftsman cluster health says what to do"},
		{cluster.ErrUnavailable, connect.CodeUnavailable, "ask again when etcd answers; raftsman cluster health"},

		{kerr.UnknownTopicOrPartition, connect.CodeNotFound, "TopicService.ListTopics shows the topics there are"},
		{kerr.UnknownTopicID, connect.CodeNotFound, "TopicService.ListTopics shows the topics there are"},
		{kerr.TopicAlreadyExists, connect.CodeAlreadyExists, ""},
		{kerr.GroupIDNotFound, connect.CodeNotFound, "GroupService.ListGroups shows the groups there are"},
		{kerr.OffsetOutOfRange, connect.CodeOutOfRange, "RecordService.ListOffsets says where partitions begin and end"},
		{kerr.InvalidTopicException, connect.CodeInvalidArgument, ""},
		{kerr.InvalidPartitions, connect.CodeInvalidArgument, ""},
		{kerr.InvalidReplicationFactor, connect.CodeInvalidArgument, ""},
		{kerr.InvalidConfig, connect.CodeInvalidArgument, ""},
		{kerr.InvalidRequest, connect.CodeInvalidArgument, ""},
		{kerr.InvalidRecord, connect.CodeInvalidArgument, ""},
		{kerr.InvalidTimestamp, connect.CodeInvalidArgument, ""},
		{kerr.InvalidGroupID, connect.CodeInvalidArgument, ""},
		{kerr.MessageTooLarge, connect.CodeInvalidArgument, "send fewer records at once, or raise the topic's max.message.bytes"},
		{kerr.RecordListTooLarge, connect.CodeInvalidArgument, "send fewer records at once"},
		{kerr.CorruptMessage, connect.CodeInternal, ""},
		{kerr.PolicyViolation, connect.CodeFailedPrecondition, ""},
		{kerr.NonEmptyGroup, connect.CodeFailedPrecondition, "stop the group's members first"},
		{kerr.GroupSubscribedToTopic, connect.CodeFailedPrecondition, "stop the group's members first"},
		{kerr.UnknownMemberID, connect.CodeFailedPrecondition, "the group has members: stop them first"},
		{kerr.RebalanceInProgress, connect.CodeFailedPrecondition, "the group has members: stop them first"},
		{kerr.IllegalGeneration, connect.CodeFailedPrecondition, "the group has members: stop them first"},
		{kerr.TopicAuthorizationFailed, connect.CodePermissionDenied, ""},
		{kerr.OutOfOrderSequenceNumber, connect.CodeFailedPrecondition, "a sequence number was left out; take a new producer id"},
		{kerr.DuplicateSequenceNumber, connect.CodeAlreadyExists, "the records were written before"},
		{kerr.InvalidProducerEpoch, connect.CodeFailedPrecondition, "take a new producer id"},
		{kerr.UnknownServerError, connect.CodeInternal, "the node's log says more"},
	} {
		if errors.Is(err, e.is) {
			if e.remedy != "" {
				err = fmt.Errorf("%w; %s", err, e.remedy)
			}
			return connect.NewError(e.code, err)
		}
	}
	var ke *kerr.Error
	if errors.As(err, &ke) {
		if ke.Retriable {
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("%w; ask again", err))
		}
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return connect.NewError(connect.CodeUnavailable, fmt.Errorf("%w; ask again, or another node", err))
}

// kafkaError is the error of a code, with what the node said about it.
func kafkaError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil || message == nil || *message == "" {
		return err
	}
	return &said{err, *message}
}

// said is a Kafka error in a node's own words.
type said struct {
	code error
	text string
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.code }
