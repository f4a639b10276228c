package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newTestMachine(cfg Config) *Machine {
	ids := 0
	cfg.NewMemberID = func(prefix string) string { ids++; return fmt.Sprintf("%s-%d", prefix, ids) }
	m := New(cfg)
	m.Loaded(epoch)
	return m
}

// only is the one response that an event led to.
func only[R kmsg.Response](t testing.TB, fx Effects) R {
	t.Helper()
	if len(fx.Replies) != 1 {
		t.Fatalf("%d replies", len(fx.Replies))
	}
	return fx.Replies[0].Resp.(R)
}

// TestLongNames: what the records, or the older versions of responses, have no
// room for is refused, and client ids are cut where they go into member ids.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	join := func(change func(*kmsg.JoinGroupRequest), c Client) (*kmsg.JoinGroupResponse, *Machine) {
		m := newTestMachine(Config{})
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.ProtocolType, req.SessionTimeoutMillis = 6, "g", "consumer", 10_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		change(req)
		return only[*kmsg.JoinGroupResponse](t, m.Handle(epoch, nil, c, req)), m
	}
	f := func(want *kerr.Error, c Client, change func(*kmsg.JoinGroupRequest)) {
		t.Helper()
		resp, m := join(change, c)
		if resp.ErrorCode != want.Code {
			t.Errorf("got %v, want %v", kerr.ErrorForCode(resp.ErrorCode), want)
		}
		if want != kerr.MemberIDRequired && len(m.groups) > 0 {
			t.Error("a group was made")
		}
	}
	f(kerr.InvalidGroupID, Client{}, func(r *kmsg.JoinGroupRequest) { r.Group = long })
	f(kerr.InvalidRequest, Client{}, func(r *kmsg.JoinGroupRequest) { r.ProtocolType = long })
	f(kerr.InvalidRequest, Client{}, func(r *kmsg.JoinGroupRequest) { r.InstanceID = &long })
	f(kerr.InvalidRequest, Client{}, func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = long })
	f(kerr.InvalidRequest, Client{Host: long}, func(r *kmsg.JoinGroupRequest) {})
	f(kerr.MemberIDRequired, Client{ID: long[:32_000]}, func(r *kmsg.JoinGroupRequest) {})
	if resp, _ := join(func(*kmsg.JoinGroupRequest) {}, Client{ID: long[:32_000]}); len(resp.MemberID) > 300 {
		t.Errorf("a member id of %d bytes", len(resp.MemberID))
	}

	m := newTestMachine(Config{})
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group = 8, "g"
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: long, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
	resp := only[*kmsg.OffsetCommitResponse](t, m.Handle(epoch, nil, Client{}, commit))
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("got %v", kerr.ErrorForCode(code))
	}
	commit.Group = long
	resp = only[*kmsg.OffsetCommitResponse](t, m.Handle(epoch, nil, Client{}, commit))
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != kerr.InvalidGroupID.Code {
		t.Errorf("got %v", kerr.ErrorForCode(code))
	}
}

// TestManyTombstones: a group with thousands of offsets is deleted in several
// writes, its own record last.
func TestManyTombstones(t *testing.T) {
	m := newTestMachine(Config{})
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group = 8, "g"
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "T1"}}
	for i := range 2500 {
		commit.Topics[0].Partitions = append(commit.Topics[0].Partitions, kmsg.OffsetCommitRequestTopicPartition{Partition: int32(i)})
	}
	fx := m.Handle(epoch, "commit", Client{}, commit)
	m.Stored(epoch, fx.Writes[0], nil)

	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Groups = []string{"g"}
	fx = m.Handle(epoch, "delete", Client{}, remove)
	var sizes []int
	for _, w := range fx.Writes {
		sizes = append(sizes, len(w.Records))
	}
	if fmt.Sprint(sizes) != "[1000 1000 500]" {
		t.Fatalf("tombstones in writes of %v", sizes)
	}
	m.Stored(epoch, fx.Writes[0], nil)
	m.Stored(epoch, fx.Writes[1], kerr.NotEnoughReplicas)
	resp := only[*kmsg.DeleteGroupsResponse](t, m.Stored(epoch, fx.Writes[2], nil))
	if resp.Groups[0].ErrorCode != kerr.CoordinatorNotAvailable.Code {
		t.Errorf("got %v", kerr.ErrorForCode(resp.Groups[0].ErrorCode))
	}
	if n := len(m.groups["g"].offsets["T1"]); n != 1000 || m.groups["g"].state != empty {
		t.Errorf("%d offsets are left, and the group is %v", n, m.groups["g"].state)
	}
}

