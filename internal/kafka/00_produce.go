package kafka

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce (key 0), versions 0-13
//
//	0-2  advertised, since librdkafka looks for them, and refused with
//	     UNSUPPORTED_VERSION: message formats before magic 2
//	3    record batches; transactional id
//	5    log start offset in the response
//	7    zstd
//	8    error message in the response
//	9    flexible
//	10   the current leader with NOT_LEADER_OR_FOLLOWER (KIP-951)
//	12   may add partitions to a transaction (KIP-890): there are none here
//	13   topic ids
//
// Each partition carries one batch, which is handed to Partition.Append; the
// response leaves when all are committed or refused, or after the client's
// timeout with REQUEST_TIMED_OUT for the rest, which may be committed later.
// acks 1 and -1 are the same. With acks 0 there is no response, and an error
// closes the connection.

// Offsets of fields in a record batch, magic 2.
const (
	batchLengthAt     = 8 // counts what follows it
	batchLengthEnd    = 12
	batchMagicAt      = 16
	batchAttributesAt = 21
	batchHeader       = 61

	codecMask     = 0x07
	codecZstd     = 4
	transactional = 0x10
	control       = 0x20
)

var (
	errOldProduce    = Errorf(kerr.UnsupportedVersion, "produce below version 3 is not supported: message formats before magic 2")
	errTransactional = Errorf(kerr.TransactionalIDAuthorizationFailed, "transactions are not supported")
	errNoBatch       = Errorf(kerr.InvalidRecord, "a partition must have one record batch, this one has none")
	errBatches       = Errorf(kerr.InvalidRecord, "a partition must have exactly one record batch, this one has more")
	errBaseOffset    = Errorf(kerr.InvalidRecord, "the base offset of a record batch must be 0: the broker gives offsets")
	errControl       = Errorf(kerr.InvalidRecord, "clients must not write control records")
	errTxnBatch      = Errorf(kerr.InvalidTxnState, "transactional batch outside of a transaction")
	errZstd          = Errorf(kerr.UnsupportedCompressionType, "zstd needs produce version 7")
	errTruncBatch    = Errorf(kerr.CorruptMessage, "record batch is truncated")
)

// produceOp is a Produce request under way.
type produceOp struct {
	s   *Server
	x   *exchange
	req *kmsg.ProduceRequest

	mu    sync.Mutex
	parts []producePart // in the request's order; not written once over
	left  int
	over  bool
	timer *time.Timer
}

type producePart struct {
	topic string
	done  bool
	res   AppendResult
}

func (s *Server) produce(_ context.Context, x *exchange, req *kmsg.ProduceRequest) {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	op := &produceOp{s: s, x: x, req: req, parts: make([]producePart, n), left: n + 1}
	refused := op.refusal()
	x.produce.Store(op)
	i := 0
	for ti := range req.Topics {
		t := &req.Topics[ti]
		info, err := s.produceTopic(x.version, t)
		if refused != nil {
			err = refused
		}
		for pi := range t.Partitions {
			op.mu.Lock()
			op.parts[i].topic = info.Name
			op.mu.Unlock()
			op.start(i, &info, err, &t.Partitions[pi])
			i++
		}
	}
	op.arm()
	op.settle(-1, AppendResult{}) // the one in left that kept the answer back
}

// refusal is the error that concerns the whole request, if any.
func (op *produceOp) refusal() error {
	switch {
	case op.x.version < 3:
		return errOldProduce
	case op.req.TransactionID != nil:
		return errTransactional
	case op.req.Acks < -1 || op.req.Acks > 1:
		return kerr.InvalidRequiredAcks
	}
	return nil
}

func (s *Server) produceTopic(version int16, t *kmsg.ProduceRequestTopic) (TopicInfo, error) {
	if version >= 13 {
		info, ok := s.backend.TopicByID(t.TopicID)
		if !ok {
			return TopicInfo{}, kerr.UnknownTopicID
		}
		return writable(info)
	}
	info, ok := s.backend.Topic(t.Topic)
	if !ok {
		return TopicInfo{Name: t.Topic}, kerr.UnknownTopicOrPartition
	}
	return writable(info)
}

// writable refuses topics that clients can only read.
func writable(info TopicInfo) (TopicInfo, error) {
	if InternalTopic(info.Name) {
		return info, errInternalTopic(info.Name)
	}
	return info, nil
}

// start hands one partition's batch over, or settles it with an error.
func (op *produceOp) start(i int, info *TopicInfo, err error, p *kmsg.ProduceRequestTopicPartition) {
	var part Partition
	if err == nil {
		part, err = op.s.partition(info.Name, p.Partition)
	}
	if err == nil {
		limit := info.MaxMessageBytes
		if limit <= 0 {
			limit = op.s.opts.Limits.MaxMessageBytes
		}
		err = checkBatch(p.Records, op.x.version, limit)
	}
	if err != nil {
		op.settle(i, AppendResult{Err: err})
		return
	}
	// The batch aliases the request until it is committed or refused, also when
	// the client no longer waits.
	l := op.x.lease
	l.hold()
	part.Append(p.Records, func(res AppendResult) {
		op.settle(i, res)
		l.drop()
	})
}

