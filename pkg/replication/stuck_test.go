package replication

import (
	"testing"
	"time"
)

// TestReplicaThatOpensLate: its node has been up for long, without it, so that
// raft's calls have failed. It gets all there is once it is open, though nothing
// new is proposed.
func TestReplicaThatOpensLate(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.open(1, 1, 2, 3)
	h.open(2, 1, 2, 3)
	h.propose(numbers(0, 20)...)
	scans := h.up[h.leader()].failover.scans.Load()
	eventually(t, "scans without it", func() bool { return h.up[h.leader()].failover.scans.Load() > scans+15 })
	h.open(3, 1, 2, 3)
	began := time.Now()
	h.wantAll(numbers(0, 20))
	t.Logf("it had everything after %v", time.Since(began).Round(time.Millisecond))
}

// TestRestartedFollowerOfAnIdleGroup applies what was committed before, though
// nobody proposes anything, and the leader had told it all before.
func TestRestartedFollowerOfAnIdleGroup(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose(numbers(0, 20)...)
	h.wantAll(numbers(0, 20))
	id := h.leader()%3 + 1
	h.stop(id)
	h.start(id)
	h.open(id, 1, 2, 3)
	h.wantAll(numbers(0, 20))
}

// TestCloseWhileAStepWaits: a membership step waits for a majority that is gone,
// and so does not end by itself.
func TestCloseWhileAStepWaits(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	h.openAll(3)
	h.propose("1")
	leader := h.leader()
	for id := int32(1); id <= 3; id++ {
		if id != leader {
			h.stop(id)
		}
	}
	g := h.group[leader]
	last := g.LastIndex()
	g.SetTarget(Target{Epoch: 1, Generation: 2, Replicas: []uint64{10, 20, 30, 40}})
	eventually(t, "step", func() bool { return g.moving.Load() && g.LastIndex() > last || !g.Status().Leading })
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.stop(leader)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the host does not close")
	}
}

// TestNoWorkAfterClose: reports that still come while a host closes start nothing.
func TestNoWorkAfterClose(t *testing.T) {
	h := startHosts(t, StoreWAL, 1)
	host := h.up[1]
	h.stop(1)
	host.spawn(func() { t.Error("a goroutine was started after Close") })
}

func TestBetter(t *testing.T) {
	now := time.Now()
	reports := map[uint64]report{
		1: {7, 5, 10, now}, 2: {7, 5, 12, now}, 3: {7, 5, 10, now}, 4: {6, 9, 99, now}, 5: {7, 9, 99, now.Add(-2 * reportTTL)},
	}
	voters := []uint64{1, 2, 3, 4, 5}
	for own, want := range map[uint64]int{1: 1, 2: 0, 3: 2, 4: 0, 5: 0, 6: 0} {
		if got := better(voters, reports, own, 7, now); got != want {
			t.Errorf("before %d come %d, want %d", own, got, want)
		}
	}
}
