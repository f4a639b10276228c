package kafkagateway

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// keepAnswer is how long an answer waits for the client to ask for it.
const keepAnswer = 5 * time.Second

// standing is a fetch at one node: under way, or answered and not used yet.
type standing struct {
	node  int32
	class class
	link  *link
	key   string // what was asked

	// Set when it lands.
	err  error
	resp *kmsg.FetchResponse
	size int // of its records

	mu    sync.Mutex
	state standingState
	gone  bool          // nobody wants the answer
	free  func()        // gives the answer's memory back
	bell  chan struct{} // of the fetch that waits
	timer *time.Timer
}

type standingState uint8

const (
	flying  standingState = iota
	landed                // the node has answered, or the connection is lost
	claimed               // the answer is a fetch's
)

// ask has a node asked for partitions, unless it was and has not said anything
// that the client has heard. share is the number of nodes that the fetch asks.
func (ss *standings) ask(op *fetchOp, node int32, parts []*fetchPart, share int) (*standing, error) {
	if !ss.s.takes(node, op.req) {
		return nil, errVersion
	}
	key := fetchKey(op.req, parts)
	ss.mu.Lock()
	st := ss.byNode[node]
	ss.mu.Unlock()
	if st != nil {
		if st.key == key && st.adopt(op.bell) {
			return st, nil
		}
		ss.remove(st)
		st.abandon()
	}
	c := ss.s.fetchClass(node)
	l, err := ss.s.link(node, c)
	if err != nil {
		return nil, err
	}
	wait := max(time.Until(op.until), 0)
	if op.prompt {
		wait = 0
	}
	req := shareOf(op.req, parts, share, wait)
	st = &standing{node: node, class: c, link: l, key: key, bell: op.bell}
	f := newFlight(req, op.call.ClientID())
	f.deadline = time.Now().Add(wait + answerSlack)
	f.done = func(body []byte, release func(), _ bool, err error) { st.land(req.Version, body, release, err) }
	ss.s.g.metrics.forwarded.WithLabelValues("Fetch").Inc()
	if err := l.send(f); err != nil {
		return nil, err
	}
	ss.mu.Lock()
	ss.byNode[node] = st
	ss.mu.Unlock()
	return st, nil
}

// fetchClass is a connection to a node on which no fetch is parked that nobody
// wants any more. The older one is ended if there is none.
func (s *session) fetchClass(node int32) class {
	s.mu.Lock()
	first, second := s.links[linkKey{node, classFetch}], s.links[linkKey{node, classFetch2}]
	s.mu.Unlock()
	switch {
	case first == nil || !first.busy():
		return classFetch
	case second == nil || !second.busy():
		return classFetch2
	}
	s.drop(first, classFetch)
	return classFetch
}

// busy says whether something is under way.
func (l *link) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flying)+len(l.queued) > 0
}

// shareOf is the request for one of so many nodes.
func shareOf(all *kmsg.FetchRequest, parts []*fetchPart, share int, wait time.Duration) *kmsg.FetchRequest {
	req := *all
	req.MaxWaitMillis = int32(wait / time.Millisecond)
	req.SessionID, req.SessionEpoch, req.ForgottenTopics = 0, -1, nil
	if share > 1 {
		req.MaxBytes = max(req.MaxBytes/int32(share), 1)
		req.MinBytes = (req.MinBytes + int32(share) - 1) / int32(share)
	}
	req.Topics = nil
	var last *kmsg.FetchRequestTopic
	for _, p := range parts {
		if last == nil || p.topic != last {
			last = p.topic
			t := *p.topic
			t.Partitions = nil
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, *p.req)
	}
	return &req
}

