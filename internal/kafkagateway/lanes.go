package kafkagateway

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// lane is the order of one partition's batches. Those that are done have left it.
type lane struct {
	part    part
	queue   []*batch
	tending bool // a goroutine looks for a leader
}

// lanes are all of a session.
type lanes struct {
	s      *session
	mu     sync.Mutex
	closed bool
	order  uint64
	byPart map[part]*lane
}

func (ls *lanes) init(s *session) { ls.s, ls.byPart = s, make(map[part]*lane) }

func (ls *lanes) close() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	clear(ls.byPart)
}

// settleLocked is done with a batch.
func (ls *lanes) settleLocked(b *batch, code int16) {
	l := b.lane
	if l.queue[0] == b { // nearly always, and a request may name a partition often
		l.queue = l.queue[1:]
	} else if i := slices.Index(l.queue, b); i > 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	}
	if len(l.queue) == 0 && !l.tending && ls.byPart[l.part] == l {
		delete(ls.byPart, l.part)
	}
	b.result.ErrorCode = code
	op := b.op
	if op.left--; op.left > 0 {
		return
	}
	for i := range op.resp.Topics {
		for j := range op.resp.Topics[i].Partitions {
			if code := op.resp.Topics[i].Partitions[j].ErrorCode; code != 0 && op.req.Acks == 0 {
				// As a node does: the client learns of it, and looks for the leader.
				ls.s.client.Abort(kerr.ErrorForCode(code))
				return
			}
		}
	}
	op.answer()
}

// pumpLocked sends what can be sent of some lanes.
func (ls *lanes) pumpLocked(touched []*lane) {
	type piece struct {
		link    *link
		op      *produceOp
		batches []*batch
	}
	var pieces []piece
	for _, l := range touched {
		for _, b := range ls.sendableLocked(l) {
			b.state = sent
			at := -1
			for i := range pieces {
				if pieces[i].link == b.link && pieces[i].op == b.op {
					at = i
				}
			}
			if at < 0 {
				at = len(pieces)
				pieces = append(pieces, piece{link: b.link, op: b.op})
			}
			pieces[at].batches = append(pieces[at].batches, b)
		}
	}
	slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(a.op.order, b.op.order) })
	for _, p := range pieces {
		ls.sendLocked(p.link, p.op, p.batches)
	}
}

// sendableLocked are the batches of a lane that may be sent now, with the link to
// send them on. A lane that lacks a leader is tended.
func (ls *lanes) sendableLocked(l *lane) []*batch {
	var flying *link
	var ready []*batch
	again := false
	for _, b := range l.queue {
		if b.state == sent {
			flying = b.link
		} else {
			ready = append(ready, b)
			again = again || b.state == bounced
		}
	}
	if len(ready) == 0 || l.tending || again && flying != nil {
		return nil
	}
	node, err := ls.s.g.view.leader(l.part)
	if final(err) {
		if flying == nil {
			for _, b := range ready {
				ls.settleLocked(b, b.giveUp(codeOf(err)))
			}
		}
		return nil
	}
	var on *link
	if err == nil {
		on, err = ls.linkLocked(l, ready[0], node)
	}
	switch {
	case err == nil && flying != nil && on != flying:
		return nil
	case err == nil && !ls.s.takes(node, ready[0].op.req):
		return nil
	case err != nil:
		l.tending = true
		ls.s.go_(func() { ls.tend(l) })
		return nil
	}
	for _, b := range ready {
		b.link = on
	}
	return ready
}

var errHungUp = errors.New("the node has ended the connection")

// linkLocked is the connection for a batch. A node ends that of a client whose
// acks=0 it could not satisfy: somebody else leads, perhaps.
func (ls *lanes) linkLocked(l *lane, b *batch, node int32) (*link, error) {
	if b.op.req.Acks == 0 && ls.s.hungUp(node, classProduce) {
		ls.s.g.view.suspect(l.part, node)
		return nil, errHungUp
	}
	return ls.s.link(node, classProduce)
}

// hungUp says whether a node has ended a connection, and forgets that.
func (s *session) hungUp(node int32, c class) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[linkKey{node, c}]
	if l == nil || !l.broken() {
		return false
	}
	delete(s.links, linkKey{node, c})
	return true
}

// sendLocked sends batches of one request to their leader, in one request.
func (ls *lanes) sendLocked(on *link, op *produceOp, batches []*batch) {
	req := *op.req
	req.Topics = nil
	for _, b := range batches {
		key := b.lane.part.topicKey
		last := len(req.Topics) - 1
		if last < 0 || req.Topics[last].Topic != key.name || req.Topics[last].TopicID != key.id {
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = key.name, key.id
			req.Topics = append(req.Topics, t)
			last++
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = b.lane.part.index, b.records
		req.Topics[last].Partitions = append(req.Topics[last].Partitions, p)
	}
	ls.s.g.metrics.forwarded.WithLabelValues("Produce").Inc()
	err := on.send(&flight{
		frame: kafka.ProduceFrame(&req, op.call.ClientID()), flexible: req.IsFlexible(), silent: req.Acks == 0, deadline: op.limit,
		done: func(body []byte, release func(), reached bool, err error) {
			ls.landed(on, &req, batches, body, release, reached, err)
		},
	})
	if err != nil { // nothing was sent: another link does it
		for _, b := range batches {
			b.state = waiting
			if l := b.lane; !l.tending {
				l.tending = true
				ls.s.go_(func() { ls.tend(l) })
			}
		}
	}
}

// behindBounced says whether a batch before it has to be sent again.
func (b *batch) behindBounced() bool {
	for _, other := range b.lane.queue {
		if other == b {
			return false
		}
		if other.state == bounced {
			return true
		}
	}
	return false
}

// tend looks for the leader of a lane until it can send, or has given up what
// waits.
func (ls *lanes) tend(l *lane) {
	for ls.s.ctx.Err() == nil {
		ls.s.g.view.refresh(ls.s.ctx, []topicKey{l.part.topicKey})
		ls.mu.Lock()
		if ls.closed {
			ls.mu.Unlock()
			return
		}
		now := time.Now()
		for _, b := range append([]*batch(nil), l.queue...) {
			if b.state != sent && !now.Before(b.op.until) {
				ls.settleLocked(b, b.giveUp(kerr.NotLeaderForPartition.Code))
			}
		}
		_, err := ls.s.g.view.leader(l.part)
		if len(l.queue) == 0 || err == nil || final(err) {
			l.tending = false
			ls.pumpLocked([]*lane{l})
			if !l.tending {
				if len(l.queue) == 0 && ls.byPart[l.part] == l {
					delete(ls.byPart, l.part)
				}
				ls.mu.Unlock()
				return
			}
			ls.mu.Unlock()
			return // another one tends it
		}
		ls.mu.Unlock()
		pause(ls.s.ctx, retryPause)
	}
}
