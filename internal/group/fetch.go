package group

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch
//
//	2    no topics: all
//	7    stable offsets on request (KIP-447)
//	8    groups; here always one
//	10   topic ids, beside the names that the caller has found
//
// A group or partition without an offset has offset -1 and no error. If writes
// about a partition are on their way, the answer waits for them, whether or not
// the client asks for stable offsets: who takes a partition over must not miss
// the last commit of who had it, or it would put the offset back.

func (m *Machine) fetchOffsets(w waiter, req *kmsg.OffsetFetchRequest) {
	if !m.unsettled(req) {
		m.answerFetch(w, req)
		return
	}
	last := m.queue[len(m.queue)-1]
	last.then = append(last.then, func() {
		if m.resigned {
			m.reply(w, Refuse(req, kerr.NotCoordinator))
		} else {
			m.answerFetch(w, req)
		}
	})
}

// unsettled says whether writes about what is asked for are on their way.
func (m *Machine) unsettled(req *kmsg.OffsetFetchRequest) bool {
	if len(m.queue) == 0 {
		return false
	}
	if req.Version < 8 {
		return m.groups[req.Group].unsettled(askedFor(req.Topics))
	}
	return slices.ContainsFunc(req.Groups, func(g kmsg.OffsetFetchRequestGroup) bool {
		return m.groups[g.Group].unsettled(g.Topics)
	})
}

func (g *group) unsettled(asked []kmsg.OffsetFetchRequestGroupTopic) bool {
	if g == nil || g.writes == 0 {
		return false
	}
	if asked == nil {
		asked = g.listed(true)
	}
	for _, t := range asked {
		for _, partition := range t.Partitions {
			if o := g.offsets[t.Topic][partition]; o != nil && o.pending > 0 {
				return true
			}
		}
	}
	return false
}

// askedFor is what versions below 8 ask for as later ones do; nil for all.
func askedFor(topics []kmsg.OffsetFetchRequestTopic) []kmsg.OffsetFetchRequestGroupTopic {
	if topics == nil {
		return nil
	}
	asked := make([]kmsg.OffsetFetchRequestGroupTopic, len(topics))
	for i, t := range topics {
		asked[i].Topic, asked[i].Partitions = t.Topic, t.Partitions
	}
	return asked
}

func (m *Machine) answerFetch(w waiter, req *kmsg.OffsetFetchRequest) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	if w.version >= 8 {
		for _, asked := range req.Groups {
			one := kmsg.NewOffsetFetchResponseGroup()
			one.Group = asked.Group
			one.Topics = m.groups[asked.Group].fetch(asked.Topics)
			resp.Groups = append(resp.Groups, one)
		}
		m.reply(w, resp)
		return
	}
	for _, t := range m.groups[req.Group].fetch(askedFor(req.Topics)) {
		topic := kmsg.NewOffsetFetchResponseTopic()
		topic.Topic = t.Topic
		topic.Partitions = make([]kmsg.OffsetFetchResponseTopicPartition, len(t.Partitions))
		for i, p := range t.Partitions {
			one := &topic.Partitions[i]
			one.Partition, one.Offset, one.LeaderEpoch = p.Partition, p.Offset, p.LeaderEpoch
			one.Metadata, one.ErrorCode = p.Metadata, p.ErrorCode
		}
		resp.Topics = append(resp.Topics, topic)
	}
	m.reply(w, resp)
}

// fetch returns the offsets that were asked for, or all for nil. g may be nil. A
// partition that is asked for more than once is answered once: its metadata is much
// longer than the question.
func (g *group) fetch(asked []kmsg.OffsetFetchRequestGroupTopic) []kmsg.OffsetFetchResponseGroupTopic {
	if asked == nil {
		asked = g.listed(false)
	}
	type topicPartition struct {
		topic     string
		id        [16]byte
		partition int32
	}
	seen := make(map[topicPartition]struct{})
	out := make([]kmsg.OffsetFetchResponseGroupTopic, len(asked))
	for i := range asked {
		a, t := &asked[i], &out[i]
		var have map[int32]*offset
		if g != nil {
			have = g.offsets[a.Topic]
		}
		t.Topic, t.TopicID = a.Topic, a.TopicID
		t.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, 0, len(a.Partitions))
		for _, partition := range a.Partitions {
			tp := topicPartition{a.Topic, a.TopicID, partition}
			if _, again := seen[tp]; !again {
				seen[tp] = struct{}{}
				t.Partitions = append(t.Partitions, have[partition].fetch(partition, a.TopicID))
			}
		}
	}
	return out
}

// fetch returns a partition's offset. o may be nil. An offset of another topic,
// of the same name and since deleted, is none.
func (o *offset) fetch(partition int32, topicID [16]byte) (p kmsg.OffsetFetchResponseGroupTopicPartition) {
	none := [16]byte{}
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, -1, -1, noMetadata
	if o != nil && o.known && (topicID == none || o.topicID == none || o.topicID == topicID) {
		p.Offset, p.LeaderEpoch, p.Metadata = o.offset, o.epoch, o.metadata
	}
	return p
}

// listed are the partitions that have an offset, and with pending those that
// will have one, by name and number.
func (g *group) listed(pending bool) []kmsg.OffsetFetchRequestGroupTopic {
	if g == nil {
		return nil
	}
	var all []kmsg.OffsetFetchRequestGroupTopic
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic = topic
		for partition, o := range g.offsets[topic] {
			if o.known || pending {
				t.Partitions = append(t.Partitions, partition)
			}
		}
		if slices.Sort(t.Partitions); len(t.Partitions) > 0 {
			all = append(all, t)
		}
	}
	return all
}