// TestTimeStandsStill: a clock that goes back moves nothing.
func TestTimeStandsStill(t *testing.T) {
	m := newTestMachine(Config{OffsetsRetentionCheck: time.Minute})
	m.Tick(epoch.Add(time.Minute))
	m.Tick(epoch)
	if next := m.Next(); !next.Equal(epoch.Add(2 * time.Minute)) {
		t.Errorf("next is at %v", next.Sub(epoch))
	}
}

// TestGenerationWraps: the log may hold any number.
func TestGenerationWraps(t *testing.T) {
	m := New(Config{InitialRebalanceDelay: -1, NewMemberID: func(string) string { return "a" }})
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.Generation, v.ProtocolType = 3, 1<<31-1, "consumer"
	if err := m.Load(Record{groupKey("g"), v.AppendTo(nil)}, epoch); err != nil {
		t.Fatal(err)
	}
	m.Loaded(epoch)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.SessionTimeoutMillis = "g", "consumer", 10_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	if resp := only[*kmsg.JoinGroupResponse](t, m.Handle(epoch, nil, Client{}, req)); resp.Generation != 1 {
		t.Errorf("generation %d", resp.Generation)
	}
}

// TestOversized: a group that is larger than the limit allows now is rebalanced.
func TestOversized(t *testing.T) {
	m := New(Config{MaxSize: 1})
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Protocol = 3, "consumer", kmsg.StringPtr("range")
	v.Members = []kmsg.GroupMetadataValueMember{{MemberID: "a", SessionTimeoutMillis: 10_000}, {MemberID: "b", SessionTimeoutMillis: 10_000}}
	if err := m.Load(Record{groupKey("g"), v.AppendTo(nil)}, epoch); err != nil {
		t.Fatal(err)
	}
	m.Loaded(epoch)
	if s := m.groups["g"].state; s != preparing {
		t.Errorf("the group is %v", s)
	}
}

// TestBugs: what only a bug of the caller can do.
func TestBugs(t *testing.T) {
	f := func(name string, bug func(m *Machine)) {
		t.Helper()
		defer func() {
			if msg := fmt.Sprint(recover()); !strings.HasPrefix(msg, "BUG: ") {
				t.Errorf("%s: %s", name, msg)
			}
		}()
		bug(newTestMachine(Config{}))
	}
	f("another request", func(m *Machine) { m.Handle(epoch, nil, Client{}, kmsg.NewPtrFetchRequest()) })
	f("refused", func(m *Machine) { Refuse(kmsg.NewPtrFetchRequest(), kerr.NotCoordinator) })
	f("two groups", func(m *Machine) {
		m.Handle(epoch, nil, Client{}, &kmsg.DeleteGroupsRequest{Groups: []string{"a", "b"}})
	})
	f("told twice", func(m *Machine) {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
		w := m.Handle(epoch, nil, Client{}, req).Writes[0]
		m.Stored(epoch, w, nil)
		m.Stored(epoch, w, nil)
	})
}

func TestConfig(t *testing.T) {
	id := func(string) string { return "" }
	f := func(c Config, want string) {
		t.Helper()
		err := c.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(Config{NewMemberID: id}, "")
	f(Config{}, "NewMemberID")
	f(Config{NewMemberID: id, MinSessionTimeout: time.Hour}, "session timeouts from 1h0m0s to 30m0s")
	f(Config{NewMemberID: id, MinSessionTimeout: -1}, "session timeouts")
	f(Config{NewMemberID: id, MaxSize: -1}, "group size")
	f(Config{NewMemberID: id, MaxOffsetMetadata: -1}, "offset metadata")
	f(Config{NewMemberID: id, OffsetsRetentionCheck: -1}, "offsets are checked")
}
