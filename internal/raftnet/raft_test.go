package raftnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

const testHeartbeat = 300 * time.Millisecond

// groupsOn opens groups on three nodes.
func groupsOn(t *testing.T, nets []*Net, count int, heartbeat time.Duration) [][]*member {
	t.Helper()
	groups := make([][]*member, count)
	for g := range groups {
		var ids []uint64
		for i := range nets {
			ids = append(ids, replica(g+1, int32(i+1)))
		}
		for i, n := range nets {
			m := newMember(ids[i])
			m.start(t, n, heartbeat, ids)
			groups[g] = append(groups[g], m)
			t.Cleanup(func() { m.stop(t) })
		}
	}
	return groups
}

// applyAll applies count entries of mixed sizes and waits for them, through
// changes of leadership.
func applyAll(t *testing.T, members []*member, count int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); count > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d entries could not be applied", count)
		}
		count -= applySome(t, members, count)
	}
}

func applySome(t *testing.T, members []*member, count int) (done int) {
	t.Helper()
	var leader *member
	waitFor(t, "a leader", func() bool { leader = leaderOf(members); return leader != nil })
	var futures []raft.ApplyFuture
	for range count {
		size := rand.IntN(200)
		switch rand.IntN(40) {
		case 0:
			size = 64 << 10
		case 1, 2, 3:
			size = 1 + rand.IntN(4096)
		}
		futures = append(futures, leader.raft.Apply(make([]byte, size), 10*time.Second))
	}
	for _, f := range futures {
		if err := f.Error(); err == nil {
			done++
		} else if !errors.Is(err, raft.ErrLeadershipLost) && !errors.Is(err, raft.ErrNotLeader) {
			t.Fatal(err)
		}
	}
	return done
}

func waitSame(t *testing.T, members []*member, most time.Duration) {
	t.Helper()
	if !poll(most, func() bool {
		n, sum := members[0].fsm.state()
		for _, m := range members[1:] {
			if n2, sum2 := m.fsm.state(); n != n2 || sum != sum2 {
				return false
			}
		}
		return n > 0
	}) {
		for _, m := range members {
			n, sum := m.fsm.state()
			t.Errorf("replica %d has applied %d, sum %d", m.id, n, sum)
		}
		t.FailNow()
	}
}

func threeNodes(t *testing.T, change func(*Options)) (*directory, []*Net) {
	t.Helper()
	d := newDirectory(t)
	nets := []*Net{startNode(t, d, 1, change), startNode(t, d, 2, change), startNode(t, d, 3, change)}
	for _, n := range nets {
		n.Refresh()
	}
	for i, n := range nets {
		for j := range nets {
			if i != j {
				waitUp(t, n, int32(j+1))
			}
		}
	}
	return d, nets
}

func TestGroupsApplyAndCatchUpAfterRestart(t *testing.T) {
	d, nets := threeNodes(t, nil)
	groups := groupsOn(t, nets, 3, testHeartbeat)
	for _, members := range groups {
		applyAll(t, members, 1500)
		waitSame(t, members, 5*time.Second)
	}
	// A node goes away, with everything on it, and comes back at the same port.
	nets[2].Close()
	for _, members := range groups {
		members[2].stop(t)
		members[2].fsm = &machine{}
	}
	for _, members := range groups {
		var leader *member
		waitFor(t, "a leader of the two", func() bool { leader = leaderOf(members[:2]); return leader != nil })
		applyAll(t, members[:2], 500)
	}
	start := time.Now()
	nets[2] = startNode(t, d, 3, nil)
	for _, members := range groups {
		members[2].start(t, nets[2], testHeartbeat, nil)
	}
	for g, members := range groups {
		waitSame(t, members, 5*time.Second)
		leader := leaderOf(members)
		if leader == nil {
			continue
		}
		last := leader.raft.LastIndex()
		for _, m := range members {
			if m == leader {
				continue
			}
			waitFor(t, "progress", func() bool {
				match, contact, ok := leader.trans.Progress(m.id)
				return ok && match >= last && time.Since(contact) < 5*time.Second
			})
		}
		t.Logf("group %d caught up %s after the restart", g+1, time.Since(start).Round(time.Millisecond))
	}
	if at := nets[0].Restarted(3); at.Before(start) {
		t.Errorf("node 3 was seen to restart at %v, it did after %v", at, start)
	}
	if at := nets[0].Restarted(2); !at.IsZero() {
		t.Errorf("node 2 was seen to restart at %v", at)
	}
	if at := nets[2].Restarted(2); !at.IsZero() {
		t.Errorf("who was restarted itself saw node 2 restart at %v", at)
	}
}

