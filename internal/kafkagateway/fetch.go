package kafkagateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// Fetch is split by leader and waits at all of them at once. The answer leaves
// when the first node has something to say; what the others were asked stays
// asked (standings), and counts for the client's next Fetch if that asks them for
// the same, as it does when nothing came from there.
//
//   - Bytes: each node may send its share of max_bytes, and at least one batch. What
//     would go beyond max_bytes waits for the next Fetch.
//   - min_bytes: each node waits for its share, so that nobody waits longer than a
//     single broker would have him; the answer may be smaller than that.
//   - Partitions whose node has not answered have no records in the answer, no
//     error, and the offsets that were told last.
//   - A partition that moved is asked for at its next leader while there is time.
//     A replica that the leader prefers for the client's rack is asked in its stead
//     (KIP-392); clients never see that.
//   - There are no sessions (KIP-227): the answer's session id is 0, and clients
//     then name all partitions every time.

const (
	fetchSlack   = 100 * time.Millisecond // that answers may come late
	earlyBy      = 10 * time.Millisecond  // a node's wait that ended sooner is asked for once more
	promptLimit  = 5 * time.Second        // for the answers to a Fetch that does not wait
	preferredFor = 5 * time.Minute        // a preferred replica counts
	fetchWaitMax = 5 * time.Minute

	fetchMaxBytes = 55 << 20 // of an answer, whatever the client asks for
)

// fetchOp is a Fetch request under way. One goroutine has it.
type fetchOp struct {
	s       *session
	call    *kafka.Call
	req     *kmsg.FetchRequest
	parts   []*fetchPart
	bell    chan struct{} // rung by standings
	until   time.Time     // of waiting
	prompt  bool          // all nodes' answers are waited for, and these come at once
	taken   []*standing   // whose records are in the answer
	total   int
	urgent  bool // there is something that the client must know at once
	refresh time.Time
}

// fetchPart is a partition of a request.
type fetchPart struct {
	part
	topic  *kmsg.FetchRequestTopic
	req    *kmsg.FetchRequestTopicPartition
	asked  *standing // that will tell
	answer *kmsg.FetchResponseTopicPartition
	err    error // why nobody was asked
	sentOn bool  // the leader has named a replica
}

func (s *session) fetch(call *kafka.Call, req *kmsg.FetchRequest) {
	op := &fetchOp{s: s, call: call, req: req, bell: make(chan struct{}, 1)}
	if code := op.refusal(); code != 0 {
		op.fail(code)
		return
	}
	req.MaxBytes = min(max(req.MaxBytes, 0), fetchMaxBytes)
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			op.parts = append(op.parts, &fetchPart{part: part{topicKey{t.Topic, t.TopicID}, p.Partition}, topic: t, req: p})
		}
	}
	s.go_(op.run)
}

// refusal is an error of the whole request, or 0.
func (op *fetchOp) refusal() int16 {
	switch {
	case op.req.Version >= 7 && op.req.SessionID != 0 && op.req.SessionEpoch > 0:
		return kerr.FetchSessionIDNotFound.Code
	case op.req.Version >= 7 && op.req.SessionEpoch > 0:
		return kerr.InvalidFetchSessionEpoch.Code
	}
	return 0
}

func (op *fetchOp) fail(code int16) {
	resp := kmsg.NewPtrFetchResponse()
	if op.req.Version >= 7 {
		resp.ErrorCode = code
	}
	op.call.ReplyFetch(resp, func() {})
}

// run asks, waits and answers. A session's fetches take turns: there is one unless
// a client does not wait for answers.
func (op *fetchOp) run() {
	st := &op.s.standings
	select {
	case <-st.token:
	case <-op.s.ctx.Done():
		return
	}
	defer func() { st.token <- struct{}{} }()
	wait := min(time.Duration(max(op.req.MaxWaitMillis, 0))*time.Millisecond, fetchWaitMax)
	op.prompt = wait == 0 || op.req.MinBytes <= 0
	op.until = time.Now().Add(wait)
	limit := op.until.Add(fetchSlack)
	if op.prompt {
		limit = time.Now().Add(promptLimit)
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		changed := op.s.g.view.changes()
		op.ask()
		op.collect()
		if op.ready() {
			break
		}
		var again <-chan time.Time
		if op.unled() {
			retry.Reset(retryPause)
			again = retry.C
		} else {
			changed = nil
		}
		select {
		case <-op.bell:
			continue
		case <-changed:
			continue
		case <-again:
			continue
		case <-timer.C:
		case <-op.s.client.Stop:
		case <-op.s.ctx.Done():
			op.drop()
			return
		}
		op.collect()
		break
	}
	op.answer()
}

