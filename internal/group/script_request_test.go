package group

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request makes a request. Every kind knows group (g) and v, the version.
func (s *script) request(kind string, opts map[string]string) kmsg.Request {
	group := "g"
	if g, ok := opts["group"]; ok {
		group = g
	}
	nullable := func(key string) *string {
		if v, ok := opts[key]; ok {
			return &v
		}
		return nil
	}
	version := func(v int64) int16 { return int16(s.number(opts["v"], v)) }
	switch kind {
	case "join": // id= instance= type=consumer protocols=range:T1+T2,sticky:T1 session=10s rebalance=60s
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = version(9), group, opts["id"], nullable("instance")
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
		if v, ok := opts["session"]; ok {
			req.SessionTimeoutMillis = int32(s.duration(v).Milliseconds())
		}
		if v, ok := opts["rebalance"]; ok {
			req.RebalanceTimeoutMillis = int32(s.duration(v).Milliseconds())
		}
		req.ProtocolType = "consumer"
		if v, ok := opts["type"]; ok {
			req.ProtocolType = v
		}
		list, ok := opts["protocols"]
		if !ok {
			list = "range:T1"
		}
		for p := range strings.SplitSeq(list, ",") {
			name, topics, _ := strings.Cut(p, ":")
			one := kmsg.NewJoinGroupRequestProtocol()
			one.Name, one.Metadata = name, subscription(topics)
			req.Protocols = append(req.Protocols, one)
		}
		if list == "" {
			req.Protocols = nil
		}
		return req
	case "sync": // id= gen= instance= protocol=range type=consumer assign=id:what,id:what
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = version(5), group, opts["id"], nullable("instance")
		req.Generation = int32(s.number(opts["gen"], 1))
		req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
		if p := nullable("type"); p != nil {
			req.ProtocolType = p
		}
		if p := nullable("protocol"); p != nil {
			req.Protocol = p
		}
		if opts["protocol"] == "null" {
			req.Protocol = nil
		}
		if list := opts["assign"]; list != "" {
			for a := range strings.SplitSeq(list, ",") {
				one := kmsg.NewSyncGroupRequestGroupAssignment()
				id, what, _ := strings.Cut(a, ":")
				one.MemberID, one.MemberAssignment = id, []byte(what)
				req.GroupAssignment = append(req.GroupAssignment, one)
			}
		}
		return req
	case "heartbeat": // id= gen= instance=
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = version(4), group, opts["id"], nullable("instance")
		req.Generation = int32(s.number(opts["gen"], 1))
		return req
	case "leave": // id=a,b and instance=, or id alone below version 3
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = version(5), group, opts["id"]
		for id := range strings.SplitSeq(opts["id"], ",") {
			one := kmsg.NewLeaveGroupRequestMember()
			one.MemberID, one.InstanceID = id, nullable("instance")
			req.Members = append(req.Members, one)
		}
		return req
	}
	return s.offsetRequest(kind, opts, group, version)
}

// offsetRequest makes those about offsets and administration.
func (s *script) offsetRequest(kind string, opts map[string]string, group string, version func(int64) int16) kmsg.Request {
	switch kind {
	case "commit": // id= gen=-1 instance= offsets=T1/0:5:metadata,T1/1:6 epoch= retention= id= topicid= at=
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.MemberID = version(9), group, opts["id"]
		req.Generation = int32(s.number(opts["gen"], -1))
		if v, ok := opts["instance"]; ok {
			req.InstanceID = &v
		}
		if v := opts["retention"]; v != "" {
			req.RetentionTimeMillis = s.duration(v).Milliseconds()
		}
		for o := range strings.SplitSeq(opts["offsets"], ",") {
			parts := strings.Split(o, ":")
			topic, partition, _ := strings.Cut(parts[0], "/")
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID[15] = topic, byte(s.number(opts["topicid"], 0))
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch = int32(s.number(partition, 0)), s.number(parts[1], 0), int32(s.number(opts["epoch"], -1))
			if v := opts["at"]; v != "" {
				p.Timestamp = s.now.Add(s.duration(v)).UnixMilli()
			}
			if len(parts) > 2 {
				p.Metadata = &parts[2]
			}
			t.Partitions = append(t.Partitions, p)
			req.Topics = append(req.Topics, t)
		}
		return req
	case "fetch": // offsets=T1/0,T1/1 or none for all; stable=yes topicid=
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version, req.Group, req.RequireStable = version(9), group, opts["stable"] != ""
		one := kmsg.NewOffsetFetchRequestGroup()
		one.Group = group
		if opts["offsets"] != "" {
			for o := range strings.SplitSeq(opts["offsets"], ",") {
				topic, partition, _ := strings.Cut(o, "/")
				old, t := kmsg.NewOffsetFetchRequestTopic(), kmsg.NewOffsetFetchRequestGroupTopic()
				old.Topic, old.Partitions = topic, []int32{int32(s.number(partition, 0))}
				t.Topic, t.Partitions, t.TopicID[15] = topic, old.Partitions, byte(s.number(opts["topicid"], 0))
				req.Topics = append(req.Topics, old)
				one.Topics = append(one.Topics, t)
			}
		}
		req.Groups = append(req.Groups, one)
		return req
	case "describe":
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = version(6), []string{group}
		return req
	case "list": // states=a,b types=a,b
		req := kmsg.NewPtrListGroupsRequest()
		req.Version = version(5)
		if v := opts["states"]; v != "" {
			req.StatesFilter = strings.Split(v, ",")
		}
		if v := opts["types"]; v != "" {
			req.TypesFilter = strings.Split(v, ",")
		}
		return req
	case "delete":
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Version, req.Groups = version(2), []string{group}
		return req
	case "offset-delete": // offsets=T1/0
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = group
		for o := range strings.SplitSeq(opts["offsets"], ",") {
			topic, partition, _ := strings.Cut(o, "/")
			t, p := kmsg.NewOffsetDeleteRequestTopic(), kmsg.NewOffsetDeleteRequestTopicPartition()
			p.Partition = int32(s.number(partition, 0))
			t.Topic, t.Partitions = topic, append(t.Partitions, p)
			req.Topics = append(req.Topics, t)
		}
		return req
	}
	s.t.Fatalf("no such request: %s", kind)
	return nil
}

// subscription is a consumer's metadata; topics are joined with +, and a ! makes
// garbage of it.
func subscription(topics string) []byte {
	if topics == "!" {
		return []byte{0, 0, 0x7f, 0xff, 0xff, 0xff, 'x'}
	}
	meta := kmsg.NewConsumerMemberMetadata()
	if topics != "" {
		meta.Topics = strings.Split(topics, "+")
	}
	return meta.AppendTo(nil)
}
