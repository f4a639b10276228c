package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// TestStepsToTarget follows the steps from a configuration to a target. A
// learner is written with a small l.
func TestStepsToTarget(t *testing.T) {
	for _, c := range []struct {
		now, want string
		self      uint64
		steps     string
	}{
		{"1 2 3", "1 2 3", 1, "record"},
		{"1 2 3", "1 2 4", 1, "add 4, promote 4, remove 3, record"},
		{"1 2 3l", "1 2 3", 1, "promote 3, record"},
		{"1 2 3", "4 5 6", 1, "add 4, add 5, add 6, promote 4, promote 5, promote 6, remove 2, remove 3, transfer 4"},
		{"1 2 3 4l", "1 2 3", 2, "remove 4, record"},
	} {
		now, want := parse(c.now), []uint64(nil)
		for _, s := range parse(c.want).Servers {
			want = append(want, replicaOf(s.ID))
		}
		var steps []string
		for range 20 {
			s := nextStep(now, &Target{Replicas: want}, c.self, func(uint64) bool { return true })
			text := string(s.kind)
			if s.replica != 0 {
				text += fmt.Sprint(" ", s.replica)
			}
			steps = append(steps, text)
			if s.kind == stepRecord || s.kind == stepTransfer || s.kind == stepWait {
				break
			}
			now = after(now, s)
		}
		if got := strings.Join(steps, ", "); got != c.steps {
			t.Errorf("from %s to %s: got %s, want %s", c.now, c.want, got, c.steps)
		}
	}
}

// TestStepsWithUnfitReplicas: one step, with replicas that are down or lag.
func TestStepsWithUnfitReplicas(t *testing.T) {
	for _, c := range []struct{ name, now, want, unfit, step string }{
		{"a learner lags: nothing is removed before it is a voter", "1 2 3 4l", "1 2 4", "4", "wait"},
		{"one of two learners lags: the other is promoted", "1 2 3 4l 5l", "1 4 5", "4", "promote 5"},
		{"a replica is rebuilt elsewhere", "1 2 3 4l", "1 2 4", "3", "promote 4"},
		{"the dead one goes", "1 2 3 4", "1 2 4", "3", "remove 3"},
		{"the dead one goes first", "1 2 3 4 5", "1 4 5", "3", "remove 3"},
		{"a promotion that leaves no majority", "1 2 3 4l", "1 2 4", "2 3", "wait"},
		{"a promotion to three, with two of them fit", "1 2 3l", "1 2 3", "2", "promote 3"},
		{"a learner whose target was given up, though a wanted one lags", "1 2 3 4l 5l", "1 2 5", "5", "remove 4"},
		{"a voter whose target was given up", "1 2 3 4", "1 2 3", "", "remove 4"},
		{"two wanted ones are down: a live one must stay", "1 2 3 4", "1 3 4", "3 4", "wait"},
		{"the new one is down: a live one stays", "1 2 3 4", "1 2 4", "4", "wait"},
		{"one that stays is down: the new one is for the one that goes", "1 2 3 4", "1 2 4", "2", "remove 3"},
		{"the new one is down, and so is one that goes", "1 2 3 4 5", "1 2 4", "3 4", "remove 3"},
		{"of two, the other wanted one is down", "1 2 3", "1 2", "2", "wait"},
		{"self goes, but nobody can take over", "1 2 3", "2 3", "2 3", "wait"},
		{"self goes, the second can take over", "1 2 3", "2 3", "2", "transfer 3"},
	} {
		var want, unfit []uint64
		for _, s := range parse(c.want).Servers {
			want = append(want, replicaOf(s.ID))
		}
		for _, s := range parse(c.unfit).Servers {
			unfit = append(unfit, replicaOf(s.ID))
		}
		s := nextStep(parse(c.now), &Target{Replicas: want, Former: []uint64{1, 2, 3}}, 1, func(id uint64) bool { return !slices.Contains(unfit, id) })
		got := string(s.kind)
		if s.replica != 0 {
			got += fmt.Sprint(" ", s.replica)
		}
		if got != c.step {
			t.Errorf("%s: from %s to %s without %q: got %s, want %s", c.name, c.now, c.want, c.unfit, got, c.step)
		}
	}
}

func parse(text string) (c raft.Configuration) {
	for _, f := range strings.Fields(text) {
		suffrage := raft.Voter
		if id, ok := strings.CutSuffix(f, "l"); ok {
			f, suffrage = id, raft.Nonvoter
		}
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(f), Address: raft.ServerAddress(f), Suffrage: suffrage})
	}
	return c
}

func after(c raft.Configuration, s step) (next raft.Configuration) {
	id := serverID(s.replica)
	for _, have := range c.Servers {
		switch {
		case have.ID != id:
			next.Servers = append(next.Servers, have)
		case s.kind == stepPromote:
			have.Suffrage = raft.Voter
			next.Servers = append(next.Servers, have)
		}
	}
	if s.kind == stepAdd {
		next.Servers = append(next.Servers, raft.Server{ID: id, Address: serverAddr(s.replica), Suffrage: raft.Nonvoter})
	}
	return next
}
