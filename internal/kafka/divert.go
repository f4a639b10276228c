package kafka

import "github.com/twmb/franz-go/pkg/kerr"

// Divert answers NOT_LEADER_OR_FOLLOWER, with the leader, for what clients have
// sent to partitions that are led elsewhere by now and that this node, whose disk
// hangs, can't tell the outcome of: it may still take effect. An idempotent
// producer sends it to the leader, which knows what it has.
func (s *Server) Divert(elsewhere func(topic string, partition int32) bool) {
	for _, c := range s.open() {
		for _, op := range c.queue.producing() {
			op.divert(elsewhere)
		}
	}
}

// producing are the Produce requests that are not answered.
func (q *queue) producing() (ops []*produceOp) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, x := range q.items {
		if op := x.produce.Load(); op != nil && !x.ready {
			ops = append(ops, op)
		}
	}
	return ops
}

// divert settles the partitions that are led elsewhere.
func (op *produceOp) divert(elsewhere func(topic string, partition int32) bool) {
	i := 0
	for ti := range op.req.Topics {
		for pi := range op.req.Topics[ti].Partitions {
			op.mu.Lock()
			topic, done := op.parts[i].topic, op.over || op.parts[i].done
			op.mu.Unlock()
			if !done && topic != "" && elsewhere(topic, op.req.Topics[ti].Partitions[pi].Partition) {
				op.settle(i, AppendResult{Err: kerr.NotLeaderForPartition})
			}
			i++
		}
	}
}
