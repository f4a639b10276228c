package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch (key 1), versions 2-18
//
//	2-3  advertised, since librdkafka looks for them, and refused with
//	     UNSUPPORTED_VERSION: message formats before magic 2
//	4    record batches; isolation level; 3 brought max_bytes
//	7    sessions (KIP-227): 01_fetch_session.go
//	9    the client's leader epoch is checked (KIP-320)
//	11   rack and preferred read replica (KIP-392): 01_fetch_replica.go
//	12   flexible; divergence by the last fetched epoch (KIP-595)
//	13   topic ids
//	15   the replica id is a tag (KIP-903)
//	16   the current leader with NOT_LEADER_OR_FOLLOWER (KIP-951)
//	18   the follower's high watermark, which consumers don't have
//
// Bytes (KIP-74): partitions are served in the request's order, those of a
// session in an order in which whoever was given records comes last the next
// time. The first that has data gives at least one batch, however large; apart
// from that neither partition_max_bytes, max_bytes nor our own limit is passed.
//
// Waiting: with less than min_bytes over all partitions and no error the request
// is parked until something changes (01_fetch_wait.go), at most for max_wait. As
// in Kafka, an unknown topic does not cut the wait short as long as there are
// partitions to wait for: clients would come back at once. A partition whose election
// is under way is waited for a moment (settle.go), whatever max_wait and min_bytes say.

// fetchOp is a Fetch request under way. One goroutine at a time has it.
type fetchOp struct {
	s        *Server
	x        *exchange
	req      *kmsg.FetchRequest
	parts    []*fetchPart  // in the order of service
	bell     chan struct{} // rung by the parts that are watched
	maxBytes int           // what the client and our limits allow
	minBytes int
	counted  int // bytes of outgoing memory held for data

	held     bool             // the last pass left a partition alone whose election is under way
	hasty    bool             // elections are not waited for any more
	late     bool             // max_wait is over
	election <-chan time.Time // the end of the wait for elections; nil until there is one

	session *fetchSession // that this request goes on with; its parts and bell are the op's meanwhile
	makes   bool          // a session is to be made of the partitions
	racks   map[int32]string

	// Room for the usual request, so that it is allocated once.
	only     fetchPart
	oneTopic [1]fetchTopic
	room     [1]*fetchPart
}

func (s *Server) fetch(ctx context.Context, x *exchange, req *kmsg.FetchRequest) {
	op := &fetchOp{
		s: s, x: x, req: req,
		maxBytes: min(int(max(req.MaxBytes, 0)), s.opts.Limits.MaxFetchBytes),
	}
	op.minBytes = min(int(req.MinBytes), op.maxBytes)
	if x.version >= 7 {
		switch req.SessionEpoch {
		case sessionInitial, sessionFinal:
			s.sessions.remove(req.SessionID) // a full fetch ends the session that it names
			op.makes = req.SessionEpoch == sessionInitial && op.refusal() == nil
		default:
			op.resume(ctx)
			return
		}
	}
	op.lookup()
	op.run(ctx)
}

// run answers the request now, or has it wait.
func (op *fetchOp) run(ctx context.Context) {
	if !op.ready() {
		op.x.conn.wg.Go(func() { op.wait(ctx) })
	}
}

// ready answers, unless the request has to wait.
func (op *fetchOp) ready() bool {
	if op.pass() || !op.held && (!op.waitable() || op.req.MaxWaitMillis <= 0) {
		op.answer()
		return true
	}
	op.release()
	return false
}

// refusal is the error that concerns all partitions, if any.
func (op *fetchOp) refusal() error {
	replica := op.req.ReplicaID
	if op.x.version >= 15 {
		replica = op.req.ReplicaState.ID
	}
	switch {
	case op.x.version < 4:
		return kerr.UnsupportedVersion
	case replica != -1:
		return kerr.InvalidRequest // replicas don't fetch here
	}
	return nil
}

