package group

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request sends something that the client might send now, or nearly.
func (w *world) request(c *client) {
	var req kmsg.Request
	id, generation := c.id, c.generation
	switch w.r.IntN(40) {
	case 0:
		id = "made-up"
	case 1:
		generation--
	case 2:
		id, generation = "", -1
	}
	switch w.r.IntN(12) {
	case 0, 1, 2:
		req = w.join(c, id)
	case 3, 4:
		req = w.sync(c, id, generation)
	case 5, 6:
		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Version, hb.Group, hb.MemberID, hb.Generation, hb.InstanceID = min(c.version, 4), c.group, id, generation, c.instance
		req = hb
	case 7, 8:
		req = w.commit(c, id, generation)
	case 9:
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = max(min(c.version, 7), 2), c.group
		req = fetch
	case 10:
		if w.r.IntN(3) > 0 {
			return
		}
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Version, leave.Group, leave.MemberID = min(c.version, 5), c.group, id
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID, one.InstanceID = id, c.instance
		leave.Members = append(leave.Members, one)
		req = leave
	case 11:
		req = w.administer(c)
	}
	w.refs++
	ref := w.refs
	w.owed[ref] = asked{c, req}
	w.effects(w.m.Handle(w.now, ref, Client{c.name, "/host"}, req))
}

func (w *world) join(c *client, id string) kmsg.Request {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = c.version, c.group, id, c.instance
	if c.instance != nil && w.r.IntN(4) == 0 {
		req.MemberID = "" // started anew
	}
	req.SessionTimeoutMillis = int32(6000 + w.r.IntN(20_000))
	req.RebalanceTimeoutMillis = int32(w.r.IntN(30_000) - 100)
	req.ProtocolType = consumerProtocol
	for _, name := range []string{"range", "sticky", "roundrobin"} {
		if w.r.IntN(6) > 0 {
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name, p.Metadata = name, subscription([]string{"T0", "T0+T1", "T0", "T0", "!"}[w.r.IntN(5)])
			req.Protocols = append(req.Protocols, p)
		}
	}
	w.r.Shuffle(len(req.Protocols), func(i, j int) {
		req.Protocols[i], req.Protocols[j] = req.Protocols[j], req.Protocols[i]
	})
	return req
}

func (w *world) sync(c *client, id string, generation int32) kmsg.Request {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = min(c.version, 4), c.group, id, generation, c.instance
	if c.leads {
		g := w.m.groups[c.group]
		for i := 0; g != nil && i < len(g.order); i++ {
			one := kmsg.NewSyncGroupRequestGroupAssignment()
			one.MemberID, one.MemberAssignment = g.order[i].id, fmt.Appendf(nil, "%s/%d", c.group, generation)
			req.GroupAssignment = append(req.GroupAssignment, one)
		}
	}
	return req
}

func (w *world) commit(c *client, id string, generation int32) kmsg.Request {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = max(c.version, 1), c.group, id, generation, c.instance
	if w.r.IntN(8) == 0 {
		req.RetentionTimeMillis = int64(w.r.IntN(100_000))
	}
	for i := range 1 + w.r.IntN(3) {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = fmt.Sprintf("T%d", w.r.IntN(3))
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.Metadata = int32(i%2), int64(w.refs), kmsg.StringPtr(strings.Repeat("m", w.r.IntN(2)*w.r.IntN(4200)))
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func (w *world) administer(c *client) kmsg.Request {
	switch w.r.IntN(5) {
	case 0:
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{c.group}
		return req
	case 1:
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = c.group
		t, p := kmsg.NewOffsetDeleteRequestTopic(), kmsg.NewOffsetDeleteRequestTopicPartition()
		t.Topic, t.Partitions = fmt.Sprintf("T%d", w.r.IntN(3)), append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		return req
	case 2:
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{c.group}
		return req
	case 3:
		return kmsg.NewPtrListGroupsRequest()
	}
	req := kmsg.NewPtrOffsetCommitRequest() // an administrator sets offsets
	req.Version, req.Group = 8, c.group
	t, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	t.Topic, p.Offset = "T2", int64(w.refs)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}
