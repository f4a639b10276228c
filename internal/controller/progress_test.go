package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// The estimate of a decommission is right within a factor of two from its begin
// to its end, for small and for large partitions. The groups here take what the
// rate and a few steps of raft take.
func TestEstimateOfADecommission(t *testing.T) {
	for _, c := range []struct {
		partitions int
		bytes      int64
		step       time.Duration // of one move besides its bytes
	}{{300, 10 << 20, 500 * time.Millisecond}, {300, 10 << 20, time.Second}, {30, 2 << 30, time.Second}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			const tick = 100 * time.Millisecond
			s := newSim(t, 1, Options{Moves: 8, Rate: 50 << 20, RebuildDelay: time.Hour})
			for id := range int32(5) {
				s.join(id+1, "")
			}
			s.bytes = func(cluster.TopicPartition) int64 { return c.bytes }
			s.do(t, fmt.Sprintf("topic t id=T partitions=%d rf=3", c.partitions))
			s.settleAll(100)
			began, id := s.now, s.ask(cluster.Op{Kind: cluster.OpDecommission, Node: 5})
			said := map[time.Duration]int64{} // after how long which estimate was given
			begun, left := map[cluster.TopicPartition]time.Time{}, map[cluster.TopicPartition]int64{}
			for s.Ops[id].State != cluster.OpDone {
				if s.now = s.now.Add(tick); s.now.Sub(began) > 24*time.Hour {
					t.Fatalf("no end: %+v", s.Ops[id])
				}
				s.round()
				if op := s.Ops[id]; op.State == cluster.OpRunning && op.Progress.EstimateSeconds > 0 {
					said[s.now.Sub(began)] = op.Progress.EstimateSeconds
				}
				s.copy(tick, c.step, begun, left)
			}
			took := s.now.Sub(began)
			t.Logf("took %s", took)
			wrong := 0
			for at, estimate := range said {
				rest := (took - at).Seconds()
				if at < took*8/10 && (float64(estimate) > 2*rest || float64(estimate) < rest/2) {
					wrong++
					t.Logf("after %s it said %d s more, it took %.0f s", at, estimate, rest)
				}
			}
			if wrong > len(said)/20 || len(said) < 20 {
				t.Errorf("%d of %d estimates were wrong", wrong, len(said))
			}
		})
	}
}

// copy lets each receiving node share its rate among what it receives, and ends
// the moves that have lasted long enough.
func (s *sim) copy(tick, step time.Duration, begun map[cluster.TopicPartition]time.Time, left map[cluster.TopicPartition]int64) {
	s.elect()
	receives := map[int32]int64{}
	to := map[cluster.TopicPartition]int32{}
	for tp, a := range s.Assignments {
		if s.groups[tp].reached >= a.ModRevision {
			delete(begun, tp)
			continue
		}
		if begun[tp].IsZero() {
			begun[tp], left[tp] = s.now, s.bytes(tp)
		}
		for _, r := range a.Replicas {
			if !hasID(a.Former, r.ID) && left[tp] > 0 {
				to[tp] = r.Node
				receives[r.Node]++
			}
		}
	}
	for tp, a := range s.Assignments {
		if node, ok := to[tp]; ok {
			left[tp] -= s.opts.Rate * int64(tick) / int64(time.Second) / receives[node]
		}
		if since, moving := begun[tp]; moving && left[tp] <= 0 && s.now.Sub(since) >= step {
			for s.groups[tp].reached < a.ModRevision {
				s.step(tp)
			}
		}
	}
}