// checkBatch sees to what the protocol asks of a partition's records; what is
// in the batch is the partition's to check.
func checkBatch(b []byte, version int16, limit int) error {
	if len(b) == 0 {
		return errNoBatch
	}
	if len(b) <= batchMagicAt {
		return errTruncBatch
	}
	if magic := b[batchMagicAt]; magic < 2 {
		return Errorf(kerr.UnsupportedForMessageFormat, "magic %d is not supported, only 2", magic)
	} else if magic > 2 {
		return Errorf(kerr.InvalidRecord, "magic %d is not known", magic)
	}
	if len(b) < batchHeader {
		return errTruncBatch
	}
	length := int64(int32(uint32(b[batchLengthAt])<<24|uint32(b[batchLengthAt+1])<<16|uint32(b[batchLengthAt+2])<<8|uint32(b[batchLengthAt+3]))) + batchLengthEnd
	switch attributes := b[batchAttributesAt+1]; {
	case length < batchHeader || length > int64(len(b)):
		return errTruncBatch
	case binary.BigEndian.Uint64(b) != 0:
		return errBaseOffset
	case length < int64(len(b)):
		return errBatches
	case len(b) > limit:
		return Errorf(kerr.MessageTooLarge, "record batch of %d bytes, max.message.bytes is %d", len(b), limit)
	case attributes&codecMask == codecZstd && version < 7:
		return errZstd
	case attributes&control != 0:
		return errControl
	case attributes&transactional != 0:
		return errTxnBatch
	}
	return nil
}

// settle records the outcome of partition i and answers when it was the last.
func (op *produceOp) settle(i int, res AppendResult) {
	op.mu.Lock()
	if op.over || i >= 0 && op.parts[i].done { // once: it may have been diverted before
		op.mu.Unlock()
		return
	}
	if i >= 0 {
		op.parts[i].done, op.parts[i].res = true, res
	}
	op.left--
	last := op.left == 0
	if last {
		op.over = true
		if op.timer != nil {
			op.timer.Stop()
		}
	}
	op.mu.Unlock()
	if last {
		op.finish()
	}
}

// arm starts the request's timeout, unless there is nothing to wait for.
func (op *produceOp) arm() {
	timeout := millis(op.req.TimeoutMillis)
	if timeout == 0 {
		timeout = op.s.opts.Limits.ProduceTimeout
	}
	op.mu.Lock()
	if op.left > 1 {
		op.timer = time.AfterFunc(timeout, op.expire)
	}
	op.mu.Unlock()
}

func (op *produceOp) expire() {
	op.mu.Lock()
	if op.over {
		op.mu.Unlock()
		return
	}
	op.over = true
	for i := range op.parts {
		if p := &op.parts[i]; !p.done {
			p.res = AppendResult{Err: kerr.RequestTimedOut}
		}
	}
	op.mu.Unlock()
	op.finish()
}

// finish answers. op.over is set, so nobody writes to parts any more.
func (op *produceOp) finish() {
	for i := range op.parts {
		if err := op.parts[i].res.Err; err != nil {
			op.s.partitionFailed(op.x, op.parts[i].topic, err)
			if op.req.Acks == 0 {
				op.x.conn.abort(Errorf(kerr.NetworkException, "produce with acks=0 failed: %v", err))
				break
			}
		}
	}
	if op.req.Acks == 0 {
		op.x.silence()
		return
	}
	head := op.x.begin()
	e := encoder{b: *head, flexible: op.x.flexible}
	op.encode(&e)
	*head = e.b
	op.x.finish(head, nil)
}

// encode writes the response's body.
func (op *produceOp) encode(e *encoder) {
	v, i := op.x.version, 0
	hints := hints{s: op.s, listener: op.x.conn.listener}
	e.count(len(op.req.Topics))
	for ti := range op.req.Topics {
		t := &op.req.Topics[ti]
		if v >= 13 {
			e.uuid(t.TopicID)
		} else {
			e.str(t.Topic)
		}
		e.count(len(t.Partitions))
		for pi := range t.Partitions {
			op.encodePartition(e, &hints, t.Partitions[pi].Partition, &op.parts[i])
			i++
		}
		e.noTags()
	}
	if v >= 1 {
		e.i32(0) // throttle
	}
	e.endTags(hints.nodes)
}

func (op *produceOp) encodePartition(e *encoder, hints *hints, index int32, p *producePart) {
	v, res := op.x.version, p.res
	code := codeOf(res.Err)
	if res.Err != nil {
		res.BaseOffset, res.AppendTime, res.LogStart = -1, -1, -1
	}
	e.i32(index)
	e.i16(code)
	e.i64(res.BaseOffset)
	if v >= 2 {
		e.i64(res.AppendTime)
	}
	if v >= 5 {
		e.i64(res.LogStart)
	}
	if v >= 8 {
		e.count(len(res.Records))
		for i := range res.Records {
			e.i32(res.Records[i].Index)
			e.nullableStr(&res.Records[i].Message)
			e.noTags()
		}
		e.nullableStr(messageOf(res.Err))
	}
	if v >= 10 && movedLeader(code) {
		if hint := hints.leader(p.topic, index); hint != noHint {
			e.tags(1)
			e.currentLeader(0, hint)
			return
		}
	}
	e.noTags()
}