func TestFiftyGroups(t *testing.T) {
	_, nets := threeNodes(t, nil)
	groups := groupsOn(t, nets, 50, 2*testHeartbeat)
	for _, members := range groups {
		applyAll(t, members, 20)
	}
	for _, members := range groups {
		waitSame(t, members, 5*time.Second)
	}
}

func TestSnapshotGoesToAFollowerThatIsFarBehind(t *testing.T) {
	d, nets := threeNodes(t, nil)
	members := groupsOn(t, nets, 1, testHeartbeat)[0]
	applyAll(t, members, 100)
	waitSame(t, members, 5*time.Second)
	nets[2].Close()
	members[2].stop(t)
	waitFor(t, "a leader of the two", func() bool { return leaderOf(members[:2]) != nil })
	applyAll(t, members[:2], 300)
	staged := make(chan uint64, 16)
	for _, m := range members[:2] {
		m.trans.SetInstaller(func(_ context.Context, peer uint64, manifest []byte, send func() error) error {
			if len(manifest) == 0 {
				return fmt.Errorf("empty manifest")
			}
			staged <- peer
			return send()
		})
		if err := m.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	members[2] = newMember(members[2].id) // wiped
	nets[2] = startNode(t, d, 3, nil)
	members[2].start(t, nets[2], testHeartbeat, nil)
	t.Cleanup(func() { members[2].stop(t) })
	waitSame(t, members, 5*time.Second)
	select {
	case peer := <-staged:
		if peer != members[2].id {
			t.Errorf("staged at %d", peer)
		}
	default:
		t.Error("nothing was staged")
	}
	applyAll(t, members, 10)
	waitSame(t, members, 5*time.Second)
}

func TestConnectionsCutUnderLoad(t *testing.T) {
	cutters := map[int32]*cutter{1: {}, 2: {}, 3: {}}
	_, nets := threeNodes(t, func(o *Options) { o.Dial = cutters[o.Identity.NodeID].dial })
	groups := groupsOn(t, nets, 4, testHeartbeat)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(30)) * time.Millisecond):
				cutters[int32(1+rand.IntN(3))].cut()
			}
		}
	}()
	deadline := time.Now().Add(3 * time.Second)
	acked := make([]int, len(groups))
	for time.Now().Before(deadline) {
		for g, members := range groups {
			leader := leaderOf(members)
			if leader == nil {
				continue
			}
			var futures []raft.ApplyFuture
			for range 20 {
				futures = append(futures, leader.raft.Apply(make([]byte, rand.IntN(20<<10)), time.Second))
			}
			for _, f := range futures {
				if f.Error() == nil {
					acked[g]++
				}
			}
		}
	}
	close(stop)
	<-done
	for g, members := range groups {
		applyAll(t, members, 10)
		waitSame(t, members, 10*time.Second)
		n, _ := members[0].fsm.state()
		t.Logf("group %d: %d acknowledged, %d applied", g+1, acked[g], n)
		if n < acked[g]+10 || acked[g] == 0 {
			t.Errorf("group %d: %d acknowledged, only %d applied", g+1, acked[g], n)
		}
	}
}
