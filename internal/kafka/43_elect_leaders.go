package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (key 43), versions 0-2 (KIP-183, KIP-460)
//
//	1    preferred or unclean election
//	2    flexible
//
// A preferred leader is the first of a partition's replicas; the winner sees to
// it that the leadership is handed over, without a gap. Null topics are all
// partitions, and those that need no election are left out then. An unclean
// election, which would lose acknowledged records, is refused. Any node takes
// it, and it does not wait in the reader.

const electUnclean = 1

func (s *Server) electLeaders(ctx context.Context, x *exchange, req *kmsg.ElectLeadersRequest) {
	x.conn.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
		defer cancel()
		x.reply(s.elect(ctx, x, req))
	})
}

func (s *Server) elect(ctx context.Context, x *exchange, req *kmsg.ElectLeadersRequest) *kmsg.ElectLeadersResponse {
	resp := kmsg.NewPtrElectLeadersResponse()
	if x.version >= 1 && req.ElectionType != 0 && req.ElectionType != electUnclean {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	}
	var partitions []TopicPartition
	if req.Topics == nil {
		for _, t := range s.backend.Topics() {
			for _, p := range t.Partitions {
				partitions = append(partitions, TopicPartition{t.Name, p.Index})
			}
		}
	}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			partitions = append(partitions, TopicPartition{req.Topics[i].Topic, p})
		}
	}
	errs := s.electEach(ctx, x, partitions, x.version >= 1 && req.ElectionType == electUnclean)
	topics := make(map[string]int)
	for i, tp := range partitions {
		if req.Topics == nil && errors.Is(errs[i], kerr.ElectionNotNeeded) {
			continue
		}
		s.unexpected(x, tp.Topic, errs[i])
		at, known := topics[tp.Topic]
		if !known {
			at = len(resp.Topics)
			topics[tp.Topic] = at
			rt := kmsg.NewElectLeadersResponseTopic()
			rt.Topic = tp.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rp := kmsg.NewElectLeadersResponseTopicPartition()
		rp.Partition, rp.ErrorCode, rp.ErrorMessage = tp.Index, codeOf(errs[i]), messageOf(errs[i])
		resp.Topics[at].Partitions = append(resp.Topics[at].Partitions, rp)
	}
	return resp
}

// electEach elects leaders, and answers each partition.
func (s *Server) electEach(ctx context.Context, x *exchange, partitions []TopicPartition, unclean bool) []error {
	errs := make([]error, len(partitions))
	var wanted []TopicPartition
	var at []int
	live := s.live(x.conn.listener)
	for i, tp := range partitions {
		info, ok := s.backend.Topic(tp.Topic)
		if !ok || tp.Index < 0 || int(tp.Index) >= len(info.Partitions) {
			errs[i] = Errorf(kerr.UnknownTopicOrPartition, "No such topic as %s", tp.Topic)
			if ok {
				errs[i] = Errorf(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", tp.Topic, tp.Index)
			}
			continue
		}
		p := &info.Partitions[tp.Index]
		switch led := live.has(p.Leader); {
		case unclean && led, !unclean && led && len(p.Replicas) > 0 && p.Replicas[0] == p.Leader:
			errs[i] = kerr.ElectionNotNeeded
		case unclean:
			errs[i] = Errorf(kerr.EligibleLeadersNotAvailable,
				"Unclean leader election is not supported: it would lose acknowledged records. Bring replicas back until a majority is there; if they are lost for good see raftsman partition recover.")
		default:
			wanted, at = append(wanted, tp), append(at, i)
		}
	}
	if len(wanted) > 0 {
		for j, err := range s.backend.ElectLeaders(ctx, wanted) {
			errs[at[j]] = err
		}
	}
	return errs
}
