package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics (key 20), versions 0-6
//
//	4    flexible
//	5    error messages
//	6    topics by name or id
//
// Any node takes it.

func (s *Server) deleteTopics(ctx context.Context, x *exchange, req *kmsg.DeleteTopicsRequest) *kmsg.DeleteTopicsResponse {
	ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
	defer cancel()
	topics := req.Topics
	for _, name := range req.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		topics = append(topics, t)
	}
	resp := kmsg.NewPtrDeleteTopicsResponse()
	for _, t := range topics {
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		info, err := s.namedTopic(t.Topic, t.TopicID)
		if err == nil {
			rt.Topic, rt.TopicID = kmsg.StringPtr(info.Name), info.ID
			err = s.backend.DeleteTopic(ctx, info.Name)
		}
		s.unexpected(x, info.Name, err)
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// namedTopic finds a topic by its name, or by its id without one.
func (s *Server) namedTopic(name *string, id [16]byte) (TopicInfo, error) {
	switch {
	case name == nil:
		if info, ok := s.backend.TopicByID(id); ok {
			return info, nil
		}
		return TopicInfo{}, kerr.UnknownTopicID
	case id != [16]byte{}:
		return TopicInfo{}, Errorf(kerr.InvalidRequest, "topic %q has both a name and an id", *name)
	default:
		if info, ok := s.backend.Topic(*name); ok {
			return info, nil
		}
		return TopicInfo{}, kerr.UnknownTopicOrPartition
	}
}