// lookup finds the partitions of a request without a session.
func (op *fetchOp) lookup() {
	if op.makes {
		op.parts = op.distinct()
		return
	}
	n := 0
	for i := range op.req.Topics {
		n += len(op.req.Topics[i].Partitions)
	}
	refused := op.refusal()
	var all []fetchPart
	if op.parts = op.room[:0]; n > 1 {
		all, op.parts = make([]fetchPart, n), make([]*fetchPart, 0, n)
	}
	topics := op.topics()
	for ti := range op.req.Topics {
		t := &op.req.Topics[ti]
		for pi := range t.Partitions {
			p := &op.only
			if n > 1 {
				p = &all[len(op.parts)]
			}
			p.init(&topics[ti], &t.Partitions[pi])
			if p.refused = refused; refused == nil {
				p.resolve(op.s, firstRound)
			}
			op.parts = append(op.parts, p)
		}
	}
}

// distinct is lookup for a session to be: a partition that is named twice
// counts once, as it was named last.
func (op *fetchOp) distinct() (parts []*fetchPart) {
	seen := make(map[partKey]*fetchPart)
	topics := op.topics()
	for ti := range op.req.Topics {
		t := &op.req.Topics[ti]
		for pi := range t.Partitions {
			rp := &t.Partitions[pi]
			key := keyOf(op.x.version, t.Topic, t.TopicID, rp.Partition)
			if p := seen[key]; p != nil {
				p.ask(rp)
				continue
			}
			p := &fetchPart{}
			p.init(&topics[ti], rp)
			p.resolve(op.s, firstRound)
			seen[key] = p
			parts = append(parts, p)
		}
	}
	return parts
}

// firstRound is that in which the topics of a request are looked for.
const firstRound = 1

// topics are those of the request, not looked for yet.
func (op *fetchOp) topics() []fetchTopic {
	topics := op.oneTopic[:]
	if n := len(op.req.Topics); n != 1 || op.makes { // a session outlives the request
		topics = make([]fetchTopic, n)
	}
	for i := range topics {
		topics[i] = newFetchTopic(op.x.version, &op.req.Topics[i])
	}
	return topics
}

// waitable says whether there is a partition to wait for.
func (op *fetchOp) waitable() bool {
	for _, p := range op.parts {
		if p.part != nil {
			return true
		}
	}
	return false
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
	return !op.held && (urgent || total >= op.minBytes || total > 0 && granted < op.maxBytes)
}

// readAll reads at most maxBytes, and beyond that for the sake of the first
// batch if minOne.
func (op *fetchOp) readAll(maxBytes int, minOne bool) (total int, urgent bool) {
	op.held = false
	for _, p := range op.parts {
		if p.refused != nil {
			urgent = urgent || !unknownTopic(codeOf(p.refused))
			continue
		}
		if p.still() {
			continue
		}
		if p.held {
			p.resolve(op.s, p.topic.round)
			if p.part == nil {
				p.held, urgent = false, true
				continue
			}
		}
		if p.held = !op.hasty && p.part.Unsettled(p.epoch); p.held {
			p.leaveAlone()
			op.held = true
			continue
		}
		p.read(op, min(int(max(p.maxBytes, 0)), max(maxBytes-total, 0)), minOne && total == 0)
		if p.data != nil {
			total += p.data.Len()
		}
		urgent = urgent || p.urgent()
	}
	return total, urgent
}

// release gives up what the last pass read.
func (op *fetchOp) release() {
	op.dropData()
	op.s.outgoing.add(-op.counted)
	op.counted = 0
}

func (op *fetchOp) dropData() {
	for _, p := range op.parts {
		if p.data != nil {
			p.data.Release()
			p.data = nil
			p.quiet = false
		}
	}
}

// answer sends the response with what the last pass read, and is done.
func (op *fetchOp) answer() {
	id, parts := int32(0), op.parts
	switch {
	case op.session != nil:
		id, parts = op.session.id, op.session.changed()
	case op.makes:
		op.session = op.s.sessions.add(op)
		if op.session != nil {
			id = op.session.id
		}
	}
	op.send(0, id, parts)
	op.end()
}

// fail answers with an error that concerns the request as a whole.
func (op *fetchOp) fail(err error) { op.send(codeOf(err), 0, nil) }

func (op *fetchOp) send(code int16, session int32, parts []*fetchPart) {
	head := op.x.begin()
	e := encoder{b: *head, flexible: op.x.flexible}
	cuts := op.encode(&e, code, session, parts)
	*head = e.b
	op.x.finish(head, cuts)
}

// end lets go of what was watched, or of the session. No data is held any more.
func (op *fetchOp) end() {
	if op.session != nil {
		op.session.yield(op.s)
		return
	}
	for _, p := range op.parts {
		p.unwatch()
	}
}
