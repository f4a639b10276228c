package kafka

import (
	"context"
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A server may have a Forwarder instead of a Backend: requests are read, checked
// and answered in order as always, with the same bounds, but what they say comes
// from elsewhere.

// Forwarder answers requests with the help of others.
type Forwarder interface {
	// Range is what of an API may be advertised; false is nothing.
	Range(key, least, most int16) (int16, int16, bool)
	// Open is called for each connection, before its first request.
	Open(c ForwardClient) ForwardSession
}

// ForwardClient is who has connected.
type ForwardClient struct {
	Listener   string
	Advertised string // what its clients are told; HOST:PORT
	Remote     string
	// Stop is closed when the connection takes no more requests: those that are
	// parked are to be answered.
	Stop <-chan struct{}
	// Abort ends the connection without an answer to what is pending.
	Abort func(error)
}

// ForwardSession takes the requests of one connection.
type ForwardSession interface {
	// Start begins a request, in the connection's reader: in the order of
	// arrival. It sees to it that the call is answered once, or the connection
	// aborted.
	Start(ctx context.Context, call *Call)
	// Close ends what is under way, and waits for that.
	Close()
}

// Call is a request that is to be answered.
type Call struct {
	Request kmsg.Request // its bytes are the caller's until it is answered, and longer
	x       *exchange
}

func (s *Server) forward(ctx context.Context, x *exchange, req kmsg.Request) {
	x.conn.session.Start(ctx, &Call{Request: req, x: x})
}

// ClientID is that of the request's header.
func (c *Call) ClientID() string { return c.x.clientID }

// Reply answers.
func (c *Call) Reply(resp kmsg.Response) { c.x.reply(resp) }

// ReplyBody answers with a body that is encoded in the request's version. It is
// copied.
func (c *Call) ReplyBody(body []byte) {
	head := c.x.begin()
	*head = append(*head, body...)
	c.x.finish(head, nil)
}

// Silence ends a call that has no answer (acks=0).
func (c *Call) Silence() { c.x.silence() }

// pieces are record batches that go out as they are.
type pieces struct {
	bytes   [1][]byte
	release func()
}

func (p *pieces) Bytes() [][]byte { return p.bytes[:] }
func (p *pieces) Len() int        { return len(p.bytes[0]) }
func (p *pieces) Release() {
	if p.release != nil {
		p.release()
	}
}

// ReplyFetch answers a Fetch without copying its records, which belong to it
// until release. Tags are left out, but for a divergence.
func (c *Call) ReplyFetch(resp *kmsg.FetchResponse, release func()) {
	v := c.x.version
	head := c.x.begin()
	e := encoder{b: *head, flexible: c.x.flexible}
	var cuts []cut
	held := 0
	e.i32(0) // throttle
	if v >= 7 {
		e.i16(resp.ErrorCode)
		e.i32(resp.SessionID)
	}
	e.count(len(resp.Topics))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if v >= 13 {
			e.uuid(t.TopicID)
		} else {
			e.str(t.Topic)
		}
		e.count(len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			e.fetched(v, p)
			if n := len(p.RecordBatches); n > 0 {
				cuts = append(cuts, cut{len(e.b), &pieces{bytes: [1][]byte{p.RecordBatches}}})
				held += n
			}
			if p.DivergingEpoch.Epoch >= 0 || p.DivergingEpoch.EndOffset >= 0 {
				e.tags(1)
				if e.flexible {
					e.b = append(e.b, 0, 13) // tag, size
					e.i32(p.DivergingEpoch.Epoch)
					e.i64(p.DivergingEpoch.EndOffset)
					e.noTags()
				}
			} else {
				e.noTags()
			}
		}
		e.noTags()
	}
	e.noTags()
	*head = e.b
	if len(cuts) > 0 {
		cuts[len(cuts)-1].data.(*pieces).release = release
	} else {
		release()
	}
	c.x.conn.srv.outgoing.add(held)
	c.x.finish(head, cuts)
}

// fetched writes a partition up to its records.
func (e *encoder) fetched(v int16, p *kmsg.FetchResponseTopicPartition) {
	e.i32(p.Partition)
	e.i16(p.ErrorCode)
	e.i64(p.HighWatermark)
	if v >= 4 {
		e.i64(p.LastStableOffset)
	}
	if v >= 5 {
		e.i64(p.LogStartOffset)
	}
	if v >= 4 {
		n := len(p.AbortedTransactions)
		if p.AbortedTransactions == nil {
			n = -1
		}
		e.count(n)
		for i := range p.AbortedTransactions {
			e.i64(p.AbortedTransactions[i].ProducerID)
			e.i64(p.AbortedTransactions[i].FirstOffset)
			e.noTags()
		}
	}
	if v >= 11 {
		e.i32(p.PreferredReadReplica)
	}
	e.count(len(p.RecordBatches)) // bytes are encoded as arrays are
}

// ProduceFrame encodes a Produce request without copying its record batches: the
// pieces are one frame, whose correlation id, at CorrelationAt of the first, is 0.
func ProduceFrame(req *kmsg.ProduceRequest, clientID string) [][]byte {
	v := req.Version
	e := encoder{flexible: req.IsFlexible()}
	batches, size := 0, 64+len(clientID)
	for i := range req.Topics {
		batches += len(req.Topics[i].Partitions)
		size += 32 + len(req.Topics[i].Topic)
	}
	e.b = make([]byte, 4, size+16*batches)
	e.i16(req.Key())
	e.i16(v)
	e.i32(0)
	e.b = kbin.AppendNullableString(e.b, &clientID) // in all versions of the header
	e.noTags()
	if v >= 3 {
		e.nullableStr(req.TransactionID)
	}
	e.i16(req.Acks)
	e.i32(req.TimeoutMillis)
	e.count(len(req.Topics))
	type mark struct {
		at   int
		data []byte
	}
	marks := make([]mark, 0, batches)
	total := 0
	for i := range req.Topics {
		t := &req.Topics[i]
		if v >= 13 {
			e.uuid(t.TopicID)
		} else {
			e.str(t.Topic)
		}
		e.count(len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			e.i32(p.Partition)
			n := len(p.Records)
			if p.Records == nil {
				n = -1
			}
			e.count(n)
			if n > 0 {
				marks = append(marks, mark{len(e.b), p.Records})
				total += n
			}
			e.noTags()
		}
		e.noTags()
	}
	e.noTags()
	binary.BigEndian.PutUint32(e.b, uint32(len(e.b)+total-4))
	frame := make([][]byte, 0, 2*len(marks)+1)
	from := 0
	for _, m := range marks {
		frame = append(frame, e.b[from:m.at], m.data)
		from = m.at
	}
	return append(frame, e.b[from:])
}

// CorrelationAt is where a request frame has its correlation id, its length
// included.
const CorrelationAt = 8
