package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets (key 2), versions 0-11
//
//	0    a list of offsets; we give one
//	1    one offset and its timestamp
//	2    isolation level
//	4    the client's leader epoch is checked, the offset's is told
//	6    flexible
//	7    -3, the record with the highest timestamp
//	8    -4, the start of the local log: the log start, there is no other log
//	9    -5, the end of the tiered log: there is none, so -1
//	11   -6, the first offset that waits for tiering: none either
//
// Timestamps are exact: the first record, not batch, that is as late. A time
// after the last record gives offset -1 and no error. Only consumers
// (replica id -1) are answered.

const (
	timeLatest       = -1
	timeEarliest     = -2
	timeMax          = -3
	timeLocalStart   = -4
	timeTieredEnd    = -5
	timeTieredUpload = -6
)

func (s *Server) listOffsets(ctx context.Context, x *exchange, req *kmsg.ListOffsetsRequest) {
	var all []asked
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			all = append(all, asked{req.Topics[i].Topic, p.Partition, p.CurrentLeaderEpoch})
		}
	}
	s.onceSettled(ctx, x, all, func() { x.reply(s.offsetsAsked(x, req)) })
}

func (s *Server) offsetsAsked(x *exchange, req *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	resp := kmsg.NewPtrListOffsetsResponse()
	seen := make(map[topicPartition]bool)
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for j := range t.Partitions {
			p := &t.Partitions[j]
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset, rp.Timestamp = p.Partition, -1, -1
			tp := topicPartition{t.Topic, p.Partition}
			var err error
			if req.ReplicaID != -1 || seen[tp] {
				err = kerr.InvalidRequest
			} else {
				err = s.listOffset(x.version, req.IsolationLevel, t.Topic, p, &rp)
			}
			seen[tp] = true
			rp.ErrorCode = codeOf(err)
			s.unexpected(x, t.Topic, err)
			if x.version == 0 && err == nil && rp.Offset >= 0 && p.MaxNumOffsets > 0 {
				rp.OldStyleOffsets = []int64{rp.Offset}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

type topicPartition struct {
	topic string
	index int32
}

// listOffset fills in the answer for one partition.
func (s *Server) listOffset(version int16, isolation int8, topic string, p *kmsg.ListOffsetsRequestTopicPartition, rp *kmsg.ListOffsetsResponseTopicPartition) error {
	part, err := s.partition(topic, p.Partition)
	if err != nil {
		return err
	}
	o, err := leading(part, p.CurrentLeaderEpoch)
	if err != nil {
		return err
	}
	var ok bool
	switch ts := p.Timestamp; {
	case ts >= 0:
		rp.Offset, rp.Timestamp, rp.LeaderEpoch, ok, err = part.OffsetForTimestamp(ts)
	case ts == timeLatest:
		rp.Offset, rp.LeaderEpoch, ok = o.HighWatermark, o.Epoch, true
		if isolation == 1 {
			rp.Offset = o.LastStable
		}
	case ts == timeEarliest, ts == timeLocalStart && version >= 8:
		rp.Offset, rp.LeaderEpoch, ok = o.Start, part.EpochAt(o.Start), true
	case ts == timeMax && version >= 7:
		rp.Offset, rp.Timestamp, rp.LeaderEpoch, ok, err = part.MaxTimestamp()
	case ts == timeTieredEnd && version >= 9, ts == timeTieredUpload && version >= 11:
	default:
		err = kerr.UnsupportedVersion
	}
	if !ok || err != nil {
		rp.Offset, rp.Timestamp, rp.LeaderEpoch = -1, -1, -1
	}
	return err
}
