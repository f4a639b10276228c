package node

import (
	"strings"
	"testing"
)

// TestRecoverable: what an operator says against what the survivor's node sees.
// "" as why is a decision that is taken.
func TestRecoverable(t *testing.T) {
	up, gone := Member{Answers: true, Registered: true}, Member{}
	at := func(node int32, m Member) Member {
		m.Node, m.Replica = node, uint64(70+node)
		return m
	}
	lost := []Member{at(1, up), at(2, gone), at(3, gone)}
	for _, c := range []struct {
		name    string
		members []Member
		named   []int32
		change  func(*SurvivorState, *RecoverRequest)
		why     string
	}{
		{"two of three destroyed", lost, []int32{2, 3}, nil, ""},
		{"three of five destroyed", append([]Member{at(4, gone), at(5, up)}, lost...), []int32{2, 3, 4}, nil, ""},
		{"not confirmed", lost, []int32{2, 3}, func(_ *SurvivorState, r *RecoverRequest) { r.DataMayBeLost = false }, "not confirmed"},
		{"nobody named", lost, nil, nil, "was not named as destroyed"},
		{"one named", lost, []int32{2}, nil, "node 3 (replica 73) can't be reached and was not named"},
		{"one is up", []Member{at(1, up), at(2, gone), at(3, up)}, []int32{2}, nil, "they elect a leader by themselves"},
		{"one is up and named", []Member{at(1, up), at(2, gone), at(3, up)}, []int32{2, 3}, nil, "node 3 answers"},
		{"one has its lease still", []Member{at(1, up), at(2, gone), at(3, Member{Registered: true})}, []int32{2, 3}, nil, "node 3 answers or is registered"},
		{"the own node named", lost, []int32{1, 2, 3}, nil, "the one that is asked"},
		{"a stranger named", lost, []int32{2, 3, 9}, nil, "node 9 was named as destroyed, and holds no replica"},
		{"a minority destroyed", []Member{at(1, up), at(2, up), at(3, gone)}, []int32{3}, nil, "a majority"},
		{"it has a leader", lost, []int32{2, 3}, func(s *SurvivorState, _ *RecoverRequest) { s.Leader = 1 }, "node 1 leads"},
		{"another replica meant", lost, []int32{2, 3}, func(_ *SurvivorState, r *RecoverRequest) { r.Replica = 72 }, "has replica 71, not 72"},
		{"an old look", lost, []int32{2, 3}, func(s *SurvivorState, _ *RecoverRequest) { s.Revision++ }, "has changed"},
		{"a learner only", lost[1:], []int32{2, 3}, nil, "none of the group's voters"},
		{"nothing open", lost, []int32{2, 3}, func(s *SurvivorState, _ *RecoverRequest) { s.Replica = 0 }, "no open replica"},
	} {
		s := SurvivorState{Topic: "t", Node: 1, Replica: 71, Revision: 5, Members: c.members}
		req := RecoverRequest{Topic: "t", Replica: 71, Revision: 5, Destroyed: c.named, DataMayBeLost: true}
		if c.change != nil {
			c.change(&s, &req)
		}
		err := recoverable(s, req)
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.why)
		}
	}
}