// ask sends what nobody was asked for yet, and finds leaders for what has none. A
// node that is asked for more is asked anew for all that it was asked for: it has one
// fetch of a session at a time.
func (op *fetchOp) ask() {
	var open []*fetchPart
	for _, p := range op.parts {
		if p.answer == nil && p.asked == nil && (p.err == nil || retriableLookup(p.err)) {
			open = append(open, p)
		}
	}
	if len(open) == 0 {
		return
	}
	nodes := op.locate(open)
	at := make(map[*fetchPart]int32, len(open))
	more := make(map[int32]bool) // nodes to ask
	for i, p := range open {
		if p.err == nil {
			at[p], more[nodes[i]] = nodes[i], true
		}
	}
	groups := make(map[int32][]*fetchPart) // in the order of the request
	asked := make(map[int32]bool)
	var order []int32
	for _, p := range op.parts {
		node, ok := at[p]
		if !ok && p.asked != nil {
			node, ok = p.asked.node, true
		}
		if ok {
			asked[node] = true
		}
		if !ok || !more[node] {
			continue
		}
		if groups[node] == nil {
			order = append(order, node)
		}
		groups[node] = append(groups[node], p)
	}
	for _, node := range order {
		st, err := op.s.standings.ask(op, node, groups[node], len(asked))
		for _, p := range groups[node] {
			p.asked, p.err = st, err
		}
	}
}

// locate finds the node for each part, or sets its error.
func (op *fetchOp) locate(open []*fetchPart) []int32 {
	nodes := make([]int32, len(open))
	look := func() (keys []topicKey) {
		seen := make(map[topicKey]bool)
		for i, p := range open {
			if nodes[i], p.err = op.s.standings.preferred(op.req, p.part); p.err != nil {
				nodes[i], p.err = op.s.g.view.leader(p.part)
			}
			if retriableLookup(p.err) && !seen[p.topicKey] {
				seen[p.topicKey] = true
				keys = append(keys, p.topicKey)
			}
		}
		return keys
	}
	if keys := look(); len(keys) > 0 && time.Since(op.refresh) >= retryPause {
		ctx, cancel := context.WithDeadline(op.s.ctx, op.until.Add(fetchSlack))
		if op.prompt {
			cancel()
			ctx, cancel = context.WithTimeout(op.s.ctx, resolveLimit)
		}
		// Those that are led do not wait for the others.
		if len(keys) < len(open) || op.someAsked() {
			view := op.s.g.view
			view.g.background(func(ctx context.Context) { view.refresh(ctx, keys) })
		} else {
			op.s.g.view.refresh(ctx, keys)
			look()
		}
		cancel()
		op.refresh = time.Now()
	}
	return nodes
}

func (op *fetchOp) someAsked() bool {
	for _, p := range op.parts {
		if p.asked != nil || p.answer != nil {
			return true
		}
	}
	return false
}

// retriableLookup says whether a leader may still be found.
func retriableLookup(err error) bool {
	return err != nil && !final(err) && !errors.Is(err, errVersion)
}

// unled says whether a partition waits for a leader.
func (op *fetchOp) unled() bool {
	for _, p := range op.parts {
		if p.answer == nil && p.asked == nil && (p.err == nil || retriableLookup(p.err)) {
			return true
		}
	}
	return false
}

// standings are the fetches of a session that nodes have been asked for and that
// no answer to the client has used yet, one per node. Only the fetch that has the
// token adds and removes.
type standings struct {
	s     *session
	token chan struct{}

	mu       sync.Mutex
	byNode   map[int32]*standing
	replicas map[part]replica                          // that are preferred to leaders
	told     map[part]kmsg.FetchResponseTopicPartition // the last offsets, without records
}

type replica struct {
	node  int32
	until time.Time
}

func (ss *standings) init(s *session) {
	ss.s, ss.byNode = s, make(map[int32]*standing)
	ss.replicas, ss.told = make(map[part]replica), make(map[part]kmsg.FetchResponseTopicPartition)
	ss.token = make(chan struct{}, 1)
	ss.token <- struct{}{}
}

// close lets go of all answers. Links are closed, and no fetch is under way.
func (ss *standings) close() {
	for _, st := range ss.byNode {
		st.abandon()
	}
}
