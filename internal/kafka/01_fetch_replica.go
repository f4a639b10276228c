package kafka

import "sync"

// Reading from the nearest replica (KIP-392), as Kafka does it with
// replica.selector.class=RackAwareReplicaSelector: a consumer that names its rack
// is told by the leader, unless that one is in the rack itself, of an in-sync
// follower there, and gets no records. The follower serves it up to the high
// watermark that it knows. A consumer without a rack is the leader's alone.

// roams says whether the request may be sent to a follower, or served by one.
func (op *fetchOp) roams() bool {
	return op.req.Rack != "" && op.x.version >= 11 && op.s.opts.RackAware && op.refusal() == nil
}

// anyReplica says whether the request may be served by a follower.
func (op *fetchOp) anyReplica() bool { return op.x.conn.inside || op.roams() }

// sendElsewhere names the replica that the consumer should ask instead.
func (p *fetchPart) sendElsewhere(op *fetchOp) {
	o, leads := p.part.Offsets()
	if !leads || p.offset < o.Start || p.offset > o.HighWatermark {
		return
	}
	p.preferred = op.nearest(p.topic.name, p.index)
	p.offsets = o
}

// nearest is the in-sync follower in the consumer's rack, -1 if there is none
// or this node is in it. Partitions are spread over several.
func (op *fetchOp) nearest(topic string, index int32) int32 {
	if op.racks == nil {
		op.racks = op.s.racks.of(op.s, op.x.conn.listener)
	}
	self := op.s.backend.NodeID()
	if op.racks[self] == op.req.Rack {
		return -1
	}
	info, ok := op.s.backend.Topic(topic)
	if !ok || index < 0 || int(index) >= len(info.Partitions) {
		return -1
	}
	var room [8]int32
	near := room[:0]
	for _, node := range info.Partitions[index].ISR {
		if node != self && op.racks[node] == op.req.Rack {
			near = append(near, node)
		}
	}
	if len(near) == 0 {
		return -1
	}
	return near[int(index)%len(near)]
}

// rackCache is where the brokers of each listener are, until something changes.
type rackCache struct {
	mu      sync.Mutex
	changed <-chan struct{}
	by      map[string]map[int32]string
}

// of returns the racks by broker; it is not changed any more.
func (c *rackCache) of(s *Server, listener string) map[int32]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil || over(c.changed) {
		c.changed, c.by = s.backend.TopicsChanged(), make(map[string]map[int32]string)
	}
	racks := c.by[listener]
	if racks == nil {
		racks = make(map[int32]string)
		for _, b := range s.brokers(listener) {
			racks[b.ID] = b.Rack
		}
		c.by[listener] = racks
	}
	return racks
}

// over says whether a channel is closed.
func over(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
