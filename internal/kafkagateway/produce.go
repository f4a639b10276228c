package kafkagateway

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// Produce is split by leader, and each piece goes on with the record batches as
// they came. The batches of one partition have a lane (lanes): they reach its
// leader in the order in which the client sent them, also when the leader changes
// meanwhile.
//
//   - A batch is sent at once if those before it in its lane are on the same
//     connection. Else it waits until they are answered.
//   - A batch that found no leader there goes to the next leader if it has a
//     producer id: whoever has it already says so. So do those behind it that were
//     refused because of the gap, after it. The others' error is the client's: it
//     may be that such a batch was written.
//   - The same holds for a connection that is lost with a batch on it. A batch
//     without a producer id is REQUEST_TIMED_OUT then: nobody knows what became of
//     it.
//   - Whatever can't be sent waits for a leader, for three quarters of the time
//     that the client gives.

const (
	retryPause    = 20 * time.Millisecond
	resolveLimit  = 3 * time.Second  // for topics that nobody has asked for
	produceLimit  = 30 * time.Second // when the client gives none
	answerSlack   = 5 * time.Second  // that a node's answer may take beyond the client's time
	producerIDAt  = 43
	batchMagicAt  = 16
	batchOverhead = 61
)

type batchState uint8

const (
	waiting batchState = iota // for its turn or a leader
	sent
	bounced // sent, and to be sent again
)

// batch is a partition's part of a Produce request.
type batch struct {
	op         *produceOp
	lane       *lane
	result     *kmsg.ProduceResponseTopicPartition // in the answer
	records    []byte
	idempotent bool
	state      batchState
	link       *link // that it was sent on
	doubt      bool  // an attempt may have written it
}

// produceOp is a Produce request, under lanes.mu.
type produceOp struct {
	call  *kafka.Call
	req   *kmsg.ProduceRequest
	resp  *kmsg.ProduceResponse
	until time.Time // of trying again
	limit time.Time // of a node's answer
	order uint64    // of arrival
	left  int
}

func (s *session) produce(ctx context.Context, call *kafka.Call, req *kmsg.ProduceRequest) {
	timeout := time.Duration(max(req.TimeoutMillis, 0)) * time.Millisecond
	if timeout == 0 {
		timeout = produceLimit
	}
	now := time.Now()
	op := &produceOp{call: call, req: req, until: now.Add(timeout * 3 / 4), limit: now.Add(timeout + answerSlack)}
	parts, batches := op.layOut()
	if req.Version < 3 {
		for i := range batches {
			batches[i].result.ErrorCode = kerr.UnsupportedVersion.Code
		}
		op.answer()
		return
	}
	rctx, cancel := context.WithTimeout(ctx, min(resolveLimit, timeout))
	s.resolve(rctx, parts)
	cancel()

	ls := &s.lanes
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return
	}
	ls.order++
	op.order, op.left = ls.order, len(batches)
	if op.left == 0 {
		op.answer()
		return
	}
	touched := make([]*lane, 0, len(parts))
	for i := range batches {
		b := &batches[i]
		l := ls.byPart[parts[i]]
		if l == nil {
			l = &lane{part: parts[i]}
			ls.byPart[parts[i]] = l
		}
		b.lane = l
		l.queue = append(l.queue, b)
		touched = append(touched, l)
	}
	ls.pumpLocked(touched)
}

// layOut prepares the answer, with a place for each batch.
func (op *produceOp) layOut() (parts []part, batches []batch) {
	n := 0
	for i := range op.req.Topics {
		n += len(op.req.Topics[i].Partitions)
	}
	parts, batches = make([]part, n), make([]batch, n)
	op.resp = kmsg.NewPtrProduceResponse()
	op.resp.Topics = make([]kmsg.ProduceResponseTopic, len(op.req.Topics))
	n = 0
	for i := range op.req.Topics {
		t, rt := &op.req.Topics[i], &op.resp.Topics[i]
		rt.Default()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			p, rp := &t.Partitions[j], &rt.Partitions[j]
			rp.Default()
			rp.Partition, rp.BaseOffset, rp.LogAppendTime, rp.LogStartOffset = p.Partition, -1, -1, -1
			parts[n] = part{topicKey{t.Topic, t.TopicID}, p.Partition}
			batches[n] = batch{op: op, result: rp, records: p.Records, idempotent: idempotent(p.Records)}
			n++
		}
	}
	return parts, batches
}

