package replication

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// counted is a throttle on a clock of its own, which runs while somebody waits; it
// tells how long it has kept them waiting in all.
func counted(rate int64) (t *throttle, waited func() time.Duration) {
	var mu sync.Mutex
	start := time.Unix(1000, 0)
	at := start
	t = newThrottle(rate)
	t.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
	t.after = func(d time.Duration) <-chan time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(d)
		c := make(chan time.Time, 1)
		c <- at
		return c
	}
	return t, func() time.Duration { return t.now().Sub(start) }
}

// TestNewReplicaIsPaced: a new replica of a partition with some history is sent
// segments, through the throttles of moves at both ends and not through that of
// followers that lag.
func TestNewReplicaIsPaced(t *testing.T) {
	const rate = 1 << 10
	h := startHosts(t, StoreWAL, 4)
	out, in := make(map[int32]func() time.Duration), make(map[int32]func() time.Duration)
	lagging := make(map[int32]func() time.Duration)
	open := func(id int32, initial []uint64) *filed {
		host, m := h.up[id], &filed{}
		host.moves.out, out[id] = counted(rate)
		host.moves.in, in[id] = counted(rate)
		host.throttle, lagging[id] = counted(rate)
		g, err := host.OpenGroup(GroupConfig{Replica: uint64(id) * 10, Name: "list", Initial: initial, StateMachine: m, Membership: m})
		if err != nil {
			t.Fatal(err)
		}
		h.lists[id], h.group[id] = &m.list, g
		return m
	}
	for id := int32(1); id <= 3; id++ {
		open(id, []uint64{10, 20, 30})
	}
	for i := range 100 { // more than goes as entries
		h.propose(fmt.Sprint(i, strings.Repeat("x", 32<<10)))
	}
	newcomer := open(4, nil)
	for _, g := range h.group {
		g.SetTarget(Target{Epoch: 1, Generation: 2, Replicas: []uint64{10, 20, 30, 40}})
	}
	eventually(t, "the new replica to be a voter", func() bool {
		voters, _ := h.group[4].Members()
		return slices.Contains(voters, 40)
	})
	newcomer.mu.Lock()
	staged := time.Duration(len(newcomer.staged)) * 80 * time.Second / rate
	newcomer.mu.Unlock()
	if staged == 0 {
		t.Fatal("the new replica was sent no segments")
	}
	var sent, caughtUp time.Duration
	for id := int32(1); id <= 3; id++ {
		sent, caughtUp = sent+out[id](), caughtUp+lagging[id]()
	}
	if sent < staged || in[4]() < staged {
		t.Errorf("segments take %v at the rate: the sender kept them back for %v, the receiver for %v", staged, sent, in[4]())
	}
	if caughtUp > 0 {
		t.Errorf("the throttle of followers that lag kept a new replica back for %v", caughtUp)
	}
}

// TestHistoryOfLearnerIsPaced: entries that bring a learner nearer are paced, those
// at the head of the log are not, and a voter's never are.
func TestHistoryOfLearnerIsPaced(t *testing.T) {
	h := startHosts(t, StoreWAL, 2)
	h.open(1, 1)
	h.propose(numbers(0, 2*caughtUp)...)
	g := h.group[1]
	out, waited := counted(1 << 10)
	h.up[1].moves.out = out
	if err := g.raft.AddNonvoter(serverID(20), serverAddr(20), 0, stepTimeout).Error(); err != nil {
		t.Fatal(err)
	}
	pace := func(follower, last uint64, bytes int) time.Duration {
		before := waited()
		if err := g.paceHistory(t.Context(), follower, last, bytes); err != nil {
			t.Fatal(err)
		}
		return waited() - before
	}
	head := g.raft.LastIndex()
	if d := pace(20, 5, 4<<10); d != 4*time.Second {
		t.Errorf("4 KiB of history waited %v at 1 KiB a second", d)
	}
	if d := pace(20, head, 4<<10); d != 0 {
		t.Errorf("what was just written waited %v", d)
	}
	if d := pace(10, 5, 4<<10); d != 0 {
		t.Errorf("a voter's entries waited %v", d)
	}
}

// TestConfirmation: a leader tells its group's committed members; who does not
// lead, or not any more, tells nothing.
func TestConfirmation(t *testing.T) {
	h := startHosts(t, StoreWAL, 4)
	for id := int32(1); id <= 3; id++ {
		h.open(id, 1, 2, 3)
	}
	h.propose(numbers(0, 5)...)
	h.open(4)
	for _, g := range h.group {
		g.SetTarget(Target{Epoch: 1, Generation: 2, Replicas: []uint64{20, 30, 40}})
	}
	eventually(t, "the new membership", func() bool {
		_, generation := h.lists[4].Reached()
		return generation == 2 && h.leader() != 1
	})
	leader := h.leader()
	c, err := h.up[1].AskMembers(t.Context(), leader, uint64(leader)*10, 10)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(c.Members)
	if c.Has(10) || !slices.Equal(c.Members, []uint64{20, 30, 40}) || c.Term == 0 || c.Index == 0 || c.Generation != 2 {
		t.Fatalf("got %+v", c)
	}
	for id := int32(2); id <= 4; id++ {
		if id != leader {
			if c, err := h.up[1].AskMembers(t.Context(), id, uint64(id)*10, 10); err == nil {
				t.Fatalf("node %d does not lead, and says %+v", id, c)
			}
		}
	}
	if c, err := h.up[1].AskMembers(t.Context(), leader, 999, 10); err == nil {
		t.Fatalf("a node without the replica says %+v", c)
	}
	// A leader that has lost its majority can't commit: it confirms nothing.
	for id := int32(2); id <= 4; id++ {
		if id != leader {
			h.stop(id)
		}
	}
	if c, err := h.up[1].AskMembers(t.Context(), leader, uint64(leader)*10, 10); err == nil {
		t.Fatalf("a leader without a majority says %+v", c)
	}
}
