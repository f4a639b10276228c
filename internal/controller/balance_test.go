package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// Two nodes join three that are full: exactly what leveling needs is moved.
func TestNewNodesFillUp(t *testing.T) {
	for _, racks := range []int{1, 3, 5} {
		t.Run(fmt.Sprint(racks, " racks"), func(t *testing.T) {
			s := newSim(t, 1, Options{Moves: 8, RebuildDelay: time.Minute})
			rack := func(id int32) string { return fmt.Sprint("r", int(id)%racks) }
			for id := range int32(3) {
				s.join(id+1, rack(id))
			}
			s.do(t, "topic t id=T partitions=300 rf=3")
			s.settleAll(10)
			if s.moves != 0 {
				t.Fatalf("%d moves before anybody joined", s.moves)
			}
			s.join(4, rack(3))
			s.join(5, rack(4))
			s.settleAll(5000)
			replicas, leads := s.counts()
			if racks == 3 { // one replica in each: the rack with one node keeps them all
				if s.moves != 300 || replicas[3] != 300 {
					t.Fatalf("%d moves, %v", s.moves, replicas)
				}
				return
			}
			if s.moves != 360 {
				t.Errorf("%d replicas were moved, 360 had to", s.moves)
			}
			for id := range s.Nodes {
				if n := replicas[id]; n != 180 {
					t.Errorf("node %d has %d replicas: %v", id, n, replicas)
				}
				if n := leads[id]; n < 54 || n > 66 {
					t.Errorf("node %d is preferred %d times: %v", id, n, leads)
				}
			}
		})
	}
}

// Partitions of many sizes: the bytes are within a tenth too.
func TestBytesAreEvenedOut(t *testing.T) {
	s := newSim(t, 1, Options{Moves: 8, RebuildDelay: time.Minute})
	s.bytes = func(tp cluster.TopicPartition) int64 { return int64(tp.Partition%17+1) * (10 << 20) }
	for id := range int32(3) {
		s.join(id+1, "")
	}
	s.do(t, "topic t id=T partitions=300 rf=3")
	s.settleAll(10)
	s.join(4, "")
	s.join(5, "")
	s.settleAll(5000)
	if s.moves > 400 {
		t.Errorf("%d replicas were moved, about 360 had to", s.moves)
	}
	replicas, _ := s.counts()
	bytes, sum := map[int32]int64{}, int64(0)
	for tp, a := range s.Assignments {
		for _, r := range a.Replicas {
			bytes[r.Node] += s.bytes(tp)
			sum += s.bytes(tp)
		}
	}
	for id, n := range bytes {
		if n < sum/5*9/10 || n > sum/5*11/10 || replicas[id] < 179 || replicas[id] > 181 {
			t.Errorf("node %d has %d bytes of %d and %d replicas", id, n, sum, replicas[id])
		}
	}
}

// Preferred leaders change eight partitions a move at a time.
func TestReordersAreBounded(t *testing.T) {
	s := newSim(t, 1, Options{Moves: 1, RebuildDelay: time.Minute})
	s.join(1, "")
	s.join(2, "")
	s.do(t, "topic t id=T partitions=40 rf=2")
	for i := range 40 {
		s.do(t, fmt.Sprintf("assign t/%d id=T 1:%d 2:%d", i, 2*i+1, 2*i+2))
	}
	s.report()
	s.do(t, "replica-ids 81")
	first := Plan(&s.View, s.factsNow())
	if len(first) != reordersPerMove {
		t.Fatalf("%d at once: %v", len(first), first)
	}
	if err := s.apply(first); err != nil {
		t.Fatal(err)
	}
	s.report()
	if more := Plan(&s.View, s.factsNow()); len(more) > 0 {
		t.Fatalf("%d more while those go on", len(more))
	}
	s.settleAll(100)
	if _, leads := s.counts(); leads[1] != 20 || s.moves != 0 {
		t.Fatalf("preferred %v, %d replicas moved", leads, s.moves)
	}
}
