package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit (key 8), versions 1-10
//
//	1    generation and member; a timestamp that does not count, as in Kafka
//	2    retention time instead, until 4; it does not count either
//	6    leader epochs
//	7    static members
//	8    flexible
//	9    members of KIP-848 groups: STALE_MEMBER_EPOCH, GROUP_ID_NOT_FOUND
//	10   topic ids
//
// Partitions that do not exist are refused one by one; the coordinator stores the
// others all or none. Answered when they are committed.

func (s *Server) offsetCommit(_ context.Context, x *exchange, req *kmsg.OffsetCommitRequest) {
	byID := x.version >= 10
	refused := make(map[topicIDPartition]int16)
	known := *req
	known.Topics = nil
	for i := range req.Topics {
		t := &req.Topics[i]
		info, err := s.groupTopic(byID, t.Topic, t.TopicID)
		if byID {
			t.Topic = info.Name
		}
		good := *t
		good.Partitions = nil
		for _, p := range t.Partitions {
			switch {
			case err != nil:
				refused[idPartition(t.Topic, t.TopicID, p.Partition)] = codeOf(err)
			case !partitionExists(&info, p.Partition):
				refused[idPartition(t.Topic, t.TopicID, p.Partition)] = kerr.UnknownTopicOrPartition.Code
			default:
				good.Partitions = append(good.Partitions, p)
			}
		}
		if len(good.Partitions) > 0 {
			known.Topics = append(known.Topics, good)
		}
	}
	if len(known.Topics) == 0 {
		x.reply(commitResponse(req, func(at topicIDPartition) int16 { return refused[at] }))
		return
	}
	s.coordinateWith(x, req.Group, &known, func(resp kmsg.Response, err error) {
		if err != nil {
			code := codeOf(err)
			x.reply(commitResponse(req, func(at topicIDPartition) int16 {
				if c, bad := refused[at]; bad {
					return c
				}
				return code
			}))
			return
		}
		for _, t := range resp.(*kmsg.OffsetCommitResponse).Topics {
			for _, p := range t.Partitions {
				refused[idPartition(t.Topic, t.TopicID, p.Partition)] = p.ErrorCode
			}
		}
		x.reply(commitResponse(req, func(at topicIDPartition) int16 { return refused[at] }))
	})
}

// topicIDPartition is a partition as a request names it.
type topicIDPartition struct {
	topic string
	id    [16]byte
	index int32
}

func idPartition(topic string, id [16]byte, index int32) topicIDPartition {
	return topicIDPartition{topic, id, index}
}

// commitResponse answers for each partition of a request, in its order.
func commitResponse(req *kmsg.OffsetCommitRequest, code func(topicIDPartition) int16) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code(idPartition(t.Topic, t.TopicID, p.Partition))
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
