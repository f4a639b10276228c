package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch (key 1), versions 2-18
//
//	2-3  advertised, since librdkafka looks for them, and refused with
//	     UNSUPPORTED_VERSION: message formats before magic 2
//	4    record batches; isolation level; 3 brought max_bytes
//	7    sessions (KIP-227): none is ever made, see below
//	9    the client's leader epoch is checked (KIP-320)
//	11   rack; there is no preferred read replica
//	12   flexible; divergence by the last fetched epoch (KIP-595)
//	13   topic ids
//	15   the replica id is a tag (KIP-903)
//	16   the current leader with NOT_LEADER_OR_FOLLOWER (KIP-951)
//	18   the follower's high watermark, which consumers don't have
//
// Sessions: a full fetch (epoch 0 or -1) is answered with session id 0, so
// the client goes on with full fetches. An incremental one presents a session
// that we never made: FETCH_SESSION_ID_NOT_FOUND.
//
// Bytes (KIP-74): partitions are served in the request's order. The first that
// has data gives at least one batch, however large; apart from that neither
// partition_max_bytes, max_bytes nor our own limit is passed.
//
// Waiting: with less than min_bytes and no error the request is parked until
// a high watermark moves or a leader changes (01_fetch_wait.go), at most for
// max_wait. As in Kafka, an unknown topic does not cut the wait short as long
// as there are partitions to wait for: clients would come back at once.

// fetchOp is a Fetch request under way. One goroutine at a time has it.
type fetchOp struct {
	s        *Server
	x        *exchange
	req      *kmsg.FetchRequest
	parts    []fetchPart // in the request's order
	maxBytes int         // what the client and our limits allow
	minBytes int
	counted  int // bytes of outgoing memory held for data
}

// fetchPart is one partition and what the last pass over it found.
type fetchPart struct {
	topic   string
	req     *kmsg.FetchRequestTopicPartition
	part    Partition
	refused error // why there is nothing to read: no part

	err       error
	offsets   Offsets
	data      Data // nil or not empty
	divergent bool // the client's log leaves ours at the end of an epoch
	epoch     int32
	epochEnd  int64
}

func (s *Server) fetch(ctx context.Context, x *exchange, req *kmsg.FetchRequest) {
	op := &fetchOp{
		s: s, x: x, req: req,
		maxBytes: min(int(max(req.MaxBytes, 0)), s.opts.Limits.MaxFetchBytes),
	}
	op.minBytes = min(int(req.MinBytes), op.maxBytes)
	if x.version >= 7 && req.SessionEpoch > 0 {
		op.req.Topics = nil
		op.answer(kerr.FetchSessionIDNotFound.Code)
		return
	}
	waitable := op.lookup()
	if op.pass() || !waitable || req.MaxWaitMillis <= 0 {
		op.answer(0)
		return
	}
	op.release()
	x.conn.wg.Go(func() { op.wait(ctx) })
}

// lookup finds the partitions. It returns false when there is none to wait for.
func (op *fetchOp) lookup() (waitable bool) {
	n := 0
	for i := range op.req.Topics {
		n += len(op.req.Topics[i].Partitions)
	}
	op.parts = make([]fetchPart, 0, n)
	var refused error
	replica := op.req.ReplicaID
	if op.x.version >= 15 {
		replica = op.req.ReplicaState.ID
	}
	switch {
	case op.x.version < 4:
		refused = kerr.UnsupportedVersion
	case replica != -1:
		refused = kerr.InvalidRequest // replicas don't fetch here
	}
	for ti := range op.req.Topics {
		t := &op.req.Topics[ti]
		name, err := t.Topic, refused
		if op.x.version >= 13 && err == nil {
			info, ok := op.s.backend.TopicByID(t.TopicID)
			if name = info.Name; !ok {
				err = kerr.UnknownTopicID
			}
		}
		for pi := range t.Partitions {
			p := fetchPart{topic: name, req: &t.Partitions[pi], refused: err}
			if err == nil {
				p.part, p.refused = op.s.partition(name, p.req.Partition)
			}
			waitable = waitable || p.part != nil
			op.parts = append(op.parts, p)
		}
	}
	return waitable
}

// pass reads every partition. It returns true when the request need not wait:
// there is enough, or something that the client must know at once.
// It reads no more than the node's memory for responses grants, nothing if need
// be: the client comes back.
func (op *fetchOp) pass() bool {
	o := op.s.outgoing
	granted, roomy := o.grant(op.maxBytes)
	total, urgent := op.readAll(granted, roomy || granted == op.maxBytes)
	if !o.settle(granted, total) {
		op.dropData()
		o.add(-granted)
		total = 0
	}
	op.counted = total
	return urgent || total >= op.minBytes || total > 0 && granted < op.maxBytes
}

