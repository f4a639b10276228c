package replication

import (
	"fmt"
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
		{"1 2 3", "4 5 6", 1, "add 4, promote 4, add 5, promote 5, add 6, promote 6, remove 2, remove 3, transfer 4"},
		{"1 2 3 4l", "1 2 3", 2, "remove 4, record"},
	} {
		now, want := parse(c.now), []uint64(nil)
		for _, s := range parse(c.want).Servers {
			want = append(want, replicaOf(s.ID))
		}
		var steps []string
		for range 20 {
			s := nextStep(now, want, c.self, func(uint64) bool { return true })
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

func TestLearnerThatLagsIsWaitedFor(t *testing.T) {
	s := nextStep(parse("1 2 3 4l"), []uint64{1, 2, 4}, 1, func(uint64) bool { return false })
	if s.kind != stepWait {
		t.Fatalf("got %s, want to wait: nothing is removed before the learner is a voter", s.kind)
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
