package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (key 37), versions 0-3
//
//	2    flexible
//
// The count is the new total. The cluster places the new replicas: an
// explicit assignment is refused. Any node takes it.

func (s *Server) createPartitions(ctx context.Context, x *exchange, req *kmsg.CreatePartitionsRequest) *kmsg.CreatePartitionsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
	defer cancel()
	resp := kmsg.NewPtrCreatePartitionsResponse()
	seen := make(map[string]bool, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = t.Topic
		err := s.checkCreatePartitions(t)
		if seen[t.Topic] {
			err = Errorf(kerr.InvalidRequest, "topic %q is named more than once", t.Topic)
		}
		seen[t.Topic] = true
		if err == nil {
			err = s.backend.CreatePartitions(ctx, t.Topic, t.Count, req.ValidateOnly)
		}
		s.unexpected(x, t.Topic, err)
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) checkCreatePartitions(t *kmsg.CreatePartitionsRequestTopic) error {
	info, ok := s.backend.Topic(t.Topic)
	switch {
	case !ok:
		return kerr.UnknownTopicOrPartition
	case len(t.Assignment) > 0:
		return Errorf(kerr.InvalidRequest, "an explicit assignment of new partitions is not supported")
	case int(t.Count) <= len(info.Partitions):
		return Errorf(kerr.InvalidPartitions, "topic %q has %d partitions, %d is not more", t.Topic, len(info.Partitions), t.Count)
	}
	return nil
}