// readAll reads at most maxBytes, and beyond that for the sake of the first
// batch if minOne.
func (op *fetchOp) readAll(maxBytes int, minOne bool) (total int, urgent bool) {
	for i := range op.parts {
		p := &op.parts[i]
		if p.refused != nil {
			urgent = urgent || !unknownTopic(codeOf(p.refused))
			continue
		}
		p.read(min(int(max(p.req.PartitionMaxBytes, 0)), max(maxBytes-total, 0)), minOne && total == 0)
		if p.data != nil {
			total += p.data.Len()
		}
		urgent = urgent || p.err != nil || p.divergent
	}
	return total, urgent
}

// read looks at one partition.
func (p *fetchPart) read(maxBytes int, minOne bool) {
	p.err, p.data, p.divergent = nil, nil, false
	if p.req.CurrentLeaderEpoch >= 0 || p.req.LastFetchedEpoch >= 0 {
		if p.offsets, p.err = leading(p.part, p.req.CurrentLeaderEpoch); p.err != nil {
			return
		}
	}
	if p.req.LastFetchedEpoch >= 0 {
		if p.diverges(); p.err != nil || p.divergent {
			return
		}
	}
	p.data, p.offsets, p.err = p.part.Read(p.req.FetchOffset, maxBytes, minOne)
	if p.data != nil && (p.err != nil || p.data.Len() == 0) {
		p.data.Release()
		p.data = nil
	}
}

// diverges compares what the client read last with our epochs.
func (p *fetchPart) diverges() {
	e, end, err := p.part.EpochEnd(p.req.LastFetchedEpoch)
	switch {
	case err != nil:
		p.err = err
	case e < 0:
		p.err = kerr.OffsetOutOfRange // that far back we know nothing
	case e < p.req.LastFetchedEpoch || end < p.req.FetchOffset:
		p.divergent, p.epoch, p.epochEnd = true, e, end
	}
}

// release gives up what the last pass read.
func (op *fetchOp) release() {
	op.dropData()
	op.s.outgoing.add(-op.counted)
	op.counted = 0
}

func (op *fetchOp) dropData() {
	for i := range op.parts {
		if p := &op.parts[i]; p.data != nil {
			p.data.Release()
			p.data = nil
		}
	}
}

// answer sends the response with what the last pass read.
func (op *fetchOp) answer(code int16) {
	head := op.x.begin()
	e := encoder{b: *head, flexible: op.x.flexible}
	cuts := op.encode(&e, code)
	*head = e.b
	op.x.finish(head, cuts)
}

// encode writes the response's body without the records, and says where they
// belong.
func (op *fetchOp) encode(e *encoder, code int16) (cuts []cut) {
	v, i := op.x.version, 0
	hints := hints{s: op.s, listener: op.x.conn.listener}
	e.i32(0) // throttle
	if v >= 7 {
		e.i16(code)
		e.i32(0) // no session
	}
	e.count(len(op.req.Topics))
	for ti := range op.req.Topics {
		t := &op.req.Topics[ti]
		if v >= 13 {
			e.uuid(t.TopicID)
		} else {
			e.str(t.Topic)
		}
		e.count(len(t.Partitions))
		for range t.Partitions {
			p := &op.parts[i]
			op.encodePartition(e, p)
			if p.data != nil {
				cuts = append(cuts, cut{len(e.b), p.data})
			}
			op.encodeTags(e, &hints, p)
			i++
		}
		e.noTags()
	}
	e.endTags(hints.nodes)
	return cuts
}

// failure is the partition's error, if any.
func (p *fetchPart) failure() error {
	if p.refused != nil {
		return p.refused
	}
	return p.err
}

// encodePartition writes a partition up to its records.
func (op *fetchOp) encodePartition(e *encoder, p *fetchPart) {
	v, o, err := op.x.version, p.offsets, p.failure()
	if err != nil {
		op.s.partitionFailed(op.x, p.topic, err)
		o = Offsets{Start: -1, HighWatermark: -1, LastStable: -1}
	}
	e.i32(p.req.Partition)
	e.i16(codeOf(err))
	e.i64(o.HighWatermark)
	if v >= 4 {
		e.i64(o.LastStable)
	}
	if v >= 5 {
		e.i64(o.Start)
	}
	if v >= 4 {
		aborted := -1 // null
		if op.req.IsolationLevel == 1 {
			aborted = 0
		}
		e.count(aborted)
	}
	if v >= 11 {
		e.i32(-1) // preferred read replica
	}
	size := 0
	if p.data != nil {
		size = p.data.Len()
	}
	e.count(size) // bytes are encoded as arrays are
}

// encodeTags ends a partition.
func (op *fetchOp) encodeTags(e *encoder, hints *hints, p *fetchPart) {
	hint := noHint
	if op.x.version >= 16 && movedLeader(codeOf(p.failure())) {
		hint = hints.leader(p.topic, p.req.Partition)
	}
	switch {
	case p.divergent:
		e.tags(1)
		e.b = append(e.b, 0, 13) // tag, size
		e.i32(p.epoch)
		e.i64(p.epochEnd)
		e.noTags()
	case hint != noHint:
		e.tags(1)
		e.currentLeader(1, hint)
	default:
		e.noTags()
	}
}
