package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Offsets expire (KIP-211) offsets.retention.minutes after
//
//   - the group has become empty, or the commit if that is later;
//   - the commit, in a group that only stores offsets and never had members;
//   - the commit, in a stable group of consumers none of which subscribes to the
//     topic.
//
// What a client asked for itself (OffsetCommit 2-4) goes before that. An empty
// group without offsets is deleted.

// expireOffsets looks at all groups.
func (m *Machine) expireOffsets() {
	m.timers.set(&m.expiry, m.now.Add(m.cfg.OffsetsRetentionCheck))
	for _, g := range m.sorted() {
		gone := m.expired(g)
		m.forget(g, gone, func(err error) {
			if err == nil && !m.resigned {
				m.stats.ExpiredOffsets += uint64(len(gone))
			}
			m.buryUnused(g)
		})
	}
}

// buryUnused deletes a group of which nothing is left.
func (m *Machine) buryUnused(g *group) {
	if m.resigned || g.state != empty || len(g.offsets) > 0 || len(g.pending) > 0 || m.groups[g.name] != g {
		return
	}
	if !g.logged {
		m.close(g)
		return
	}
	m.bury(g, func(*kerr.Error) {})
}

// expired lists the offsets whose time has passed, by topic and partition.
func (m *Machine) expired(g *group) []place {
	since := func(o *offset) int64 { return o.at }
	switch {
	case g.kind == "":
	case g.state == empty:
		since = func(o *offset) int64 { return max(o.at, g.changed) }
	case g.state == stable && g.kind == consumerProtocol && g.topicsKnown:
	default:
		return nil
	}
	now, retention := m.now.UnixMilli(), m.cfg.OffsetsRetention
	var gone []place
	for _, t := range g.listed(false) {
		if g.state == stable && g.subscribed(t.Topic) {
			continue
		}
		for _, partition := range t.Partitions {
			o := g.offsets[t.Topic][partition]
			switch {
			case o.pending > 0:
			case o.expires >= 0 && now >= o.expires,
				o.expires < 0 && retention >= 0 && now-since(o) >= int64(retention/time.Millisecond):
				gone = append(gone, place{t.Topic, partition})
			}
		}
	}
	return gone
}

// RemoveTopic forgets all offsets of a topic that was deleted.
func (m *Machine) RemoveTopic(now time.Time, topic string) Effects {
	if m.resigned || topic == "" {
		return Effects{}
	}
	m.begin(now)
	for _, g := range m.sorted() {
		if len(g.offsets[topic]) > 0 {
			m.forget(g, g.places(topic), func(error) {})
		}
	}
	return m.end()
}
