package replication

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// openAll opens the group on all of n nodes.
func (h *hosts) openAll(n int32) {
	h.t.Helper()
	var initial []int32
	for id := int32(1); id <= n; id++ {
		initial = append(initial, id)
	}
	for _, id := range initial {
		h.open(id, initial...)
	}
}

// TestFirstLeaderIsThePreferred: a new group elects the first of its replicas,
// whichever is opened first.
func TestFirstLeaderIsThePreferred(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	for _, id := range []int32{3, 1, 2} {
		h.open(id, 2, 1, 3)
	}
	if got := h.leader(); got != 2 {
		t.Errorf("node %d leads, want 2", got)
	}
}

// TestAllStopAndStart: a leader is elected although raft's timers run for an
// hour, and it is one that has all that was committed.
func TestAllStopAndStart(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose(numbers(0, 20)...)
	behind := h.leader()%3 + 1
	h.stop(behind)
	h.propose(numbers(20, 40)...)
	for id := range h.up {
		h.stop(id)
	}
	for id := int32(1); id <= 3; id++ {
		h.start(id)
	}
	began := time.Now()
	h.openAll(3)
	if got := h.leader(); got == behind {
		t.Errorf("node %d leads, which lacked committed entries", got)
	}
	t.Logf("led again after %v", time.Since(began).Round(time.Millisecond))
	h.wantAll(numbers(0, 40)) // the followers too, though nothing new is proposed
}

// TestSingleReplica leads by itself, and again after a restart.
func TestSingleReplica(t *testing.T) {
	h := startHosts(t, StoreWAL, 1)
	h.openAll(1)
	h.propose(numbers(0, 3)...)
	h.stop(1)
	h.start(1)
	h.openAll(1)
	h.propose(numbers(3, 6)...)
	h.wantAll(numbers(0, 6))
}

// TestLeaderWithoutMajority steps down, and the group goes on once there is one.
func TestLeaderWithoutMajority(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose(numbers(0, 5)...)
	leader := h.leader()
	var others []int32
	for id := int32(1); id <= 3; id++ {
		if id != leader {
			others = append(others, id)
			h.stop(id)
		}
	}
	future := h.group[leader].Propose([]byte("never committed by this one alone"), nil)
	if err := future.Error(); !errors.Is(err, raft.ErrLeadershipLost) && !errors.Is(err, raft.ErrNotLeader) {
		t.Errorf("proposal without a majority: %v", err)
	}
	eventually(t, "step-down", func() bool { return !h.group[leader].Status().Leading })
	h.start(others[0])
	h.open(others[0], 1, 2, 3)
	eventually(t, "commit", func() bool {
		return h.group[h.leader()].Propose([]byte("again"), nil).Error() == nil
	})
}

// TestNoElectionWithoutMajority: a replica that can't be elected does not stand,
// and so does not raise its term for ever.
func TestNoElectionWithoutMajority(t *testing.T) {
	h := startHosts(t, StoreWAL, 2)
	h.openAll(2)
	h.propose("1")
	leader := h.leader()
	left := 3 - leader
	eventually(t, "follower", func() bool { return h.group[left].Status().Leader != 0 })
	term := h.group[left].Status().Term
	h.stop(leader)
	f, replica := h.up[left].failover, uint64(left)*10
	var last time.Time
	reports := 0
	eventually(t, "five reports", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if r := f.reports[replica][replica]; r.at != last {
			last = r.at
			reports++
		}
		return reports > 5
	})
	if now := h.group[left].Status().Term; now != term {
		t.Errorf("term went from %d to %d", term, now)
	}
	h.start(leader)
	h.open(leader, 1, 2)
	h.propose("2")
	h.wantAll([]string{"1", "2"})
}

// TestTransfer hands a leadership over and back; to a replica that can't be
// reached it fails soon, and the group takes entries again.
func TestTransfer(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose("1")
	from := h.leader()
	to, third := from%3+1, (from+1)%3+1
	if err := h.group[from].Transfer(uint64(to) * 10); err != nil {
		t.Fatalf("transfer: %v", err)
	}
	eventually(t, "other leader", func() bool { return h.group[to].Status().Leading })
	h.propose("2")
	h.stop(third)
	began := time.Now()
	err := h.group[to].Transfer(uint64(third) * 10)
	t.Logf("transfer to a replica that is away: %v after %v", err, time.Since(began).Round(time.Millisecond))
	h.propose("3")
	h.wantAll([]string{"1", "2", "3"})
}

// TestManyRestarts stops and starts nodes at random moments of elections, one
// at a time: there is a leader again each time, with all that was committed.
func TestManyRestarts(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	var want []string
	for i := range 12 {
		id := int32(i%3 + 1)
		h.stop(id)
		if i%2 == 0 {
			value := fmt.Sprint("while away ", i)
			h.propose(value)
			want = append(want, value)
		}
		h.start(id)
		h.open(id, 1, 2, 3)
		value := fmt.Sprint("after ", i)
		h.propose(value)
		want = append(want, value)
	}
	h.wantAll(want)
}
