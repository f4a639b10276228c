package controller

import (
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
)

// TestNothingIsBegunAnew: a partition whose assignment is gone is not placed
// again, whichever it is, with the mark or without; new partitions are.
func TestNothingIsBegunAnew(t *testing.T) {
	for _, gone := range []int32{0, 1, 2} {
		for _, marked := range []bool{true, false} {
			if !marked && gone == 2 {
				continue // without the mark nobody knows that there was a last one
			}
			m := newModel()
			for _, line := range []string{"node 1", "node 2", "node 3", "topic t id=T partitions=3 rf=2", "run"} {
				m.do(t, line)
			}
			if !marked {
				topic := m.Topics["t"]
				topic.Placed = 0
				m.Topics["t"] = topic
			}
			lost := cluster.TopicPartition{Topic: "t", Partition: gone}
			delete(m.Assignments, lost)
			topic := m.Topics["t"]
			topic.Partitions = 5
			m.Topics["t"] = topic
			blocked := settle(t, m)
			if _, placed := m.Assignments[lost]; placed || len(blocked) != 1 || blocked[0].TP != lost {
				t.Errorf("partition %d, marked %v: placed %v, blocked %v", gone, marked, placed, blocked)
			}
			if len(m.Assignments) != 4 {
				t.Errorf("partition %d, marked %v: %d assignments, not 4: the new ones are placed", gone, marked, len(m.Assignments))
			}
		}
	}
}

// TestUnreadableCounter: without the numbers of replicas nothing is placed, and
// no transaction is tried in vain.
func TestUnreadableCounter(t *testing.T) {
	m := newModel()
	for _, line := range []string{"node 1", "topic t id=T partitions=3 rf=1", "broken replica-ids"} {
		m.do(t, line)
	}
	if got := m.do(t, "plan"); got != "blocked t: the key replica-ids makes no sense and must be mended: nonsense\n" {
		t.Error(got)
	}
}
