package kafka

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// exchange is one request and its response.
type exchange struct {
	conn        *conn
	api         *api
	version     int16
	flexible    bool
	correlation int32
	size        int    // of the request's frame
	clientID    string // for APIs of groups only
	started     time.Time
	lease       *lease                    // of the request's bytes; nil: not counted
	produce     atomic.Pointer[produceOp] // nil for other requests

	// out is set before queue.complete and read after queue.take.
	out   response
	ready bool // under queue.mu
}

// response is an encoded frame: pieces of head, a pooled buffer, with slices
// of the log between them. The zero response is no response at all.
type response struct {
	head    *[]byte
	cuts    []cut // ordered by at
	size    int
	counted int // bytes of it in the server's outgoing memory
}

// cut is data that goes out before head[at].
type cut struct {
	at   int
	data Data
}

// appendTo appends the frame's pieces, in order.
func (r *response) appendTo(bufs [][]byte) [][]byte {
	if r.head == nil {
		return bufs
	}
	head, from := *r.head, 0
	for _, c := range r.cuts {
		bufs = append(bufs, head[from:c.at])
		bufs = append(bufs, c.data.Bytes()...)
		from = c.at
	}
	if from < len(head) {
		bufs = append(bufs, head[from:])
	}
	return bufs
}

// release gives up the response's memory.
func (r *response) release() {
	for _, c := range r.cuts {
		c.data.Release()
	}
	if r.head != nil {
		buffers.put(r.head)
	}
	*r = response{size: r.size}
}

// giveBack releases the response and uncounts it.
func (x *exchange) giveBack(o *outgoing) {
	n := x.out.counted
	x.out.release()
	o.add(-n)
}

// begin starts a response frame: room for its length, then its header.
func (x *exchange) begin() *[]byte {
	p := buffers.get(512)
	b := append((*p)[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(x.correlation))
	if x.flexible && x.api.key != apiVersionsKey {
		b = append(b, 0) // no tags
	}
	*p = b
	return p
}

// finish sends a frame that begin started, with the data at its cuts.
func (x *exchange) finish(head *[]byte, cuts []cut) {
	size := len(*head)
	for _, c := range cuts {
		size += c.data.Len()
	}
	binary.BigEndian.PutUint32(*head, uint32(size-4))
	// Data was counted before it was read.
	o := x.conn.srv.outgoing
	o.add(len(*head))
	x.out = response{head: head, cuts: cuts, size: size, counted: size}
	x.conn.queue.complete(x)
}

// reply answers with a kmsg response. It is called once, on any goroutine.
func (x *exchange) reply(resp kmsg.Response) {
	resp.SetVersion(x.version)
	head := x.begin()
	*head = resp.AppendTo(*head)
	x.finish(head, nil)
}

// silence ends an exchange that has no response (acks=0).
func (x *exchange) silence() { x.conn.queue.complete(x) }

// buffers is the pool of request and response buffers.
var buffers bufferPool

// maxPooled keeps the odd huge buffer out of the pool.
const maxPooled = 1 << 20

type bufferPool struct{ pool sync.Pool }

// get returns an empty buffer with room for size bytes.
func (bp *bufferPool) get(size int) *[]byte {
	p, _ := bp.pool.Get().(*[]byte)
	if p == nil {
		p = new([]byte)
	}
	if cap(*p) < size {
		*p = make([]byte, 0, size)
	}
	*p = (*p)[:0]
	return p
}

func (bp *bufferPool) put(p *[]byte) {
	if cap(*p) <= maxPooled {
		bp.pool.Put(p)
	}
}

// settles says that this is a response by which a client knows that it talks to
// a Kafka server that lets it in: any but that to ApiVersions.
func (x *exchange) settles() bool { return x.out.head != nil && x.api.key != apiVersionsKey }
