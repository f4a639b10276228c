package kafka

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (key 21), versions 0-2 (KIP-107)
//
//	2    flexible
//
// The partition's leader raises its log start; -1 is the high watermark. An
// offset below the log start changes nothing. The answer comes when that is
// committed, so that it survives the leader, with the log start as the low
// watermark. It does not wait in the reader.

// maxDeletes bounds how many partitions of one request are being changed at a
// time.
const maxDeletes = 64

func (s *Server) deleteRecords(ctx context.Context, x *exchange, req *kmsg.DeleteRecordsRequest) {
	x.conn.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
		defer cancel()
		resp := kmsg.NewPtrDeleteRecordsResponse()
		slots := make(chan struct{}, maxDeletes)
		var wg sync.WaitGroup
		for i := range req.Topics {
			t := &req.Topics[i]
			rt := kmsg.NewDeleteRecordsResponseTopic()
			rt.Topic = t.Topic
			rt.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(t.Partitions))
			for j := range t.Partitions {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					rt.Partitions[j] = s.deletePartition(ctx, x, t.Topic, &t.Partitions[j])
				})
			}
			resp.Topics = append(resp.Topics, rt)
		}
		wg.Wait()
		x.reply(resp)
	})
}

func (s *Server) deletePartition(ctx context.Context, x *exchange, topic string, p *kmsg.DeleteRecordsRequestTopicPartition) kmsg.DeleteRecordsResponseTopicPartition {
	rp := kmsg.NewDeleteRecordsResponseTopicPartition()
	rp.Partition, rp.LowWatermark = p.Partition, -1
	part, err := s.partition(topic, p.Partition)
	if err == nil && p.Offset < -1 {
		err = kerr.OffsetOutOfRange
	}
	if err == nil && InternalTopic(topic) {
		err = errInternalTopic(topic)
	}
	if err == nil {
		s.settle(ctx, x.conn.stop, []electing{{part, -1}})
		part, err = s.partition(topic, p.Partition)
	}
	if err == nil {
		rp.LowWatermark, err = part.DeleteRecords(ctx, p.Offset)
	}
	if err != nil {
		rp.LowWatermark = -1
		s.partitionFailed(x, topic, err)
	}
	rp.ErrorCode = codeOf(err)
	return rp
}
