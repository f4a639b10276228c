package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzLoad reads any record after a good one. What was read must make sense, go
// on working, and come out as it went in when it is written again.
func FuzzLoad(f *testing.F) {
	group := kmsg.NewGroupMetadataValue()
	group.ProtocolType, group.Protocol, group.Generation = "consumer", kmsg.StringPtr("range"), 3
	for i := range 2 {
		x := kmsg.NewGroupMetadataValueMember()
		x.MemberID, x.SessionTimeoutMillis = fmt.Sprintf("m%d", i), 10_000
		x.Subscription, x.Assignment = subscription("T1"), []byte("a")
		group.Members = append(group.Members, x)
	}
	offset := kmsg.NewOffsetCommitValue()
	offset.Offset, offset.Metadata = 5, "meta"
	offsetKey := kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "T1"}
	for version := range int16(6) {
		group.Version, offset.Version = version, version
		f.Add(groupKey("g"), group.AppendTo(nil))
		f.Add(offsetKey.AppendTo(nil), offset.AppendTo(nil))
	}
	f.Add(groupKey("g"), []byte(nil))
	f.Add([]byte{0, 3, 0, 1, 'g'}, []byte{0, 0})

	f.Fuzz(func(t *testing.T, key, value []byte) {
		m := New(Config{MaxSize: 1 << 20, NewMemberID: func(string) string { return "new" }})
		group.Version, offset.Version = 3, 3
		for _, r := range []Record{{groupKey("g"), group.AppendTo(nil)}, {offsetKey.AppendTo(nil), offset.AppendTo(nil)}} {
			if err := m.Load(r, epoch); err != nil {
				t.Fatal(err)
			}
		}
		if m.Load(Record{key, value}, epoch) != nil {
			return
		}
		again := New(m.cfg)
		for _, g := range m.groups {
			if g.state == stable || g.logged {
				if err := again.Load(Record{groupKey(g.name), g.record(assigned)}, epoch); err != nil {
					t.Fatalf("what was read can't be read again: %v", err)
				}
				a, b := g.record(assigned), again.groups[g.name].record(assigned)
				if string(a) != string(b) {
					t.Fatalf("%x was read, and was %x then", a, b)
				}
			}
		}
		m.Loaded(epoch)
		for _, g := range m.groups {
			if err := consistent(m, g); err != nil {
				t.Fatal(err)
			}
		}
		// Time passes: sessions end, offsets expire.
		for range 1000 {
			now := m.Next()
			if now.After(epoch.Add(90 * 24 * time.Hour)) {
				break
			}
			for fx := m.Tick(now); len(fx.Writes) > 0; {
				w := fx.Writes[0]
				more := m.Stored(now, w, nil)
				fx.Writes = append(fx.Writes[1:], more.Writes...)
			}
		}
		for _, g := range m.groups {
			if err := consistent(m, g); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzHandle plays requests that bytes describe.
func FuzzHandle(f *testing.F) {
	f.Add([]byte{0, 9, 0, 0, 0, 1, 9, 1, 0, 0, 1, 9, 9, 2, 1, 1})
	f.Add([]byte("joins and syncs and heartbeats and commits and all the rest of it, in any order"))
	f.Fuzz(func(t *testing.T, src []byte) {
		h := &handled{t: t, src: src, now: epoch, owed: map[int]bool{}, ids: []string{""}}
		h.m = New(Config{InitialRebalanceDelay: -1, MaxSize: 3, NewMemberID: func(string) string {
			id := fmt.Sprintf("m%d", len(h.ids))
			h.ids = append(h.ids, id)
			return id
		}})
		h.effects(h.m.Loaded(h.now))
		for len(h.src) > 0 {
			h.step()
			for _, g := range h.m.groups {
				if err := consistent(h.m, g); err != nil {
					t.Fatalf("group %s, %v: %v", g.name, g.state, err)
				}
			}
		}
		h.effects(h.m.Resign(h.now))
		if len(h.owed) > 0 {
			t.Fatalf("%d requests were not answered", len(h.owed))
		}
	})
}

type handled struct {
	t      *testing.T
	m      *Machine
	src    []byte
	now    time.Time
	refs   int
	owed   map[int]bool
	ids    []string
	writes []*Write
}

func (h *handled) pick(n int) int {
	if len(h.src) == 0 {
		return 0
	}
	b := h.src[0]
	h.src = h.src[1:]
	return int(b) % n
}

func (h *handled) step() {
	switch h.pick(16) {
	case 0:
		h.now = h.now.Add(time.Duration(h.pick(200)) * time.Second)
		h.effects(h.m.Tick(h.now))
	case 1, 2, 3:
		if len(h.writes) == 0 {
			return
		}
		i := h.pick(len(h.writes))
		w := h.writes[i]
		h.writes = append(h.writes[:i:i], h.writes[i+1:]...)
		var err error
		if h.pick(4) == 0 {
			err = kerr.NotEnoughReplicas
		}
		h.effects(h.m.Stored(h.now, w, err))
	case 4:
		h.effects(h.m.RemoveTopic(h.now, "T1"))
	default:
		h.refs++
		h.owed[h.refs] = true
		h.effects(h.m.Handle(h.now, h.refs, Client{ID: "c"}, h.request()))
	}
}

func (h *handled) effects(fx Effects) {
	for _, r := range fx.Replies {
		ref := r.Ref.(int)
		if !h.owed[ref] {
			h.t.Fatalf("request %d was answered twice", ref)
		}
		delete(h.owed, ref)
		r.Resp.AppendTo(nil)
	}
	h.writes = append(h.writes, fx.Writes...)
}

func (h *handled) request() kmsg.Request {
	id, instance := h.ids[h.pick(len(h.ids))], (*string)(nil)
	if h.pick(3) == 0 {
		instance = kmsg.StringPtr(string(rune('i' + h.pick(2))))
	}
	generation := int32(h.pick(8) - 1)
	switch kind, version := h.pick(10), int16(h.pick(11)); kind {
	case 0, 1, 2:
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.MemberID, r.InstanceID = min(version, 9), "g", id, instance
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 6000+int32(h.pick(100))*100, int32(h.pick(100)-1)*100
		r.ProtocolType = []string{"consumer", "consumer", "consumer", "connect"}[h.pick(4)]
		for range h.pick(3) + 1 {
			name, size := string(rune('a'+h.pick(3))), h.pick(20)
			r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: h.src[:min(size, len(h.src))]})
		}
		return r
	case 3, 4:
		r := kmsg.NewPtrSyncGroupRequest()
		r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = min(version, 4), "g", id, instance, generation
		r.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: h.ids[h.pick(len(h.ids))], MemberAssignment: []byte("a")}}
		return r
	case 5:
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.MemberID, r.InstanceID, r.Generation = "g", id, instance, generation
		return r
	case 6:
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Version, r.Group, r.MemberID = min(version, 5), "g", id
		r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: id, InstanceID: instance}, {MemberID: h.ids[h.pick(len(h.ids))]}}
		return r
	case 7:
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = max(version, 1), "g", id, instance, generation
		r.RetentionTimeMillis = int64(h.pick(256)-1) << h.pick(64)
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "T1", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: int32(h.pick(3))}}}}
		return r
	case 8:
		r := kmsg.NewPtrOffsetFetchRequest()
		r.Version, r.Group = max(version, 1), "g"
		r.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
		return r
	}
	switch h.pick(4) {
	case 0:
		return &kmsg.DeleteGroupsRequest{Groups: []string{"g"}}
	case 1:
		return &kmsg.DescribeGroupsRequest{Groups: []string{"g"}}
	case 2:
		return &kmsg.ListGroupsRequest{}
	}
	r := kmsg.NewPtrOffsetDeleteRequest()
	r.Group = "g"
	r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "T1", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: int32(h.pick(3))}}}}
	return r
}
