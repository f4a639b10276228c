package testcluster

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// TestGroupShares: members share partitions, whoever stays takes over what those
// that leave had, and every record is read, committed and shown.
func TestGroupShares(t *testing.T) {
	c := Start(t, 3, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 6)
	c.write(t, "orders", 0, 600, 6)
	a, b := c.join(t, "a", "orders"), c.join(t, "b", "orders")
	share(t, 6, a, b)
	read(t, 600, a, b)
	testetcd.Eventually(t, "all is committed", func() bool { return c.committed(t, "orders") == 600 })

	described, err := adm.DescribeGroups(t.Context(), "g")
	if err != nil || described.Error() != nil {
		t.Fatal(err, described.Error())
	}
	g := described["g"]
	if g.State != "Stable" || len(g.Members) != 2 || g.ProtocolType != "consumer" || !slices.Contains([]string{"a", "b"}, g.Members[0].ClientID) {
		t.Errorf("group %+v", g)
	}
	for _, m := range g.Members {
		if as, ok := m.Assigned.AsConsumer(); !ok || len(as.Topics) != 1 || len(as.Topics[0].Partitions) != 3 {
			t.Errorf("member %s has %+v", m.MemberID, as)
		}
	}
	if _, err := adm.DeleteGroup(t.Context(), "g"); err == nil {
		t.Error("a group with members was deleted")
	}

	a.stop()
	share(t, 6, b)
	c.write(t, "orders", 600, 60, 6)
	read(t, 660, a, b)
	b.stop()
	testetcd.Eventually(t, "the group is empty", func() bool {
		listed, err := adm.ListGroups(t.Context())
		return err == nil && listed["g"].State == "Empty"
	})
	if resp, err := adm.DeleteGroup(t.Context(), "g"); err != nil || resp.Err != nil {
		t.Fatal(err, resp.Err)
	}
	if sum := c.committed(t, "orders"); sum != 0 {
		t.Errorf("a deleted group has offsets, %d in all", sum)
	}
}

// TestStaticMember: a member with an instance id that restarts gets its partitions
// back, and the others notice nothing.
func TestStaticMember(t *testing.T) {
	c := Start(t, 3, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 4)
	a, b := c.join(t, "a", "orders", kgo.InstanceID("ia")), c.join(t, "b", "orders", kgo.InstanceID("ib"))
	share(t, 4, a, b)
	had := b.partitions()
	gained, lost := a.counts()
	b.stop()
	b = c.join(t, "b", "orders", kgo.InstanceID("ib"))
	testetcd.Eventually(t, "the member has its partitions back", func() bool { return slices.Equal(b.partitions(), had) })
	c.write(t, "orders", 0, 100, 4)
	read(t, 100, a, b)
	if g, l := a.counts(); g != gained || l != lost {
		t.Errorf("the other member was assigned %d times, %d before; %d times less, %d before", g, gained, l, lost)
	}
}

// TestCooperativeMembers: who joins takes some of the partitions over; nobody is
// without any meanwhile.
func TestCooperativeMembers(t *testing.T) {
	c := Start(t, 3, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 6)
	sticky := kgo.Balancers(kgo.CooperativeStickyBalancer())
	a := c.join(t, "a", "orders", sticky)
	share(t, 6, a)
	a.mu.Lock()
	a.least = 6
	a.mu.Unlock()
	b := c.join(t, "b", "orders", sticky)
	share(t, 6, a, b)
	a.mu.Lock()
	least := a.least
	a.mu.Unlock()
	if least != 3 {
		t.Errorf("the first member had %d partitions at one time, want 3", least)
	}
	c.write(t, "orders", 0, 60, 6)
	read(t, 60, a, b)
}

// TestCoordinatorStops: the coordinator's node goes without a word, three times.
// Members go on with the next one, and no committed offset goes back.
func TestCoordinatorStops(t *testing.T) {
	c := Start(t, 3, func(cfg *node.Config) { cfg.DrainTimeout = -1 })
	adm := c.admin(t)
	c.create(t, adm, "orders", 4)
	a, b := c.join(t, "a", "orders"), c.join(t, "b", "orders")
	share(t, 4, a, b)
	high, n := int64(0), 0
	look := func() int64 {
		sum := c.committed(t, "orders")
		if sum >= 0 && sum < high {
			t.Fatalf("committed offsets went back from %d to %d", high, sum)
		}
		high = max(high, sum)
		return sum
	}
	for range 3 {
		var id int32
		testetcd.Eventually(t, "a coordinator", func() bool {
			id = coordinator(t.Context(), adm)
			return id > 0
		})
		c.write(t, "orders", n, 100, 4)
		n += 100
		testetcd.Eventually(t, "something is committed", func() bool { return look() > int64(n-100) })
		c.Stop(id)
		read(t, n, a, b)
		testetcd.Eventually(t, "all is committed", func() bool { return look() == int64(n) })
		c.Restart(id)
	}
}

