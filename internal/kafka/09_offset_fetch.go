package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch (key 9), versions 1-10
//
//	1    offsets from the coordinator; errors partition by partition
//	2    no topics (null) means all that the group has; an error of the whole
//	5    leader epochs
//	6    flexible
//	7    require stable: wait for transactions; there are none
//	8    many groups in one request
//	9    members of KIP-848 groups
//	10   topic ids
//
// A partition without a committed offset, of any group, has offset -1 and no
// error. Answers are verified: they are not older than the request.

func (s *Server) offsetFetch(_ context.Context, x *exchange, req *kmsg.OffsetFetchRequest) {
	if x.version < 8 {
		coordinate(s, x, req.Group, req, refuseFetch)
		return
	}
	groups := askedOnce(req.Groups)
	all := newGather(len(groups), func(groups []kmsg.OffsetFetchResponseGroup) {
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.Groups = groups
		x.reply(resp)
	})
	for i := range groups {
		s.fetchGroup(x, req, &groups[i], func(g kmsg.OffsetFetchResponseGroup) { all.settle(i, g) })
	}
}

// askedOnce leaves out what is asked for again: all offsets of a group, or a
// partition's.
func askedOnce(groups []kmsg.OffsetFetchRequestGroup) (out []kmsg.OffsetFetchRequestGroup) {
	type partition struct {
		group, topic string
		id           [16]byte
		index        int32
	}
	whole, parts := make(once[string]), make(once[partition])
	for _, g := range groups {
		if g.Topics == nil && !whole.first(g.Group) {
			continue
		}
		for i := range g.Topics {
			t := &g.Topics[i]
			t.Partitions = slices.DeleteFunc(t.Partitions, func(index int32) bool {
				return !parts.first(partition{g.Group, t.Topic, t.TopicID, index})
			})
		}
		out = append(out, g)
	}
	return out
}

// fetchGroup asks for the offsets of one group of many.
func (s *Server) fetchGroup(x *exchange, req *kmsg.OffsetFetchRequest, g *kmsg.OffsetFetchRequestGroup, done func(kmsg.OffsetFetchResponseGroup)) {
	byID := x.version >= 10
	var unknown []kmsg.OffsetFetchResponseGroupTopic // topic ids that mean nothing
	if byID {
		known := g.Topics[:0:0]
		for _, t := range g.Topics {
			info, err := s.groupTopic(byID, t.Topic, t.TopicID)
			if err != nil {
				unknown = append(unknown, noOffsets(t, codeOf(err)))
				continue
			}
			t.Topic = info.Name
			known = append(known, t)
		}
		if g.Topics != nil && known == nil { // null means all topics
			known = []kmsg.OffsetFetchRequestGroupTopic{}
		}
		g.Topics = known
	}
	one := *req
	one.Groups = []kmsg.OffsetFetchRequestGroup{*g}
	s.coordinateWith(x, g.Group, &one, func(resp kmsg.Response, err error) {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group = g.Group
		if err != nil {
			rg.ErrorCode = codeOf(err)
		} else if groups := resp.(*kmsg.OffsetFetchResponse).Groups; len(groups) == 1 {
			rg = groups[0]
		}
		if rg.ErrorCode == 0 {
			rg.Topics = slices.Concat(rg.Topics, unknown)
			if byID {
				rg.Topics = s.withIDs(rg.Topics)
			}
		}
		done(rg)
	})
}

// withIDs sees to it that all topics have an id: of those that the client did not
// name the coordinator knows the names only. Those that are gone are left out.
func (s *Server) withIDs(topics []kmsg.OffsetFetchResponseGroupTopic) []kmsg.OffsetFetchResponseGroupTopic {
	named := topics[:0:0]
	for _, t := range topics {
		if t.TopicID == [16]byte{} {
			info, ok := s.backend.Topic(t.Topic)
			if !ok {
				continue
			}
			t.TopicID = info.ID
		}
		named = append(named, t)
	}
	return named
}

func noOffsets(t kmsg.OffsetFetchRequestGroupTopic, code int16) kmsg.OffsetFetchResponseGroupTopic {
	rt := kmsg.NewOffsetFetchResponseGroupTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, index := range t.Partitions {
		rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		rp.Partition, rp.Offset, rp.ErrorCode, rp.Metadata = index, -1, code, new(string)
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// refuseFetch answers a request below version 8.
func refuseFetch(req *kmsg.OffsetFetchRequest, code int16) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.ErrorCode = code
	if req.Version >= 2 {
		return resp
	}
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, index := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.ErrorCode, rp.Metadata = index, -1, code, new(string)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
