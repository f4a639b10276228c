package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// filled is a machine with stable groups of so many members each.
func filled(b *testing.B, groups, members int) (*Machine, time.Time) {
	b.Helper()
	n := 0
	m := New(Config{InitialRebalanceDelay: time.Second, NewMemberID: func(p string) string { n++; return fmt.Sprintf("%s-%d", p, n) }})
	m.Loaded(epoch)
	for i := range groups {
		for range members {
			m.Handle(epoch, nil, Client{ID: "client", Host: "/127.0.0.1"}, benchJoin(fmt.Sprintf("g%d", i), ""))
		}
	}
	now := epoch
	for m.groups["g0"].state == preparing {
		now = m.Next()
		m.Tick(now)
	}
	for _, g := range m.groups {
		assign(m, now, g)
	}
	return m, now
}

func benchJoin(group, id string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 3, group, id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 45_000, 60_000
	for _, name := range []string{"range", "cooperative-sticky"} {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, subscription("topic-1+topic-2")
		req.Protocols = append(req.Protocols, p)
	}
	return req
}

// assign lets all members of a group sync, and stores it.
func assign(m *Machine, now time.Time, g *group) {
	var writes []*Write
	for _, x := range g.order {
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.Generation = 3, g.name, x.id, g.generation
		if x == g.leader {
			for _, y := range g.order {
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: y.id, MemberAssignment: make([]byte, 40)})
			}
		}
		writes = append(writes, m.Handle(now, nil, Client{}, req).Writes...)
	}
	for _, w := range writes {
		m.Stored(now, w, nil)
	}
	if g.state != stable {
		panic("the group is " + g.state.String())
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	for _, members := range []int{1, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			m, now := filled(b, 1, members)
			g := m.groups["g0"]
			reqs := make([]*kmsg.HeartbeatRequest, members)
			for i, x := range g.order {
				reqs[i] = kmsg.NewPtrHeartbeatRequest()
				reqs[i].Version, reqs[i].Group, reqs[i].MemberID, reqs[i].Generation = 4, "g0", x.id, g.generation
			}
			ref, i := any(b), 0
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				m.Tick(now)
				fx := m.Handle(now, ref, Client{}, reqs[i%members])
				if fx.Replies[0].Resp.(*kmsg.HeartbeatResponse).ErrorCode != 0 {
					b.Fatal("a member is gone")
				}
				i++
			}
		})
	}
}

func BenchmarkCommit100(b *testing.B) {
	m, now := filled(b, 1, 1)
	g := m.groups["g0"]
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, "g0", g.leader.id, g.generation
	for i := range 10 {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = fmt.Sprintf("topic-%d", i)
		for j := range 10 {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = int32(j), 1<<40
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	b.ReportAllocs()
	for b.Loop() {
		fx := m.Handle(now, nil, Client{}, req)
		if len(m.Stored(now, fx.Writes[0], nil).Replies) != 1 {
			b.Fatal("no answer")
		}
	}
}

func BenchmarkFetchAll(b *testing.B) {
	m, now := filled(b, 1, 1)
	g := m.groups["g0"]
	for i := range 100 {
		o := g.slot(fmt.Sprintf("topic-%d", i/10), int32(i%10))
		o.known, o.metadata = true, noMetadata
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 7, "g0"
	b.ReportAllocs()
	for b.Loop() {
		m.Handle(now, nil, Client{}, req)
	}
}

// BenchmarkRebalance is a whole rebalance: all join, all sync, it is stored.
func BenchmarkRebalance(b *testing.B) {
	for _, members := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			m, now := filled(b, 1, members)
			g := m.groups["g0"]
			b.ReportAllocs()
			for b.Loop() {
				for _, x := range g.order {
					m.Handle(now, nil, Client{}, benchJoin("g0", x.id))
				}
				assign(m, now, g)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*members), "µs/member")
		})
	}
}

// BenchmarkTick asks when Tick is due, and ticks, with 1,000 groups of 10
// members that all send heartbeats.
func BenchmarkTick(b *testing.B) {
	m, now := filled(b, 1000, 10)
	var members []*member
	for _, g := range m.sorted() {
		members = append(members, g.order...)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100 * time.Microsecond) // 10,000 heartbeats a second: each member's every second
		m.begin(now)
		m.touch(members[i%len(members)])
		if !m.Next().After(now) {
			if fx := m.Tick(now); len(fx.Replies) > 0 {
				b.Fatal("a member is gone")
			}
		}
		i++
	}
}

// BenchmarkLoad reads a generation of 100 members.
func BenchmarkLoad(b *testing.B) {
	m, _ := filled(b, 1, 100)
	r := Record{groupKey("g0"), m.groups["g0"].record(assigned)}
	again := New(m.cfg)
	b.ReportAllocs()
	b.SetBytes(int64(len(r.Value)))
	for b.Loop() {
		if err := again.Load(r, epoch); err != nil {
			b.Fatal(err)
		}
	}
}
