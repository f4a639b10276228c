package group

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestReadGroup reads what kmsg writes, in every version.
func TestReadGroup(t *testing.T) {
	for version := range int16(newestGroupValue + 1) {
		v := kmsg.NewGroupMetadataValue()
		v.Version, v.ProtocolType, v.Generation, v.CurrentStateTimestamp = version, "consumer", 7, 1234
		v.Protocol, v.Leader = kmsg.StringPtr("range"), kmsg.StringPtr("b")
		v.UnknownTags.Set(9, []byte("what"))
		for _, id := range []string{"a", "b"} {
			x := kmsg.NewGroupMetadataValueMember()
			x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = id, kmsg.StringPtr("i"+id), "client", "/host"
			x.SessionTimeoutMillis, x.RebalanceTimeoutMillis = 10_000, 60_000
			x.Subscription, x.Assignment = subscription("T1+T2"), []byte("assigned "+id)
			x.UnknownTags.Set(3, nil)
			v.Members = append(v.Members, x)
		}
		m := New(Config{})
		record := Record{groupKey("g"), v.AppendTo(nil)}
		if err := m.Load(record, epoch); err != nil {
			t.Errorf("version %d: %v", version, err)
			continue
		}
		clear(record.Value) // the machine must have copied what it keeps
		g := m.groups["g"]
		got := fmt.Sprint(g.state, g.generation, g.kind, *g.protocol, g.leader.id, g.changed, g.subscribed("T2"), g.subscribed("T3"))
		for _, x := range g.order {
			got += fmt.Sprintf(" %s %s %s %v %v %q %s", x.id, x.client.ID, x.client.Host, x.sessionTimeout, x.rebalanceTimeout, x.metadata("range"), x.assignment)
			if x.instance != nil {
				got += " " + *x.instance
			}
		}
		changed, rebalance, instance := int64(0), "10s", ""
		if version >= 1 {
			rebalance = "1m0s"
		}
		if version >= 2 {
			changed = 1234
		}
		want := fmt.Sprint("Stable", 7, "consumer", "range", "b", changed, true, false)
		for _, id := range []string{"a", "b"} {
			if version >= 3 {
				instance = " i" + id
			}
			want += fmt.Sprintf(" %s client /host 10s %s %q assigned %s%s", id, rebalance, subscription("T1+T2"), id, instance)
		}
		if strings.Join(strings.Fields(got), "") != strings.Join(strings.Fields(want), "") {
			t.Errorf("version %d:\n got %s\nwant %s", version, got, want)
		}
	}
}

// TestReadOffset reads what kmsg writes, in every version of key and value.
func TestReadOffset(t *testing.T) {
	for version := range int16(newestOffsetValue + 1) {
		k := kmsg.OffsetCommitKey{Version: min(version, 1), Group: "g", Topic: "T1", Partition: 3}
		v := kmsg.NewOffsetCommitValue()
		v.Version, v.Offset, v.LeaderEpoch, v.Metadata = version, 42, 5, "meta"
		v.CommitTimestamp, v.ExpireTimestamp, v.TopicID = 1234, 5678, [16]byte{1}
		m := New(Config{})
		if err := m.Load(Record{k.AppendTo(nil), v.AppendTo(nil)}, epoch); err != nil {
			t.Errorf("version %d: %v", version, err)
			continue
		}
		want := committed{offset: 42, epoch: -1, metadata: kmsg.StringPtr("meta"), at: 1234, expires: -1}
		if version >= 3 {
			want.epoch = 5
		}
		if version == 1 {
			want.expires = 5678
		}
		if version == 4 {
			want.topicID = v.TopicID
		}
		got := m.groups["g"].offsets["T1"][3].committed
		if *got.metadata != *want.metadata {
			t.Errorf("version %d: metadata %q", version, *got.metadata)
		}
		got.metadata = want.metadata
		if got != want {
			t.Errorf("version %d: got %+v, want %+v", version, got, want)
		}
	}
}

