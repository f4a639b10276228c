package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/election"
)

// TestStatusPace: what is written when.
func TestStatusPace(t *testing.T) {
	session, at := new(election.Session), time.Unix(1000, 0)
	base := func() cluster.NodeStatus {
		return cluster.NodeStatus{
			Node: 1, Leads: map[string]map[int32]uint64{"t": {0: 3}}, Bytes: map[string]map[int32]int64{"t": {0: 1000}}, Assignments: 50,
		}
	}
	pace := statusPace{base(), cluster.Node{Replicas: 1}, session, at}
	for _, c := range []struct {
		name   string
		change func(s *cluster.NodeStatus, self *cluster.Node)
		by     *election.Session
		newest int64
		after  time.Duration // since the last write
		want   string
	}{
		{name: "nothing", want: "never"},
		{name: "nothing for long", after: time.Hour, want: "never"},
		{name: "another revision of etcd", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Assignments = 90 }, newest: 40, want: "never"},
		{name: "a newer assignment", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Assignments = 90 }, newest: 60, want: "200ms"},
		{name: "a leadership", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Leads["t"][1] = 4 }, after: 150 * time.Millisecond, want: "50ms"},
		{name: "a term", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Leads["t"][0] = 4 }, after: time.Second, want: "0s"},
		{name: "a move", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Moving = map[string][]int32{"t": {0}} }, after: time.Second, want: "0s"},
		{name: "who lags", change: func(s *cluster.NodeStatus, _ *cluster.Node) {
			s.Lagging = map[string]map[int32][]int32{"t": {0: {2}}}
		}, after: 400 * time.Millisecond, want: "600ms"},
		{name: "sizes", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Bytes["t"][0] = 2000 }, after: 4 * time.Second, want: "6s"},
		{name: "load", change: func(_ *cluster.NodeStatus, self *cluster.Node) { self.Load = 7 }, want: "10s"},
		{name: "sizes and a leadership", change: func(s *cluster.NodeStatus, _ *cluster.Node) { s.Bytes["t"][0], s.Leads["t"][1] = 2000, 9 }, want: "200ms"},
		{name: "the node's state", change: func(_ *cluster.NodeStatus, self *cluster.Node) { self.State = cluster.StateDraining }, after: time.Second, want: "0s"},
		{name: "another session", by: new(election.Session), want: "0s"},
	} {
		s, self, by := base(), cluster.Node{Replicas: 1}, session
		if c.change != nil {
			c.change(&s, &self)
		}
		if c.by != nil {
			by = c.by
		}
		got := "never"
		if wait, ok := pace.due(at.Add(c.after), by, s, self, c.newest); ok {
			got = wait.String()
		}
		if got != c.want {
			t.Errorf("%s, %v after the last write: due in %s, want %s", c.name, c.after, got, c.want)
		}
	}
}

func TestRounded(t *testing.T) {
	for n, want := range map[int64]int64{0: 0, 7: 7, 99: 99, 100: 100, 104: 100, 105: 110, 12345: 12000, 99900: 100000, 1 << 40: 1100000000000} {
		if got := rounded(n); got != want {
			t.Errorf("%d: got %d, want %d", n, got, want)
		}
	}
}

// TestLoad: bytes a second over ten seconds, in two digits, and nothing for what a
// quiet node writes.
func TestLoad(t *testing.T) {
	var l load
	now := time.Unix(1000, 0)
	var got string
	for _, written := range []uint64{100, 5_000_100, 1_235_000_100, 1_235_002_000} {
		got += fmt.Sprint(l.note(now, written), " ")
		now = now.Add(loadWindow)
	}
	if want := "0 500000 1.2e+08 0 "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
