package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch sessions (KIP-227). A full fetch with epoch 0 asks for a session: its
// partitions are kept, and the client then sends only what has changed of what it
// asks, with the session's id and an epoch that counts up from 1. It is answered
// with the partitions that have news. A session belongs to no connection.
//
//	epoch -1                 a full fetch without a session; one that is named ends
//	epoch 0                  a full fetch for a new one; one that is named ends.
//	                         Session id 0 in the answer: there was no room
//	unknown id               FETCH_SESSION_ID_NOT_FOUND
//	another epoch            INVALID_FETCH_SESSION_EPOCH, the session goes on
//	ids in a session of
//	names, or names in one
//	of ids                   FETCH_SESSION_TOPIC_ID_ERROR
//	no partition is left     the session ends, the answer has session id 0
//
// Between fetches a session costs nothing: its partitions are watched where there
// was nothing to read, once, and only those that rang are looked at again. A topic
// id that was replaced by another topic of the same name is INCONSISTENT_TOPIC_ID,
// one that is gone UNKNOWN_TOPIC_OR_PARTITION.

const (
	sessionInitial = 0
	sessionFinal   = -1
)

// partKey names a partition as a session's client does.
type partKey struct {
	topic string
	id    [16]byte
	index int32
}

func keyOf(version int16, topic string, id [16]byte, index int32) partKey {
	if version >= 13 {
		return partKey{id: id, index: index}
	}
	return partKey{topic: topic, index: index}
}

func (p *fetchPart) key() partKey {
	if p.topic.byID {
		return partKey{id: p.topic.id, index: p.index}
	}
	return partKey{topic: p.topic.name, index: p.index}
}

// weight is about what a partition costs a session, in bytes.
func (p *fetchPart) weight() int64 {
	if p.topic.byID {
		return 480 // the name comes with being found
	}
	return 480 + int64(len(p.topic.name))
}

// fetchSession is a session; sessionCache has its id, epoch and age.
type fetchSession struct {
	id  int32
	ids bool // partitions are named by topic ids

	// token is held by the fetch that uses the rest: a second one of the same
	// session waits for it.
	token   chan struct{}
	parts   []*fetchPart // in the order of service
	byKey   map[partKey]*fetchPart
	emit    []*fetchPart    // room for answers
	bell    chan struct{}   // rung by parts
	round   uint32          // of looking for partitions
	topics  <-chan struct{} // closed: partitions have to be found anew
	booking                 // the cache's
}

// resume starts a fetch that goes on with a session.
func (op *fetchOp) resume(ctx context.Context) {
	if err := op.refusal(); err != nil {
		op.fail(err)
		return
	}
	f, err := op.s.sessions.resume(op.req.SessionID, op.req.SessionEpoch, op.x.version >= 13)
	if err != nil {
		op.fail(err)
		return
	}
	select {
	case <-f.token:
		if op.goOn(f) {
			op.run(ctx)
		}
		return
	default:
	}
	// The one before is not answered yet; in Kafka a connection takes no second
	// request meanwhile.
	op.x.conn.wg.Go(func() {
		select {
		case <-f.token:
			if op.goOn(f) && !op.ready() {
				op.wait(ctx)
			}
		case <-op.x.conn.stop:
			op.fail(kerr.InvalidFetchSessionEpoch)
		case <-ctx.Done():
		}
	})
}

// goOn takes over a session whose token is held. It returns false when the
// request was answered.
func (op *fetchOp) goOn(f *fetchSession) bool {
	if op.s.sessions.isGone(f) || !f.update(op) {
		op.s.sessions.remove(f.id)
		f.yield(op.s)
		op.fail(kerr.FetchSessionIDNotFound)
		return false
	}
	if len(f.parts) == 0 {
		op.s.sessions.remove(f.id)
		f.yield(op.s)
		op.lookup()
		return true
	}
	op.session, op.parts, op.bell = f, f.parts, f.bell
	return true
}