// TestLoadRefuses says what is wrong with a record, and leaves the machine as it
// was.
func TestLoadRefuses(t *testing.T) {
	value := kmsg.NewGroupMetadataValue()
	value.Version = 3
	value.Members = make([]kmsg.GroupMetadataValueMember, 2) // both without an id
	twice := value.AppendTo(nil)
	value.Members[1].MemberID = "b"
	value.Members[0].InstanceID, value.Members[1].InstanceID = kmsg.StringPtr("i"), kmsg.StringPtr("i")
	instances := value.AppendTo(nil)
	offset := kmsg.OffsetCommitValue{Version: 3, Metadata: "meta"}
	whole := offset.AppendTo(nil)
	offsetKey := (&kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "T1"}).AppendTo(nil)
	f := func(key, value []byte, want string) {
		t.Helper()
		m := New(Config{})
		if err := m.Load(Record{offsetKey, whole}, epoch); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprintf("%+v", m.groups["g"])
		err := m.Load(Record{key, value}, epoch)
		switch {
		case err == nil && want != "":
			t.Errorf("no error; want %s", want)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%v; want %s", err, want)
		}
		if after := fmt.Sprintf("%+v", m.groups["g"]); after != before || len(m.groups) != 1 {
			t.Errorf("the machine has changed: %s, before %s", after, before)
		}
	}
	f(nil, nil, "key : no version")
	f([]byte{0}, nil, "no version")
	f([]byte{0xff, 0xff}, nil, "no version")
	f([]byte{0, 3, 0, 1, 'g'}, []byte("KIP-848"), "")
	f([]byte{0x7f, 0xff}, []byte{0xff}, "")
	f(offsetKey[:len(offsetKey)-1], whole, "offset key of version 1: truncated")
	f(offsetKey, []byte{}, "no version")
	f(offsetKey, []byte{0, 5, 0}, `offset of group "g", topic "T1", partition 0: value has version 5, newer than 4`)
	for n := 2; n < len(whole); n++ {
		f(offsetKey, whole[:n], "value of version 3: truncated")
	}
	f([]byte{0, 2, 0, 5, 'g'}, nil, "group key: truncated")
	f(groupKey("g"), []byte{}, `group "g": value : no version`)
	f(groupKey("g"), []byte{0, 5}, "value has version 5, newer than 4")
	f(groupKey("g"), twice, `member "" is there twice`)
	f(groupKey("g"), instances, `member "b" is there twice`)
	for n := 2; n < len(twice); n++ {
		f(groupKey("g"), twice[:n], "value of version 3: truncated")
	}
	// Counts and lengths that nothing bears out.
	f(groupKey("g"), append([]byte{0, 3}, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff), "truncated")
	f(offsetKey, append([]byte{0, 4}, bytes.Repeat([]byte{0xff}, 40)...), "truncated")
}

// TestGroupTombstone: what is left of a group are its offsets, if it has any.
func TestGroupTombstone(t *testing.T) {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.Generation, v.ProtocolType, v.Protocol = 3, 7, "consumer", kmsg.StringPtr("range")
	v.Members = []kmsg.GroupMetadataValueMember{{MemberID: "a", InstanceID: kmsg.StringPtr("i"), SessionTimeoutMillis: 10_000}}
	offsetKey := kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "T1"}
	m := New(Config{})
	for _, r := range []Record{
		{groupKey("g"), v.AppendTo(nil)},
		{offsetKey.AppendTo(nil), (&kmsg.OffsetCommitValue{Version: 3}).AppendTo(nil)},
		{groupKey("g"), nil},
		{groupKey("other"), nil},
	} {
		if err := m.Load(r, epoch); err != nil {
			t.Fatal(err)
		}
	}
	g := m.groups["g"]
	if err := consistent(m, g); err != nil || g.state != empty || g.generation != 0 || g.kind != "" || g.logged || len(g.offsets) != 1 {
		t.Errorf("%v: %+v", err, g)
	}
	if err := m.Load(Record{offsetKey.AppendTo(nil), nil}, epoch); err != nil || len(m.groups) != 0 {
		t.Errorf("%v: %d groups", err, len(m.groups))
	}
}

// TestSubscription reads what consumers say when they join.
func TestSubscription(t *testing.T) {
	for version := range int16(4) {
		meta := kmsg.NewConsumerMemberMetadata()
		meta.Version, meta.Topics, meta.UserData = version, []string{"T1", "T2"}, []byte("what")
		topics := map[string]struct{}{}
		if !addSubscription(topics, meta.AppendTo(nil)) || len(topics) != 2 {
			t.Errorf("version %d: %v", version, topics)
		}
	}
	f := func(b ...byte) {
		t.Helper()
		if addSubscription(map[string]struct{}{}, b) {
			t.Errorf("%x was read", b)
		}
	}
	f()
	f(0)
	f(0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
	f(0, 0, 0x7f, 0xff, 0xff, 0xff)
	f(0, 0, 0, 0, 0, 1, 0, 9, 'x')
	f(0, 0, 0, 0, 0, 0, 0, 0, 0, 9)
}
