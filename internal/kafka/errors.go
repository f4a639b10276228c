package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// fault is a Kafka error with a message of its own for the client.
type fault struct {
	code *kerr.Error
	msg  string
}

func (f *fault) Error() string { return f.msg }
func (f *fault) Unwrap() error { return f.code }

// Errorf makes an error with a Kafka code and a message that the client gets
// where the protocol has a field for it.
func Errorf(code *kerr.Error, format string, args ...any) error {
	return &fault{code, fmt.Sprintf(format, args...)}
}

// codeOf is the one place where errors become Kafka codes.
func codeOf(err error) int16 {
	var ke *kerr.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ke):
		return ke.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kerr.RequestTimedOut.Code
	default:
		return kerr.UnknownServerError.Code
	}
}

// messageOf is what a client is told beside the code; nil for no error.
func messageOf(err error) *string {
	if err == nil {
		return nil
	}
	msg := err.Error()
	if ke, ok := err.(*kerr.Error); ok { // bare, not wrapped: the code says its name already
		msg = ke.Description
	}
	return &msg
}

// movedLeader says whether a code tells a client that it asked the wrong
// leader: those answers carry the right one (KIP-951).
func movedLeader(code int16) bool {
	return code == kerr.NotLeaderForPartition.Code || code == kerr.FencedLeaderEpoch.Code
}

// unknownTopic says whether a code means that there is no such partition.
func unknownTopic(code int16) bool {
	return code == kerr.UnknownTopicOrPartition.Code || code == kerr.UnknownTopicID.Code
}

// nameOf is a code's name in the Kafka protocol.
func nameOf(code int16) string {
	if ke := kerr.TypedErrorForCode(code); ke != nil {
		return ke.Message
	}
	return "NONE"
}

// partitionFailed counts a partition's error, and logs what is not a Kafka
// error.
func (s *Server) partitionFailed(x *exchange, topic string, err error) {
	s.metrics.errors.WithLabelValues(x.api.name, nameOf(codeOf(err))).Inc()
	s.unexpected(x, topic, err)
}

// unexpected logs an error that the client gets as UNKNOWN_SERVER_ERROR.
func (s *Server) unexpected(x *exchange, topic string, err error) {
	if codeOf(err) == kerr.UnknownServerError.Code && s.noise.allow(x.api.name+" "+topic) {
		s.log.Error("kafka request failed", "api", x.api.name, "topic", topic, "err", err)
	}
}