// update takes over what the client asks from now on. It returns false when the
// session's partitions no longer fit into memory.
func (f *fetchSession) update(op *fetchOp) bool {
	f.round++
	moved := f.topics == nil || over(f.topics)
	if moved {
		f.topics = op.s.backend.TopicsChanged()
	}
	for _, p := range f.parts {
		if moved || p.refused != nil || p.err != nil {
			p.resolve(op.s, f.round)
		}
	}
	for ti := range op.req.Topics {
		t := &op.req.Topics[ti]
		var topic *fetchTopic // of partitions that are new
		for pi := range t.Partitions {
			rp := &t.Partitions[pi]
			key := keyOf(op.x.version, t.Topic, t.TopicID, rp.Partition)
			if p := f.byKey[key]; p != nil {
				p.ask(rp)
				continue
			}
			if topic == nil {
				made := newFetchTopic(op.x.version, t)
				topic = &made
			}
			if !f.include(op, key, topic, rp) {
				return false
			}
		}
	}
	f.forget(op.req.ForgottenTopics, op.x.version, op.s.sessions)
	return true
}

func (f *fetchSession) include(op *fetchOp, key partKey, t *fetchTopic, rp *kmsg.FetchRequestTopicPartition) bool {
	p := &fetchPart{}
	p.init(t, rp)
	p.resolve(op.s, f.round)
	if !op.s.sessions.grow(f, 1, p.weight()) {
		return false
	}
	f.parts = append(f.parts, p)
	f.byKey[key] = p
	return true
}

// forget drops the partitions that the client no longer reads.
func (f *fetchSession) forget(topics []kmsg.FetchRequestForgottenTopic, version int16, c *sessionCache) {
	n, weight := 0, int64(0)
	for i := range topics {
		t := &topics[i]
		for _, index := range t.Partitions {
			key := keyOf(version, t.Topic, t.TopicID, index)
			p := f.byKey[key]
			if p == nil {
				continue
			}
			delete(f.byKey, key)
			p.unwatch()
			p.forgotten = true
			n, weight = n+1, weight+p.weight()
		}
	}
	if n == 0 {
		return
	}
	kept := f.parts[:0]
	for _, p := range f.parts {
		if !p.forgotten {
			kept = append(kept, p)
		}
	}
	clear(f.parts[len(kept):])
	f.parts = kept
	f.compact()
	c.shrink(f, n, weight)
}

// compact gives memory back that far fewer partitions no longer need: what the
// session is counted for is what it has now.
func (f *fetchSession) compact() {
	if cap(f.parts) < 64 || len(f.parts) > cap(f.parts)/4 {
		return
	}
	parts, byKey := make([]*fetchPart, len(f.parts)), make(map[partKey]*fetchPart, len(f.parts))
	copy(parts, f.parts)
	for _, p := range parts {
		byKey[p.key()] = p
	}
	f.parts, f.byKey, f.emit = parts, byKey, nil
}

// changed are the partitions with news, in the order of service.
func (f *fetchSession) changed() []*fetchPart {
	f.emit = f.emit[:0]
	for _, p := range f.parts {
		if p.served = p.data != nil; p.served || p.news() {
			p.told()
			f.emit = append(f.emit, p)
		}
	}
	return f.emit
}

// yield ends a fetch's use of the session. Those that were given records come
// last the next time.
func (f *fetchSession) yield(s *Server) {
	last := f.emit[:0]
	kept := f.parts[:0]
	for _, p := range f.parts {
		if p.quiet && p.part != nil && p.refused == nil {
			p.watch(f.bell)
		}
		if p.served {
			p.served = false
			last = append(last, p)
		} else {
			kept = append(kept, p)
		}
	}
	f.parts = append(kept, last...)
	clear(last)
	f.emit = last[:0]
	f.token <- struct{}{}
	if s.sessions.isGone(f) {
		f.bury()
	}
}

// bury ends the watches of a session that is gone, unless a fetch uses it: that
// one does it at its end.
func (f *fetchSession) bury() {
	select {
	case <-f.token:
		for _, p := range f.parts {
			p.unwatch()
		}
		f.token <- struct{}{}
	default:
	}
}
