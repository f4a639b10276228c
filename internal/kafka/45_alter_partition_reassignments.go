package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (key 45), versions 0-1 (KIP-455)
//
//	0    flexible
//	1    the client may forbid another number of replicas (KIP-860)
//
// Each partition becomes a move of the winner's (docs/operations/rebalancing.md).
// The answer comes when it is under way or waits for its turn. Another target
// for a partition that is moving takes the place of the first; null stops it,
// as far as that is possible. Any node takes it, and it does not wait in the
// reader.

func (s *Server) alterReassignments(ctx context.Context, x *exchange, req *kmsg.AlterPartitionAssignmentsRequest) {
	x.conn.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, s.adminTimeout(req.TimeoutMillis))
		defer cancel()
		x.reply(s.reassign(ctx, x, req))
	})
}

func (s *Server) reassign(ctx context.Context, x *exchange, req *kmsg.AlterPartitionAssignmentsRequest) *kmsg.AlterPartitionAssignmentsResponse {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = x.version < 1 || req.AllowReplicationFactorChange
	var moves []Reassignment
	var at []*kmsg.AlterPartitionAssignmentsResponseTopicPartition
	seen := make(map[TopicPartition]bool)
	resp.Topics = make([]kmsg.AlterPartitionAssignmentsResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t, rt := &req.Topics[i], &resp.Topics[i]
		rt.Default()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.AlterPartitionAssignmentsResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			p, rp := &t.Partitions[j], &rt.Partitions[j]
			rp.Default()
			rp.Partition = p.Partition
			tp := TopicPartition{t.Topic, p.Partition}
			err := s.checkReassignment(tp, p.Replicas, resp.AllowReplicationFactorChange)
			if seen[tp] {
				err = Errorf(kerr.InvalidRequest, "%s-%d is named more than once", tp.Topic, tp.Index)
			}
			seen[tp] = true
			if err == nil {
				moves, at = append(moves, Reassignment{tp, p.Replicas}), append(at, rp)
			}
			rp.ErrorCode, rp.ErrorMessage = codeOf(err), messageOf(err)
		}
	}
	if len(moves) == 0 {
		return resp
	}
	for i, err := range s.backend.Reassign(ctx, moves) {
		s.unexpected(x, moves[i].Topic, err)
		at[i].ErrorCode, at[i].ErrorMessage = codeOf(err), messageOf(err)
	}
	return resp
}

func (s *Server) checkReassignment(tp TopicPartition, replicas []int32, resize bool) error {
	info, ok := s.backend.Topic(tp.Topic)
	if !ok || tp.Index < 0 || int(tp.Index) >= len(info.Partitions) {
		return kerr.UnknownTopicOrPartition
	}
	if replicas == nil {
		return nil
	}
	if err := checkReplicas(replicas); err != nil {
		return err
	}
	p := &info.Partitions[tp.Index]
	if have := len(p.Replicas) - p.Leaving; !resize && have > 0 && have != len(replicas) {
		return Errorf(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", have, len(replicas))
	}
	return nil
}
