package kafkagateway

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// collect takes in what nodes have answered, as far as it fits.
func (op *fetchOp) collect() {
	for _, p := range op.parts {
		st := p.asked
		if st == nil {
			continue
		}
		switch state, size := st.look(); {
		case state == flying, state == landed && op.total > 0 && op.total+size > int(op.req.MaxBytes):
			// It comes, or the client's next Fetch finds it.
		case state == landed && st.claim():
			op.take(st)
		default: // it waited for too long
			op.forget(st)
		}
	}
}

// forget has the parts of a standing asked for anew.
func (op *fetchOp) forget(st *standing) {
	op.s.standings.remove(st)
	for _, p := range op.parts {
		if p.asked == st {
			p.asked = nil
		}
	}
}

// take distributes the answer of a standing that was claimed to the parts that
// asked for it.
func (op *fetchOp) take(st *standing) {
	op.s.standings.remove(st)
	failed := st.err
	var results map[part]*kmsg.FetchResponseTopicPartition
	if failed == nil && st.resp.ErrorCode != 0 {
		failed = kerr.ErrorForCode(st.resp.ErrorCode)
		st.release()
	}
	if failed == nil {
		results = fetchResults(st.resp)
		op.taken = append(op.taken, st)
	}
	early := time.Until(op.until) > earlyBy && !op.prompt && st.size == 0
	for _, p := range op.parts {
		if p.asked != st {
			continue
		}
		p.asked = nil
		r := results[p.part]
		switch {
		case failed != nil || r == nil:
			op.s.standings.unprefer(p.part)
			op.s.g.view.suspect(p.part, st.node)
			p.err = errNoNode
			op.s.g.metrics.retried.WithLabelValues("Fetch").Inc()
		case r.PreferredReadReplica >= 0 && r.ErrorCode == 0 && len(r.RecordBatches) == 0 && !p.sentOn:
			p.sentOn = true
			op.s.standings.prefer(p.part, r.PreferredReadReplica)
		case op.s.standings.prefers(p.part) && r.ErrorCode != 0:
			op.s.standings.unprefer(p.part) // the leader knows better
		case movedCode(r.ErrorCode):
			op.s.g.view.suspect(p.part, st.node)
			op.s.g.view.hint(p.part, r.CurrentLeader.LeaderID, r.CurrentLeader.LeaderEpoch)
			p.err = kerr.NotLeaderForPartition
			op.s.g.metrics.retried.WithLabelValues("Fetch").Inc()
		default:
			op.s.standings.remember(p.part, r)
			if early && r.ErrorCode == 0 && !diverges(r) {
				continue // it was asked earlier, and its time was over: once more
			}
			p.answer = r
			op.urgent = op.urgent || r.ErrorCode != 0 || diverges(r)
		}
	}
	op.total += st.size
}

func diverges(r *kmsg.FetchResponseTopicPartition) bool {
	return r.DivergingEpoch.Epoch >= 0 || r.DivergingEpoch.EndOffset >= 0
}

func fetchResults(resp *kmsg.FetchResponse) map[part]*kmsg.FetchResponseTopicPartition {
	results := make(map[part]*kmsg.FetchResponseTopicPartition)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			results[part{topicKey{t.Topic, t.TopicID}, t.Partitions[j].Partition}] = &t.Partitions[j]
		}
	}
	return results
}

// ready says whether the answer can leave.
func (op *fetchOp) ready() bool {
	if op.urgent || op.total > 0 && !op.prompt {
		return true
	}
	for _, p := range op.parts {
		switch {
		case p.answer != nil || p.err != nil && !retriableLookup(p.err):
		case p.err != nil: // nobody leads it: others' records do not wait for that
			if op.total == 0 {
				return false
			}
		case p.asked == nil:
			return false
		default: // what has landed and did not fit is for the client's next Fetch
			if state, _ := p.asked.look(); state != landed {
				return false
			}
		}
	}
	return true
}

// answer sends what has come. What has come and is not in it waits for a while.
func (op *fetchOp) answer() {
	for _, p := range op.parts {
		if p.asked != nil {
			p.asked.keep()
		}
	}
	resp := kmsg.NewPtrFetchResponse()
	next := 0
	for i := range op.req.Topics {
		t := &op.req.Topics[i]
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = make([]kmsg.FetchResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			rt.Partitions[j] = op.result(op.parts[next])
			next++
		}
		resp.Topics = append(resp.Topics, rt)
	}
	taken := op.taken
	op.call.ReplyFetch(resp, func() {
		for _, st := range taken {
			st.release()
		}
	})
}

// result is what the client is told of a partition.
func (op *fetchOp) result(p *fetchPart) kmsg.FetchResponseTopicPartition {
	var r kmsg.FetchResponseTopicPartition
	if p.answer != nil {
		r = *p.answer
		if op.req.IsolationLevel == 0 {
			r.AbortedTransactions = nil
		}
	} else {
		r = op.s.standings.recall(p.part)
		if p.asked == nil && p.err != nil {
			r.ErrorCode, r.HighWatermark, r.LastStableOffset, r.LogStartOffset = codeOf(p.err), -1, -1, -1
			if retriableLookup(p.err) {
				r.ErrorCode = kerr.NotLeaderForPartition.Code // look again
			}
		}
		if op.req.IsolationLevel != 0 {
			r.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		}
	}
	r.Partition, r.PreferredReadReplica = p.index, -1
	return r
}

// drop lets go of what has come: the client has gone.
func (op *fetchOp) drop() {
	for _, st := range op.taken {
		st.release()
	}
}
