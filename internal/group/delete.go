package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups, versions 0-2, of one group, and OffsetDelete, version 0.

func (m *Machine) deleteGroup(w waiter, req *kmsg.DeleteGroupsRequest) {
	if len(req.Groups) != 1 {
		panic("BUG: a request to delete one group names another number of them")
	}
	name := req.Groups[0]
	answer := func(err *kerr.Error) {
		resp := kmsg.NewPtrDeleteGroupsResponse()
		one := kmsg.NewDeleteGroupsResponseGroup()
		one.Group, one.ErrorCode = name, code(err)
		resp.Groups = append(resp.Groups, one)
		m.reply(w, resp)
	}
	switch g := m.groups[name]; {
	case g == nil || g.state == dead:
		answer(kerr.GroupIDNotFound)
	case g.state != empty:
		answer(kerr.NonEmptyGroup)
	default:
		m.bury(g, answer)
	}
}

// bury deletes an empty group with its offsets. Until that is done it is dead:
// clients are told to come again. If it fails the group is empty once more, with
// the offsets that are left.
func (m *Machine) bury(g *group, done func(err *kerr.Error)) {
	for id := range g.pending {
		m.forgetPending(g, id)
	}
	g.enter(dead) // and changed stays: the offsets' ages count from then
	over := func(err error) {
		switch {
		case m.resigned:
		case err != nil:
			g.enter(empty)
		default:
			m.close(g)
		}
		if err != nil {
			done(metadataRefusal(err))
		} else {
			done(nil)
		}
	}
	m.forget(g, g.places(""), func(err error) {
		if err != nil || !g.logged {
			over(err)
			return
		}
		// Last, so that a crash before leaves a group that can be deleted.
		m.write(g, []Record{{Key: groupKey(g.name)}}, over)
	})
}

// places lists the partitions of a topic, or with "" of all topics, for which
// the group has an offset or will have one.
func (g *group) places(topic string) []place {
	var all []place
	for _, t := range g.listed(true) {
		if topic == "" || t.Topic == topic {
			for _, partition := range t.Partitions {
				all = append(all, place{t.Topic, partition})
			}
		}
	}
	return all
}

func (m *Machine) deleteOffsets(w waiter, req *kmsg.OffsetDeleteRequest) {
	g := m.groups[req.Group]
	resp := kmsg.NewPtrOffsetDeleteResponse()
	switch {
	case g == nil || g.state == dead:
		resp.ErrorCode = kerr.GroupIDNotFound.Code
	case g.state != empty && g.kind != consumerProtocol:
		resp.ErrorCode = kerr.NonEmptyGroup.Code
	}
	if resp.ErrorCode != 0 {
		m.reply(w, resp)
		return
	}
	var places []place
	seen := make(map[place]bool)
	for _, t := range req.Topics {
		topic := kmsg.NewOffsetDeleteResponseTopic()
		topic.Topic = t.Topic
		subscribed := g.subscribed(t.Topic)
		for _, p := range t.Partitions {
			one := kmsg.NewOffsetDeleteResponseTopicPartition()
			one.Partition = p.Partition
			at := place{t.Topic, p.Partition}
			switch {
			case subscribed:
				one.ErrorCode = kerr.GroupSubscribedToTopic.Code
			case g.offsets[t.Topic][p.Partition] != nil && !seen[at]:
				seen[at] = true
				places = append(places, at)
			}
			topic.Partitions = append(topic.Partitions, one)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	m.forget(g, places, func(err error) {
		if err != nil {
			resp.ErrorCode = commitRefusal(err).Code
		}
		m.reply(w, resp)
	})
}
