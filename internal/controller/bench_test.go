package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// big is a settled cluster of 100 nodes and 100,000 partitions.
func big(b *testing.B) *sim {
	s := newSim(b, 1, Options{Moves: 8, RebuildDelay: time.Minute, Rate: 50 << 20})
	for i := range int32(100) {
		s.join(i+1, fmt.Sprint("r", i%3))
	}
	for i := range 10 {
		s.do(b, fmt.Sprintf("topic t%d id=id%d partitions=10000 rf=3", i, i))
	}
	if err := s.apply(Plan(&s.View, s.factsNow())); err != nil {
		b.Fatal(err)
	}
	s.report()
	for range 100 {
		if err := s.apply(Plan(&s.View, s.factsNow())); err != nil {
			b.Fatal(err)
		}
		s.elect()
		for tp := range s.Assignments {
			s.groups[tp].reached = s.Assignments[tp].ModRevision
		}
		s.report()
		if len(Plan(&s.View, s.factsNow())) == 0 {
			return s
		}
	}
	b.Fatalf("not settled: %v", Plan(&s.View, s.factsNow()))
	return nil
}

func BenchmarkPlan(b *testing.B) {
	s := big(b)
	run := func(name string, prepare func()) {
		b.Run(name, func(b *testing.B) {
			prepare()
			s.report()
			facts := s.factsNow()
			b.ReportAllocs()
			for b.Loop() {
				Plan(&s.View, facts)
			}
		})
	}
	run("nothing", func() {})
	run("node joined", func() { s.join(101, "r0") })
	run("node decommissioned", func() {
		s.Wishes[7] = cluster.NodeWish{State: cluster.WishDecommissioned}
		s.ask(cluster.Op{Kind: cluster.OpDecommission, Node: 8})
	})
	run("node away", func() {
		clear(s.Wishes)
		clear(s.Ops)
		s.die(9)
		s.report()
		s.now = s.now.Add(time.Hour)
	})
}
