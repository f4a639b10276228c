package wal

import (
	"sync"

	"github.com/hashicorp/raft"
)

// op says what a request does once it is durable.
type op uint8

const (
	opAppend  op = iota // entries of one group
	opRemove            // a release or truncation, applied to memory already; lazy
	opValue             // a stable value or vote
	opDrop              // forget a group
	opForward           // copies of live frames of many groups
	opEnd               // nothing: an empty batch
)

// request is some frames that go into one batch, and what follows from them.
// Callers fill it, the committer owns it from the queue on until it answers.
type request struct {
	group   *Group
	op      op
	pass    bool // an append that may use the reserve
	headers []byte
	parts   []part
	size    int64 // of all frames

	logs   []*raft.Log // opAppend: one per frame
	unpins []unpin     // opRemove: what no longer keeps files
	copies []copied    // opForward: one per frame

	done chan error // capacity 1
}

// part is a frame's payload.
type part struct{ data, ext []byte }

// unpin is how much less of a file is live.
type unpin struct {
	seq   uint64
	bytes int64
	count int
}

// copied says what a copied frame was.
type copied struct {
	group *Group
	kind  Kind
	index uint64 // of an entry
	from  place
}

var requests = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

func newRequest(g *Group, o op) *request {
	r := requests.Get().(*request)
	r.group, r.op = g, o
	return r
}

// recycle gives the request back; nobody may hold it.
func (r *request) recycle() {
	clear(r.parts)
	clear(r.logs)
	clear(r.copies)
	*r = request{
		headers: r.headers[:0], parts: r.parts[:0], logs: r.logs[:0],
		unpins: r.unpins[:0], copies: r.copies[:0], done: r.done,
	}
	requests.Put(r)
}

// lazy requests have no caller who waits.
func (r *request) lazy() bool { return r.op == opRemove }

// add appends a frame. h.group is set from the request when it has one.
func (r *request) add(h frameHeader, data, extensions []byte) {
	if r.group != nil {
		h.group = r.group.id
	}
	h.length = uint32(len(data) + len(extensions))
	h.extensions = uint32(len(extensions))
	h.payload = payloadSum(data, extensions)
	r.headers = h.append(r.headers)
	r.parts = append(r.parts, part{data, extensions})
	r.size += frameHead + int64(h.length)
}

// unpin notes that the frames of slots stop being live when r is durable.
func (r *request) unpin(slots []slot) {
	for _, s := range slots {
		if n := len(r.unpins); n == 0 || r.unpins[n-1].seq != s.seq {
			r.unpins = append(r.unpins, unpin{seq: s.seq})
		}
		u := &r.unpins[len(r.unpins)-1]
		u.bytes += int64(s.size)
		u.count++
	}
}
