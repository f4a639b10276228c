package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What __consumer_offsets holds. A key begins with its version, which says what
// it is about.
const (
	keyOffsetOld = 0
	keyOffset    = 1 // group, topic, partition; value: a committed offset
	keyGroup     = 2 // group; value: its generation, with all members

	// Values are written in the oldest version that holds what they say, so
	// that tools of any age can read the topic.
	valueOffsetExpiring = 1 // with a time of expiry, as OffsetCommit 2-4 asks for
	valueOffset         = 3
	valueOffsetTopicID  = 4
	valueGroup          = 3

	newestOffsetValue = 4
	newestGroupValue  = 4
)

// writeMetadata sends the group's generation to the log, with the assignments
// that assignment tells.
func (m *Machine) writeMetadata(g *group, assignment func(*member) []byte, done func(err error)) {
	g.logged = true
	m.write(g, []Record{{groupKey(g.name), g.record(assignment)}}, done)
}

func groupKey(name string) []byte {
	k := kmsg.GroupMetadataKey{Version: keyGroup, Group: name}
	return k.AppendTo(make([]byte, 0, 4+len(name)))
}

// record encodes the group's generation.
func (g *group) record(assignment func(*member) []byte) []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = valueGroup
	v.ProtocolType, v.Generation, v.Protocol = g.kind, g.generation, g.protocol
	if g.changed > 0 {
		v.CurrentStateTimestamp = g.changed
	}
	if g.leader != nil {
		v.Leader = &g.leader.id
	}
	v.Members = make([]kmsg.GroupMetadataValueMember, len(g.order))
	size := 64 + len(g.kind)
	for i, x := range g.order {
		one := &v.Members[i]
		one.MemberID, one.InstanceID, one.ClientID, one.ClientHost = x.id, x.instance, x.client.ID, x.client.Host
		one.RebalanceTimeoutMillis = int32(x.rebalanceTimeout / time.Millisecond)
		one.SessionTimeoutMillis = int32(x.sessionTimeout / time.Millisecond)
		one.Subscription, one.Assignment = x.metadata(*g.protocol), assignment(x)
		size += 32 + 2*len(x.id) + len(x.client.ID) + len(x.client.Host) + len(one.Subscription) + len(one.Assignment)
	}
	return v.AppendTo(make([]byte, 0, size))
}

// records encodes many records into few allocations.
type records struct {
	buf  []byte
	ends []int // of key, value, key, value, ...; a value that is empty is a tombstone
}

func (b *records) grow(n, size int) {
	b.buf = slices.Grow(b.buf, size)
	b.ends = slices.Grow(b.ends, 2*n)
}

func (b *records) tombstone(group, topic string, partition int32) {
	k := kmsg.OffsetCommitKey{Version: keyOffset, Group: group, Topic: topic, Partition: partition}
	b.buf = k.AppendTo(b.buf)
	b.ends = append(b.ends, len(b.buf), len(b.buf))
}

func (b *records) offset(group, topic string, partition int32, c *committed) {
	b.tombstone(group, topic, partition)
	v := kmsg.OffsetCommitValue{Version: valueOffset, Offset: c.offset, LeaderEpoch: c.epoch,
		Metadata: *c.metadata, CommitTimestamp: c.at, ExpireTimestamp: c.expires, TopicID: c.topicID}
	switch {
	case c.expires >= 0:
		v.Version = valueOffsetExpiring
	case c.topicID != [16]byte{}:
		v.Version = valueOffsetTopicID
	}
	b.buf = v.AppendTo(b.buf)
	b.ends[len(b.ends)-1] = len(b.buf)
}

func (b *records) done() []Record {
	out := make([]Record, len(b.ends)/2)
	from := 0
	for i := range out {
		key, value := b.ends[2*i], b.ends[2*i+1]
		out[i].Key = b.buf[from:key:key]
		if value > key {
			out[i].Value = b.buf[key:value:value]
		}
		from = value
	}
	return out
}