// fetchKey is what a fetch asks of partitions, apart from how long it waits and
// how much it takes.
func fetchKey(req *kmsg.FetchRequest, parts []*fetchPart) string {
	b := make([]byte, 0, 64+48*len(parts))
	b = append(b, byte(req.Version), byte(req.IsolationLevel))
	b = append(append(b, req.Rack...), 0)
	for _, p := range parts {
		b = append(append(b, p.name...), 0)
		b = append(b, p.id[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(p.index))
		b = binary.BigEndian.AppendUint64(b, uint64(p.req.FetchOffset))
		b = binary.BigEndian.AppendUint32(b, uint32(p.req.CurrentLeaderEpoch))
		b = binary.BigEndian.AppendUint32(b, uint32(p.req.LastFetchedEpoch))
		b = binary.BigEndian.AppendUint32(b, uint32(p.req.PartitionMaxBytes))
	}
	return string(b)
}

// land takes the node's answer. It runs on the link.
func (st *standing) land(version int16, body []byte, release func(), err error) {
	var resp *kmsg.FetchResponse
	size := 0
	if err == nil {
		resp = kmsg.NewPtrFetchResponse()
		resp.Version = version
		if err = kafka.DecodeAnswer(resp, body); err != nil {
			release()
		}
	}
	if err == nil {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				size += len(resp.Topics[i].Partitions[j].RecordBatches)
			}
		}
	}
	st.mu.Lock()
	st.state, st.err, st.resp, st.size = landed, err, resp, size
	if err == nil {
		st.free = release
	}
	gone := st.gone
	st.keepLocked()
	bell := st.bell
	st.mu.Unlock()
	if gone {
		st.release()
		return
	}
	select {
	case bell <- struct{}{}:
	default:
	}
}

// keep has an answer that nobody claims let go after a while.
func (st *standing) keep() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.keepLocked()
}

func (st *standing) keepLocked() {
	if st.state != landed || st.gone {
		return
	}
	if st.timer != nil {
		st.timer.Stop()
	}
	st.timer = time.AfterFunc(keepAnswer, st.abandon)
}

// adopt has another fetch told. It returns false when the answer was let go.
func (st *standing) adopt(bell chan struct{}) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone || st.state == landed && st.err != nil {
		return false
	}
	if st.timer != nil {
		st.timer.Stop()
	}
	st.bell = bell
	return true
}

// look says how far it is: landed and gone look like claimed.
func (st *standing) look() (state standingState, size int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone {
		return claimed, 0
	}
	return st.state, st.size
}

// claim makes the answer the caller's, who releases it. It fails when the answer
// was let go meanwhile.
func (st *standing) claim() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone || st.state != landed {
		return false
	}
	st.state = claimed
	if st.timer != nil {
		st.timer.Stop()
	}
	return true
}

// abandon lets go of an answer that nobody has claimed, or of the one to come.
func (st *standing) abandon() {
	st.mu.Lock()
	if st.state == claimed {
		st.mu.Unlock()
		return
	}
	st.gone = true
	st.mu.Unlock()
	st.release()
}

// release gives the answer's memory back.
func (st *standing) release() {
	st.mu.Lock()
	free := st.free
	st.free = nil
	if st.timer != nil {
		st.timer.Stop()
	}
	st.mu.Unlock()
	if free != nil {
		free()
	}
}

// remove has the node asked anew next time.
func (ss *standings) remove(st *standing) {
	ss.mu.Lock()
	if ss.byNode[st.node] == st {
		delete(ss.byNode, st.node)
	}
	ss.mu.Unlock()
}

// preferred is the replica that the leader has named for a client's rack.
func (ss *standings) preferred(req *kmsg.FetchRequest, p part) (int32, error) {
	if req.Rack == "" {
		return -1, errNoNode
	}
	ss.mu.Lock()
	r, ok := ss.replicas[p]
	ss.mu.Unlock()
	if _, there := ss.s.g.view.address(r.node); ok && there && time.Now().Before(r.until) {
		return r.node, nil
	}
	return -1, errNoNode
}

func (ss *standings) prefers(p part) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	_, ok := ss.replicas[p]
	return ok
}

func (ss *standings) prefer(p part, node int32) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.replicas) > maxTold {
		clear(ss.replicas)
	}
	ss.replicas[p] = replica{node, time.Now().Add(preferredFor)}
}

func (ss *standings) unprefer(p part) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.replicas, p)
}

// maxTold bounds what a session remembers of partitions.
const maxTold = 100_000

// remember keeps a partition's offsets for answers in which its node has no part.
func (ss *standings) remember(p part, r *kmsg.FetchResponseTopicPartition) {
	if r.ErrorCode != 0 {
		return
	}
	told := kmsg.NewFetchResponseTopicPartition()
	told.HighWatermark, told.LastStableOffset, told.LogStartOffset = r.HighWatermark, r.LastStableOffset, r.LogStartOffset
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.told) > maxTold {
		clear(ss.told)
	}
	ss.told[p] = told
}

func (ss *standings) recall(p part) kmsg.FetchResponseTopicPartition {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if r, ok := ss.told[p]; ok {
		return r
	}
	r := kmsg.NewFetchResponseTopicPartition()
	r.HighWatermark, r.LastStableOffset, r.LogStartOffset = -1, -1, -1
	return r
}
