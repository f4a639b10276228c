package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch (key 23), versions 2-4
//
//	2    what librdkafka asks
//	3    replica id: -1 for consumers, ignored
//	4    flexible
//
// The highest epoch that is not above the one asked for, and where it ends;
// -1 and -1 when there is none.

func (s *Server) offsetForLeaderEpoch(ctx context.Context, x *exchange, req *kmsg.OffsetForLeaderEpochRequest) {
	var all []asked
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			all = append(all, asked{req.Topics[i].Topic, p.Partition, p.CurrentLeaderEpoch})
		}
	}
	s.onceSettled(ctx, x, all, func() { x.reply(s.epochEnds(x, req)) })
}

func (s *Server) epochEnds(x *exchange, req *kmsg.OffsetForLeaderEpochRequest) *kmsg.OffsetForLeaderEpochResponse {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			e, end, err := s.epochEnd(t.Topic, p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch)
			if err == nil {
				rp.LeaderEpoch, rp.EndOffset = e, end
			}
			s.unexpected(x, t.Topic, err)
			rp.ErrorCode = codeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) epochEnd(topic string, index, current, epoch int32) (e int32, end int64, err error) {
	part, err := s.partition(topic, index)
	if err != nil {
		return -1, -1, err
	}
	if _, err := leading(part, current); err != nil {
		return -1, -1, err
	}
	return part.EpochEnd(epoch)
}
