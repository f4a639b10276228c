package httpgateway

import (
	"context"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

const (
	defaultFetch = 100
	defaultWait  = 500 * time.Millisecond
	maxWait      = 20 * time.Second
	maxFetched   = 4 << 20 // bytes in the records of one answer, about
)

// Fetch implements the service: a reading that ends with what there is, or with the
// time to wait for it.
func (h records) Fetch(ctx context.Context, req *connect.Request[v1.FetchRequest]) (*connect.Response[v1.FetchResponse], error) {
	msg := req.Msg
	most, wait := int64(defaultFetch), defaultWait
	if msg.MaxRecords != 0 {
		most = int64(msg.MaxRecords)
	}
	if msg.MaxWait != nil {
		wait = msg.MaxWait.AsDuration()
	}
	if most < 1 || most > maxRecords || wait < 0 || wait > maxWait {
		return nil, refuse(connect.CodeInvalidArgument, "max_records must be 1 to %d, and max_wait 0s to %s", maxRecords, maxWait)
	}
	if msg.Position.GetGroup().GetAutoCommit() {
		return nil, refuse(connect.CodeInvalidArgument, "auto_commit is for Consume: commit the answer's next with GroupService.CommitOffsets")
	}
	r := &reading{g: h.g, topic: msg.Topic, hops: hops(req.Header()), text: msg.Text, most: most, seen: make(map[int32]bool)}
	var err error
	if r.next, err = h.g.resolve(ctx, msg.Topic, msg.Partitions, msg.Position); err != nil {
		return nil, err
	}
	resp := connect.NewResponse(&v1.FetchResponse{Ends: make(map[int32]int64, len(r.next))})
	var by []int32
	size, waited := 0, false
	r.emit = func(c *v1.ConsumeResponse) error {
		by = append(by, c.Node)
		resp.Msg.Records = append(resp.Msg.Records, c.Records...)
		resp.Msg.Ends[c.Partition] = c.End
		size += sizeOf(c.Records)
		return nil
	}
	r.enough = func() bool {
		switch {
		case size >= maxFetched:
			return true
		case len(resp.Msg.Ends) < len(r.next):
			return false // not all partitions were looked at
		case waited:
			return true
		case len(resp.Msg.Records) == 0:
			return false
		}
		for p, end := range resp.Msg.Ends {
			if r.next[p] < end {
				return false
			}
		}
		return true
	}
	// When it has waited, what comes next is enough, and what is there if each
	// partition was looked at.
	rctx, cancel := context.WithTimeout(ctx, wait+firstReply)
	defer cancel()
	defer time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		waited = true
		if r.over == nil && len(resp.Msg.Ends) == len(r.next) {
			r.over = errEnough
			cancel()
		}
	}).Stop()
	if err := r.run(rctx); err != nil {
		if over := r.why(); over == nil && rctx.Err() != nil && ctx.Err() == nil {
			return nil, refuse(connect.CodeUnavailable, "topic %s: no replica in sync has answered in time for some partition; ask again", msg.Topic)
		} else if over == nil {
			return nil, err
		}
	}
	resp.Msg.Next = r.all()
	resp.Header().Set(HeaderAnswered, nodeList(by))
	return resp, nil
}

func sizeOf(records []*v1.Consumed) (n int) {
	for _, r := range records {
		n += 32 + len(r.Key) + len(r.Value) + len(r.GetKeyText()) + len(r.GetValueText())
		for _, h := range r.Headers {
			n += len(h.Key) + len(h.Value)
		}
	}
	return n
}
