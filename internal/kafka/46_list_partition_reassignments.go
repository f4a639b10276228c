package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments (key 46), version 0 (KIP-455)
//
// Moves that somebody has asked for and that are not done, those that wait for
// their turn too; not what the balancer does by itself. Null topics are all. Any
// node takes it.

func (s *Server) listReassignments(_ context.Context, _ *exchange, req *kmsg.ListPartitionReassignmentsRequest) *kmsg.ListPartitionReassignmentsResponse {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	topics := make(map[string]int)
	for _, m := range s.backend.Reassignments() {
		if req.Topics != nil && !slices.ContainsFunc(req.Topics, func(t kmsg.ListPartitionReassignmentsRequestTopic) bool {
			return t.Topic == m.Topic && slices.Contains(t.Partitions, m.Index)
		}) {
			continue
		}
		at, known := topics[m.Topic]
		if !known {
			at = len(resp.Topics)
			topics[m.Topic] = at
			rt := kmsg.NewListPartitionReassignmentsResponseTopic()
			rt.Topic = m.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rp := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		rp.Partition, rp.Replicas, rp.AddingReplicas, rp.RemovingReplicas = m.Index, m.Replicas, m.Adding, m.Removing
		resp.Topics[at].Partitions = append(resp.Topics[at].Partitions, rp)
	}
	return resp
}