// idempotent says whether a batch has a producer id: written twice it counts once.
func idempotent(b []byte) bool {
	return len(b) >= batchOverhead && b[batchMagicAt] == 2 && int64(binary.BigEndian.Uint64(b[producerIDAt:])) >= 0
}

// answer answers the client.
func (op *produceOp) answer() {
	if op.req.Acks != 0 {
		op.call.Reply(op.resp)
		return
	}
	op.call.Silence()
}

// landed takes in a node's answer, or that there is none.
func (ls *lanes) landed(on *link, req *kmsg.ProduceRequest, batches []*batch, body []byte, release func(), reached bool, err error) {
	var resp *kmsg.ProduceResponse
	if err == nil && req.Acks != 0 {
		resp = kmsg.NewPtrProduceResponse()
		resp.Version = req.Version
		err = kafka.DecodeAnswer(resp, body)
		release()
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return
	}
	touched := make([]*lane, 0, len(batches))
	if resp != nil && err == nil {
		results := resultsOf(resp)
		for _, b := range batches {
			touched = append(touched, b.lane)
			p := results[b.lane.part]
			if len(p) == 0 {
				ls.settleLocked(b, kerr.UnknownServerError.Code) // the node has left it out
				continue
			}
			results[b.lane.part] = p[1:]
			ls.answeredLocked(b, on.node, p[0])
		}
	} else {
		for _, b := range batches {
			touched = append(touched, b.lane)
			if err != nil {
				ls.s.g.view.suspect(b.lane.part, on.node)
			}
			ls.lostLocked(b, reached, err)
		}
	}
	ls.pumpLocked(touched)
}

// resultsOf finds results by partition; one that was named twice has two.
func resultsOf(resp *kmsg.ProduceResponse) map[part][]*kmsg.ProduceResponseTopicPartition {
	results := make(map[part][]*kmsg.ProduceResponseTopicPartition)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			at := part{topicKey{t.Topic, t.TopicID}, t.Partitions[j].Partition}
			results[at] = append(results[at], &t.Partitions[j])
		}
	}
	return results
}

// answeredLocked does what a node's word on a batch asks for.
func (ls *lanes) answeredLocked(b *batch, node int32, p *kmsg.ProduceResponseTopicPartition) {
	elsewhere := movedCode(p.ErrorCode)
	if elsewhere {
		ls.s.g.view.suspect(b.lane.part, node)
		ls.s.g.view.hint(b.lane.part, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch)
	}
	// A node refuses a topic that it does not know yet before it looks at records.
	again := elsewhere && (b.idempotent || unknownCode(p.ErrorCode)) ||
		p.ErrorCode == kerr.OutOfOrderSequenceNumber.Code && b.idempotent && b.behindBounced()
	if again && time.Now().Before(b.op.until) {
		ls.s.g.metrics.retried.WithLabelValues("Produce").Inc()
		b.state, b.link = bounced, nil
		return
	}
	b.result.BaseOffset, b.result.LogAppendTime, b.result.LogStartOffset = p.BaseOffset, p.LogAppendTime, p.LogStartOffset
	b.result.ErrorRecords, b.result.ErrorMessage = p.ErrorRecords, p.ErrorMessage
	ls.settleLocked(b, p.ErrorCode)
}

// lostLocked is for a batch whose connection has ended, or that has no answer.
func (ls *lanes) lostLocked(b *batch, reached bool, err error) {
	switch {
	case err == nil: // acks=0
		ls.settleLocked(b, 0)
		return
	case !reached:
		b.state, b.link = waiting, nil
	case b.idempotent:
		b.state, b.link, b.doubt = bounced, nil, true
		ls.s.g.metrics.retried.WithLabelValues("Produce").Inc()
	default:
		ls.settleLocked(b, kerr.RequestTimedOut.Code)
		return
	}
	if !time.Now().Before(b.op.until) {
		ls.settleLocked(b, b.giveUp(kerr.NotLeaderForPartition.Code))
	}
}

// giveUp is the code for a batch that is not tried again.
func (b *batch) giveUp(code int16) int16 {
	if b.doubt {
		return kerr.RequestTimedOut.Code
	}
	return code
}
