package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete (key 47), version 0
//
// Offsets of topics that members are subscribed to stay: GROUP_SUBSCRIBED_TO_TOPIC.

func (s *Server) offsetDelete(_ context.Context, x *exchange, req *kmsg.OffsetDeleteRequest) {
	known := *req
	known.Topics = nil
	codes := make(map[topicPartition]int16)
	for _, t := range req.Topics {
		info, _ := s.backend.Topic(t.Topic)
		good := t
		good.Partitions = nil
		for _, p := range t.Partitions {
			if !partitionExists(&info, p.Partition) {
				codes[topicPartition{t.Topic, p.Partition}] = kerr.UnknownTopicOrPartition.Code
				continue
			}
			good.Partitions = append(good.Partitions, p)
		}
		if len(good.Partitions) > 0 {
			known.Topics = append(known.Topics, good)
		}
	}
	s.coordinateWith(x, req.Group, &known, func(r kmsg.Response, err error) {
		resp := kmsg.NewPtrOffsetDeleteResponse()
		if err != nil {
			resp.ErrorCode = codeOf(err)
			x.reply(resp)
			return
		}
		got := r.(*kmsg.OffsetDeleteResponse)
		if resp.ErrorCode = got.ErrorCode; got.ErrorCode != 0 {
			x.reply(resp)
			return
		}
		for _, t := range got.Topics {
			for _, p := range t.Partitions {
				codes[topicPartition{t.Topic, p.Partition}] = p.ErrorCode
			}
		}
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetDeleteResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetDeleteResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, codes[topicPartition{t.Topic, p.Partition}]
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		x.reply(resp)
	})
}
