package group

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fields joins "key=value" for all values that are there.
func fields(kv ...any) string {
	var out []string
	for i := 0; i < len(kv); i += 2 {
		v := kv[i+1]
		switch p := v.(type) {
		case *string:
			if p == nil {
				continue
			}
			v = *p
		case string:
			if p == "" {
				continue
			}
		}
		out = append(out, fmt.Sprintf("%s=%v", kv[i], v))
	}
	return strings.Join(out, " ")
}

func codeText(code int16) string {
	if code == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(code).Message
}

// responseText is a response on one line.
func responseText(resp kmsg.Response) string {
	var b strings.Builder
	switch resp := resp.(type) {
	case *kmsg.JoinGroupResponse:
		var who []string
		for _, x := range resp.Members {
			who = append(who, x.MemberID)
		}
		b.WriteString(codeText(resp.ErrorCode) + " " + fields("member", resp.MemberID))
		if resp.ErrorCode == 0 {
			b.WriteString(" " + fields("gen", resp.Generation, "protocol", resp.Protocol, "leader", resp.LeaderID, "members", strings.Join(who, ",")))
		}
		if resp.SkipAssignment {
			b.WriteString(" skip")
		}
	case *kmsg.SyncGroupResponse:
		b.WriteString(codeText(resp.ErrorCode) + " " + fields("protocol", resp.Protocol, "assignment", string(resp.MemberAssignment)))
	case *kmsg.HeartbeatResponse:
		b.WriteString(codeText(resp.ErrorCode))
	case *kmsg.LeaveGroupResponse:
		b.WriteString(codeText(resp.ErrorCode))
		for _, x := range resp.Members {
			fmt.Fprintf(&b, " [%s %s]", fields("id", x.MemberID, "instance", x.InstanceID), codeText(x.ErrorCode))
		}
	case *kmsg.OffsetCommitResponse:
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintf(&b, " %s/%d %s", t.Topic, p.Partition, codeText(p.ErrorCode))
			}
		}
	case *kmsg.OffsetFetchResponse:
		b.WriteString(fetchText(resp))
	case *kmsg.DescribeGroupsResponse:
		for _, g := range resp.Groups {
			b.WriteString(codeText(g.ErrorCode) + " " + fields("group", g.Group, "state", g.State, "type", g.ProtocolType, "protocol", g.Protocol, "message", g.ErrorMessage))
			for _, x := range g.Members {
				b.WriteString(" [" + fields("id", x.MemberID, "instance", x.InstanceID, "client", x.ClientID, "host", x.ClientHost,
					"topics", topicsText(x.ProtocolMetadata), "assignment", string(x.MemberAssignment)) + "]")
			}
		}
	case *kmsg.ListGroupsResponse:
		b.WriteString(codeText(resp.ErrorCode))
		for _, g := range resp.Groups {
			b.WriteString(" [" + fields("group", g.Group, "state", g.GroupState, "type", g.GroupType, "kind", g.ProtocolType) + "]")
		}
	case *kmsg.DeleteGroupsResponse:
		for _, g := range resp.Groups {
			b.WriteString(codeText(g.ErrorCode) + " " + fields("group", g.Group))
		}
	case *kmsg.OffsetDeleteResponse:
		b.WriteString(codeText(resp.ErrorCode))
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintf(&b, " %s/%d %s", t.Topic, p.Partition, codeText(p.ErrorCode))
			}
		}
	}
	return strings.TrimSpace(b.String())
}

func fetchText(resp *kmsg.OffsetFetchResponse) string {
	var b strings.Builder
	b.WriteString(codeText(resp.ErrorCode))
	one := func(topic string, partition int32, offset int64, epoch int32, metadata *string, code int16) {
		fmt.Fprintf(&b, " [%s/%d", topic, partition)
		if code != 0 {
			b.WriteString(" " + codeText(code))
		}
		b.WriteString(" " + fields("offset", offset, "epoch", epoch, "metadata", *metadata) + "]")
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			one(t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
		}
	}
	for _, g := range resp.Groups {
		if g.ErrorCode != 0 {
			b.WriteString(" " + codeText(g.ErrorCode))
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				one(t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
	}
	return b.String()
}

func topicsText(metadata []byte) string {
	if len(metadata) == 0 {
		return ""
	}
	var meta kmsg.ConsumerMemberMetadata
	if err := meta.ReadFrom(metadata); err != nil {
		return "garbage"
	}
	return strings.Join(meta.Topics, "+")
}

// recordText is a record on one line, read with kmsg.
func recordText(r Record) string {
	var version kmsg.OffsetCommitKey
	if err := version.ReadFrom(r.Key); err == nil && version.Version <= 1 {
		where := fmt.Sprintf("offset %s %s/%d", version.Group, version.Topic, version.Partition)
		if r.Value == nil {
			return where + " tombstone"
		}
		v := kmsg.NewOffsetCommitValue()
		v.ExpireTimestamp = -1
		if err := v.ReadFrom(r.Value); err != nil {
			return where + " " + err.Error()
		}
		text := where + " " + fields("v", v.Version, "offset", v.Offset, "epoch", v.LeaderEpoch, "metadata", v.Metadata, "at", since(v.CommitTimestamp))
		if v.ExpireTimestamp >= 0 {
			text += " " + fields("expires", since(v.ExpireTimestamp))
		}
		return text
	}
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(r.Key); err != nil {
		return err.Error()
	}
	where := "group " + k.Group
	if r.Value == nil {
		return where + " tombstone"
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(r.Value); err != nil {
		return where + " " + err.Error()
	}
	text := where + " " + fields("v", v.Version, "gen", v.Generation, "type", v.ProtocolType, "protocol", v.Protocol, "leader", v.Leader, "at", since(v.CurrentStateTimestamp))
	for _, x := range v.Members {
		text += " [" + fields("id", x.MemberID, "instance", x.InstanceID, "topics", topicsText(x.Subscription), "assignment", string(x.Assignment)) + "]"
	}
	return text
}

func since(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return time.UnixMilli(ms).Sub(epoch).String()
}
