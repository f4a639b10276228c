package cluster

import "testing"

// What the leader of the highest term says of a partition counts.
func TestMoving(t *testing.T) {
	tp := TopicPartition{Topic: "t", Partition: 1}
	leads := func(term uint64) map[string]map[int32]uint64 { return map[string]map[int32]uint64{"t": {1: term}} }
	on := map[string][]int32{"t": {0, 1}}
	for _, c := range []struct {
		name   string
		status map[int32]NodeStatus
		want   bool
	}{
		{"nobody leads", map[int32]NodeStatus{1: {Assignments: 9, Moving: on}}, false},
		{"the leader says that it is done", map[int32]NodeStatus{1: {Leads: leads(2), Assignments: 7}}, false},
		{"the leader says that it moves", map[int32]NodeStatus{1: {Leads: leads(2), Assignments: 7, Moving: on}}, true},
		{"another partition moves", map[int32]NodeStatus{1: {Leads: leads(2), Assignments: 7, Moving: map[string][]int32{"t": {0}}}}, false},
		{"the leader has not seen the assignment", map[int32]NodeStatus{1: {Leads: leads(2), Assignments: 6}}, true},
		{"a former leader says that it moves", map[int32]NodeStatus{1: {Leads: leads(2), Moving: on}, 2: {Leads: leads(3), Assignments: 7}}, false},
		{"a former leader says that it is done", map[int32]NodeStatus{1: {Leads: leads(2), Assignments: 7}, 2: {Leads: leads(3), Assignments: 7, Moving: on}}, true},
	} {
		v := &View{Assignments: map[TopicPartition]Assignment{tp: {ModRevision: 7}}, Status: c.status}
		if got := v.Moving(tp); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
