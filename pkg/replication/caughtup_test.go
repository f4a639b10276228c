package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRounds: a follower has caught up when what was there at a round's beginning
// arrives soon, and as long as it does.
func TestRounds(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, c := range []struct {
		name string
		asks []ask
	}{
		{"an empty replica of few entries", []ask{{at: 0, match: 0, last: 5}, {at: 300, match: 0, last: 5}, {at: 600, match: 5, last: 5, ok: true}}},
		{"all at once", []ask{{at: 0, match: 9, last: 9, ok: true}}},
		{"never quite all, but soon", []ask{{at: 0, match: 1, last: 9}, {at: 100, match: 9, last: 20, ok: true}, {at: 101, match: 10, last: 21, ok: true}, {at: 900, match: 30, last: 60, ok: true}}},
		{"falls behind", []ask{{at: 0, match: 9, last: 9, ok: true}, {at: 500, match: 9, last: 50, ok: true}, {at: 600, match: 20, last: 60, ok: true}, {at: 1700, match: 40, last: 90}}},
		{"a slow round, then a soon one", []ask{{at: 0, match: 0, last: 9}, {at: 5000, match: 9, last: 50}, {at: 5900, match: 50, last: 51, ok: true}}},
		{"a new term begins anew", []ask{{at: 0, match: 9, last: 9, ok: true}, {at: 100, term: 2, match: 9, last: 12}}},
	} {
		var r rounds
		for i, a := range c.asks {
			if ok := r.judge(1+a.term, 7, a.match, a.last, start.Add(a.at*time.Millisecond)); ok != a.ok {
				t.Errorf("%s: %d: has %d of %d at %d ms: got %v", c.name, i, a.match, a.last, a.at, ok)
			}
		}
	}
}

type ask struct {
	at                time.Duration // milliseconds
	term, match, last uint64
	ok                bool
}

// TestEmptyReplicaIsNoVoter: as long as a new replica of a partition with few
// entries has none of them it stays a learner, and no other replica is removed.
func TestEmptyReplicaIsNoVoter(t *testing.T) {
	h := startHosts(t, StoreWAL, 4)
	waits, release := make(chan struct{}, 64), make(chan time.Time)
	open := func(id int32, initial []uint64) {
		host, m := h.up[id], &filed{}
		host.moves.out = newThrottle(1)
		host.moves.out.after = func(time.Duration) <-chan time.Time {
			select {
			case waits <- struct{}{}:
			default:
			}
			return release
		}
		g, err := host.OpenGroup(GroupConfig{Replica: uint64(id) * 10, Name: "list", Initial: initial, StateMachine: m, Membership: m})
		if err != nil {
			t.Fatal(err)
		}
		h.lists[id], h.group[id] = &m.list, g
	}
	for id := int32(1); id <= 3; id++ {
		open(id, []uint64{10, 20, 30})
	}
	for i := range caughtUp / 2 { // more than goes as entries
		h.propose(fmt.Sprint(i, strings.Repeat("x", 64<<10)))
	}
	open(4, nil)
	for _, g := range h.group {
		g.SetTarget(Target{Epoch: 1, Generation: 2, Replicas: []uint64{10, 20, 40}})
	}
	<-waits // the segments are on their way
	leader := h.group[h.leader()]
	for begin := leader.raft.LastIndex(); leader.raft.LastIndex() < begin+10; h.propose("more") {
		if leader.isCaughtUp(40) {
			t.Fatal("a replica without an entry has caught up")
		}
		leader.poke()
	}
	if voters, learners := leader.Members(); !slices.Contains(voters, 30) || !slices.Contains(learners, 40) {
		t.Fatalf("voters %v, learners %v", voters, learners)
	}
	close(release)
	eventually(t, "the new replica to take over", func() bool {
		voters, _ := h.group[4].Members()
		return slices.Contains(voters, 40) && !slices.Contains(voters, 30)
	})
}
