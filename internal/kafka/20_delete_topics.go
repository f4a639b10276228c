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
	var infos []TopicInfo
	var at []int // their places in the response
	seen := make(map[[16]byte]bool, len(topics))
	for _, t := range topics {
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		info, err := s.namedTopic(t.Topic, t.TopicID)
		if err == nil && seen[info.ID] {
			err = Errorf(kerr.InvalidRequest, "Duplicate topic name.")
		}
		if err == nil && InternalTopic(info.Name) {
			err = errInternalTopic(info.Name)
		}
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
		if err == nil {
			seen[info.ID] = true
			rt.Topic, rt.TopicID = kmsg.StringPtr(info.Name), info.ID
			infos, at = append(infos, info), append(at, len(resp.Topics))
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(infos) == 0 {
		return resp
	}
	for i, err := range s.backend.DeleteTopics(ctx, infos) {
		s.unexpected(x, infos[i].Name, err)
		rt := &resp.Topics[at[i]]
		rt.ErrorCode, rt.ErrorMessage = codeOf(err), messageOf(err)
	}
	return resp
}

// namedTopic finds a topic by its name, or by its id without one.
func (s *Server) namedTopic(name *string, id [16]byte) (TopicInfo, error) {
	switch {
	case name == nil && id == [16]byte{}:
		return TopicInfo{}, Errorf(kerr.InvalidRequest, "Neither topic name nor id were specified.")
	case name == nil:
		if info, ok := s.backend.TopicByID(id); ok {
			return info, nil
		}
		return TopicInfo{}, kerr.UnknownTopicID
	case id != [16]byte{}:
		return TopicInfo{}, Errorf(kerr.InvalidRequest, "You may not specify both topic name and topic id.")
	default:
		if info, ok := s.backend.Topic(*name); ok {
			return info, nil
		}
		return TopicInfo{}, kerr.UnknownTopicOrPartition
	}
}
