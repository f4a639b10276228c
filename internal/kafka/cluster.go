package kafka

import (
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
)

// brokers are the live nodes as clients of a listener see them.
func (s *Server) brokers(listener string) []Broker {
	if bs := s.backend.Brokers(listener); len(bs) > 0 {
		return bs
	}
	for _, l := range s.opts.Listeners {
		if l.Name != listener || l.Advertised == "" {
			continue
		}
		host, port, err := net.SplitHostPort(l.Advertised)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err == nil && perr == nil {
			return []Broker{{ID: s.backend.NodeID(), Host: host, Port: int32(n)}}
		}
	}
	return nil
}

// live is the set of brokers that may be named to clients.
type live map[int32]Broker

func (s *Server) live(listener string) live {
	bs := s.brokers(listener)
	l := make(live, len(bs))
	for _, b := range bs {
		l[b.ID] = b
	}
	return l
}

// has says whether a partition has a leader that clients can reach.
func (l live) has(leader int32) bool {
	_, ok := l[leader]
	return ok && leader >= 0
}

// controller names a live broker for administration: the winner if it is
// live, else this node, else any, since all of them take it.
func (s *Server) controller(brokers []Broker) int32 {
	winner, self, choice := s.backend.ControllerID(), s.backend.NodeID(), int32(-1)
	for _, b := range brokers {
		switch {
		case b.ID == winner:
			return winner
		case b.ID == self, choice < 0:
			choice = b.ID
		}
	}
	return choice
}

// hints collects the current leaders of partitions that clients asked the
// wrong node for (KIP-951).
type hints struct {
	s        *Server
	listener string
	live     live // nil until needed
	nodes    []Broker
}

// leader returns the hint for a partition, and keeps the leader's address for
// the response's end. This node never hints at itself: it has just refused.
func (h *hints) leader(topic string, index int32) leaderHint {
	t, ok := h.s.backend.Topic(topic)
	if !ok || index < 0 || int(index) >= len(t.Partitions) {
		return noHint
	}
	p := t.Partitions[index]
	if p.Leader < 0 || p.Leader == h.s.backend.NodeID() {
		return noHint
	}
	if h.live == nil {
		h.live = h.s.live(h.listener)
	}
	b, ok := h.live[p.Leader]
	if !ok {
		return noHint
	}
	known := false
	for _, n := range h.nodes {
		known = known || n.ID == b.ID
	}
	if !known {
		h.nodes = append(h.nodes, b)
	}
	return leaderHint{p.Leader, p.Epoch}
}

// partition looks up the local replica of a partition of a known topic.
func (s *Server) partition(topic string, index int32) (Partition, error) {
	p, err := s.backend.Partition(topic, index)
	if err == nil && p == nil {
		err = kerr.UnknownTopicOrPartition
	}
	return p, err
}

// checkEpoch compares the leader epoch that a client believes in with ours;
// below 0 it has none.
func checkEpoch(client, ours int32) error {
	switch {
	case client < 0 || client == ours:
		return nil
	case client < ours:
		return kerr.FencedLeaderEpoch
	default:
		return kerr.UnknownLeaderEpoch
	}
}

// leading returns a partition's offsets if it may answer clients that believe
// in the given leader epoch.
func leading(p Partition, epoch int32) (Offsets, error) {
	o, ok := p.Offsets()
	if err := checkEpoch(epoch, o.Epoch); err != nil {
		return o, err
	}
	if !ok {
		return o, kerr.NotLeaderForPartition
	}
	return o, nil
}