// TestOffsetsSurviveRestart: all nodes stop, and start again.
func TestOffsetsSurviveRestart(t *testing.T) {
	c := Start(t, 3, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 4)
	c.write(t, "orders", 0, 100, 4)
	a := c.join(t, "a", "orders")
	read(t, 100, a)
	testetcd.Eventually(t, "all is committed", func() bool { return c.committed(t, "orders") == 100 })
	a.stop()
	for id := int32(1); id <= 3; id++ {
		c.Stop(id)
	}
	for id := int32(1); id <= 3; id++ {
		c.launch(id)
	}
	for id := int32(1); id <= 3; id++ {
		c.waitReady(id)
	}
	testetcd.Eventually(t, "the offsets are there", func() bool {
		sum := c.committed(t, "orders")
		if sum >= 0 && sum != 100 {
			t.Fatalf("offsets of %d in all, want 100", sum)
		}
		return sum == 100
	})
	c.write(t, "orders", 100, 10, 4)
	b := c.join(t, "b", "orders")
	testetcd.Eventually(t, "the new records are read", func() bool { return c.committed(t, "orders") == 110 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) != 10 {
		t.Errorf("read %d records, want the 10 that are new", len(b.seen))
	}
}

// TestStaleCoordinator: one that is cut off from the other nodes, not from its
// clients, tells no offsets of the past.
func TestStaleCoordinator(t *testing.T) {
	c := Start(t, 3, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 1)
	commit := func(offset int64) error {
		offsets := make(kadm.Offsets)
		offsets.Add(kadm.Offset{Topic: "orders", At: offset, LeaderEpoch: -1})
		return adm.CommitAllOffsets(t.Context(), "g", offsets)
	}
	testetcd.Eventually(t, "a first commit", func() bool { return commit(1) == nil })
	old := coordinator(t.Context(), adm)
	for id := int32(1); id <= 3; id++ {
		if id != old {
			c.Network.Cut(old, id)
		}
	}
	// Clients of the others find the new coordinator; the old one is asked all along.
	others := slices.DeleteFunc(c.Brokers(), func(addr string) bool { return addr == c.Member(old).Node.KafkaAddr() })
	beyond := kadm.NewClient(c.Client(kgo.SeedBrokers(others...)))
	committed := int64(1)
	testetcd.Eventually(t, "a commit with another coordinator", func() bool {
		at := coordinator(t.Context(), beyond)
		if at == 0 || at == old {
			return false
		}
		offsets := make(kadm.Offsets)
		offsets.Add(kadm.Offset{Topic: "orders", At: 2, LeaderEpoch: -1})
		if beyond.CommitAllOffsets(t.Context(), "g", offsets) != nil {
			return false
		}
		committed = 2
		return true
	})
	client := c.Client(kgo.SeedBrokers(c.Member(old).Node.KafkaAddr()))
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = "g"
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = "g"
	req.Groups = append(req.Groups, group)
	for range 20 {
		resp, err := client.Broker(int(old)).Request(t.Context(), req)
		if err != nil {
			continue
		}
		f := resp.(*kmsg.OffsetFetchResponse)
		switch {
		case len(f.Groups) > 0 && f.Groups[0].ErrorCode == 0:
			t.Fatalf("the old coordinator says %+v, committed was %d", f.Groups[0].Topics, committed)
		case len(f.Groups) == 0 && f.ErrorCode == 0:
			t.Fatalf("the old coordinator says %+v, committed was %d", f.Topics, committed)
		case len(f.Groups) > 0 && f.Groups[0].ErrorCode != kerr.NotCoordinator.Code:
			t.Fatalf("the old coordinator: %v", kerr.ErrorForCode(f.Groups[0].ErrorCode))
		}
	}
	for id := int32(1); id <= 3; id++ {
		c.Network.Heal(old, id)
	}
	testetcd.Eventually(t, "the offset is told by all", func() bool { return c.committed(t, "orders") == 2 })
}

// TestGroupsWithoutEtcd: groups that are there go on.
func TestGroupsWithoutEtcd(t *testing.T) {
	c := Start(t, 3, nil)
	adm := c.admin(t)
	c.create(t, adm, "orders", 4)
	a := c.join(t, "a", "orders")
	share(t, 4, a)
	c.Etcd.Stop()
	b := c.join(t, "b", "orders")
	share(t, 4, a, b)
	c.write(t, "orders", 0, 100, 4)
	read(t, 100, a, b)
	testetcd.Eventually(t, "all is committed", func() bool { return c.committed(t, "orders") == 100 })
}
