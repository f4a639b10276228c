package controller

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// seeds are those of a test: n of them, or the one in RAFTSMAN_SEED.
func seeds(t *testing.T, n uint64) (list []uint64) {
	if s := os.Getenv("RAFTSMAN_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	for seed := range n {
		list = append(list, seed)
	}
	return list
}

// ask writes an operation as an operator would.
func (s *sim) ask(op cluster.Op) string {
	s.serial++
	s.Revision++
	id := fmt.Sprint("op", s.serial)
	op.CreateRevision, op.ModRevision = s.Revision, s.Revision
	s.Ops[id] = op
	return id
}

func (s *sim) cancel(id string) {
	s.Revision++
	op := s.Ops[id]
	op.Cancel, op.ModRevision = true, s.Revision
	s.Ops[id] = op
}

// rackOf is a node's rack: of three, or all in one.
func (s *sim) rackOf(id int32) string {
	if s.opts.Moves%2 == 0 {
		return ""
	}
	return fmt.Sprint("r", id%3)
}

// anything does something to the cluster.
func (s *sim) anything(nodes int) {
	id := int32(1 + s.rng.IntN(nodes))
	rack := s.rackOf(id)
	down := 0
	for n := range s.disks {
		if _, up := s.Nodes[n]; !up {
			down++
		}
	}
	tp := cluster.TopicPartition{Topic: fmt.Sprint("t", s.rng.IntN(3)), Partition: int32(s.rng.IntN(8))}
	switch s.rng.IntN(12) {
	case 0, 1:
		s.join(id, rack)
	case 2:
		if down == 0 {
			s.die(id)
		}
	case 3:
		if _, up := s.Nodes[id]; up && down == 0 && s.spare(id) {
			s.wipe(id)
			s.join(id, rack)
		}
	case 4:
		s.now = s.now.Add(s.opts.RebuildDelay)
	case 5:
		s.ask(cluster.Op{Kind: cluster.OpDrain, Node: id})
	case 6:
		s.ask(cluster.Op{Kind: cluster.OpUndrain, Node: id})
	case 7:
		s.ask(cluster.Op{Kind: cluster.OpDecommission, Node: id})
	case 8, 9:
		to := s.rng.Perm(nodes)[:min(3, nodes)]
		for i := range to {
			to[i]++
		}
		op := cluster.Op{Kind: cluster.OpMove, Topic: tp.Topic, Partition: tp.Partition}
		for _, n := range to {
			op.Replicas = append(op.Replicas, int32(n))
		}
		s.ask(op)
	case 10:
		s.ask(cluster.Op{Kind: cluster.OpTransfer, Topic: tp.Topic, Partition: tp.Partition, Node: id})
	case 11:
		if ops := slices.Sorted(maps.Keys(s.Ops)); len(ops) > 0 {
			s.cancel(ops[0])
		}
	}
}

// Whatever happens to a cluster, no plan breaks the rules, and when nothing
// happens any more, it ends in a balanced cluster.
func TestRandomClusters(t *testing.T) {
	for _, seed := range seeds(t, 100) {
		t.Run(fmt.Sprint("RAFTSMAN_SEED=", seed), func(t *testing.T) {
			s := newSim(t, seed, Options{Moves: 1 + int(seed%5), RebuildDelay: time.Minute})
			nodes := 4 + s.rng.IntN(5)
			for i := range 3 {
				s.join(int32(i+1), s.rackOf(int32(i+1)))
			}
			for i := range 3 {
				s.do(t, fmt.Sprintf("topic t%d id=id%d partitions=%d rf=%d", i, i, 4+s.rng.IntN(5), min(1+2*(i+int(seed%3)), 3)))
			}
			s.facts.Replicas = map[string]int{"t0": 3}
			s.settleAll(500)
			for range 60 {
				s.anything(nodes)
				s.now = s.now.Add(time.Second)
				s.round()
				for _, tp := range s.partitions() {
					for range s.rng.IntN(3) {
						s.step(tp)
					}
					s.elect()
				}
			}
			for id := range int32(nodes) {
				if s.disks[id+1] != "" || id < 3 {
					s.join(id+1, s.rackOf(id+1))
				}
				s.ask(cluster.Op{Kind: cluster.OpUndrain, Node: id + 1})
			}
			s.settleAll(3000)
			s.now = s.now.Add(2 * OpLife)
			s.settleAll(3000)
			s.checkEnd()
			for tp, a := range s.Assignments {
				if want := int(s.Topics[tp.Topic].ReplicationFactor); len(a.Replicas) != want || tp.Topic == "t0" && want != 3 {
					t.Fatalf("%s has %d replicas, its topic %d", tp, len(a.Replicas), want)
				}
			}
		})
	}
}

// checkEnd: every operation is over and forgotten, and nothing is left to be
// balanced.
func (s *sim) checkEnd() {
	if len(s.Ops) > 0 || len(s.Wishes) > 0 {
		s.t.Fatalf("left: %v %v", s.Ops, s.Wishes)
	}
	alone := false // some partition can have no other leader
	for tp, a := range s.Assignments {
		g := s.groups[tp]
		alone = alone || len(a.Replicas) == 1
		if g.leader == 0 {
			s.t.Fatalf("%s has no leader: %v, members %v", tp, a.Replicas, g.members)
		}
		if len(g.members) != len(a.Replicas) {
			s.t.Fatalf("%s has members %v, not %v", tp, g.members, a.Replicas)
		}
	}
	checkRacks(s.t, s.model)
	replicas, leads := s.counts()
	byRack := map[string][]int{}
	for id, rack := range s.racks {
		byRack[rack] = append(byRack[rack], replicas[id])
	}
	for rack, counts := range byRack {
		if slices.Max(counts)-slices.Min(counts) > 1 {
			s.t.Fatalf("within rack %s: %v", rack, counts)
		}
	}
	if n := spread(s.model, leads); len(byRack) == 1 && !alone && n > 1 {
		s.t.Fatalf("preferred leaders are %d apart: %v", n, leads)
	}
}
