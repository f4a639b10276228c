package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers (key 61), version 0 (KIP-664)
//
// The idempotent producers that a partition remembers, asked of its leader.
// There are no transactions: the coordinator's epoch and the start of a
// transaction are -1.

func (s *Server) describeProducers(ctx context.Context, x *exchange, req *kmsg.DescribeProducersRequest) {
	var all []asked
	for i := range req.Topics {
		for _, index := range req.Topics[i].Partitions {
			all = append(all, asked{req.Topics[i].Topic, index, -1})
		}
	}
	s.onceSettled(ctx, x, all, func() { x.reply(s.producersAsked(x, req)) })
}

func (s *Server) producersAsked(x *exchange, req *kmsg.DescribeProducersRequest) *kmsg.DescribeProducersResponse {
	resp := kmsg.NewPtrDescribeProducersResponse()
	seen := make(once[topicPartition])
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		for _, index := range t.Partitions {
			if !seen.first(topicPartition{t.Topic, index}) {
				continue
			}
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = index
			part, err := s.partition(t.Topic, index)
			var producers []ProducerInfo
			if err == nil {
				producers, err = part.Producers()
			}
			for _, p := range producers {
				ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				ap.ProducerID, ap.ProducerEpoch, ap.LastSequence, ap.LastTimestamp = p.ID, int32(p.Epoch), p.LastSequence, p.LastTime
				ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = -1, -1
				rp.ActiveProducers = append(rp.ActiveProducers, ap)
			}
			if err != nil {
				s.partitionFailed(x, t.Topic, err)
			}
			rp.ErrorCode, rp.ErrorMessage = codeOf(err), messageOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
