package controller

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// group stands for a partition's raft group: its leader takes one step at a
// time towards the assignment, as pkg/replication does.
type group struct {
	members map[uint64]cluster.Replica // voters
	ready   map[uint64]bool            // learners that have caught up
	leader  int32
	term    uint64
	reached int64 // revision of the assignment whose members it has
}

// sim is a model with nodes and groups that follow the assignments.
type sim struct {
	*model
	t       testing.TB
	rng     *rand.Rand
	now     time.Time
	opts    Options
	groups  map[cluster.TopicPartition]*group
	racks   map[int32]string
	disks   map[int32]string // incarnations, also of nodes that are down
	bytes   func(cluster.TopicPartition) int64
	away    map[int32]time.Time
	written map[string]time.Time
	moves   int // replicas that were given to another node
	serial  int
}

func newSim(t testing.TB, seed uint64, opts Options) *sim {
	m := newModel()
	m.Ops, m.Wishes, m.Status = map[string]cluster.Op{}, map[int32]cluster.NodeWish{}, map[int32]cluster.NodeStatus{}
	return &sim{
		model: m, t: t, rng: rand.New(rand.NewPCG(seed, 9)), now: now, opts: opts,
		groups: map[cluster.TopicPartition]*group{}, racks: map[int32]string{}, disks: map[int32]string{},
		away: map[int32]time.Time{}, written: map[string]time.Time{}, bytes: func(cluster.TopicPartition) int64 { return 10 << 20 },
	}
}

func (s *sim) join(id int32, rack string) {
	if s.disks[id] == "" {
		s.disks[id] = fmt.Sprint("i", id)
	}
	s.racks[id] = rack
	s.do(s.t, fmt.Sprintf("node %d rack=%s inc=%s", id, rack, s.disks[id]))
}

func (s *sim) die(id int32) { delete(s.Nodes, id) }

// spare says that every group has a majority without a node.
func (s *sim) spare(id int32) bool {
	for _, g := range s.groups {
		live := 0
		for _, r := range g.members {
			if r.Node != id && s.live(r) {
				live++
			}
		}
		if 2*live <= len(g.members) {
			return false
		}
	}
	return true
}

// wipe empties a node's disk.
func (s *sim) wipe(id int32) {
	s.serial++
	s.disks[id] = fmt.Sprint("w", s.serial)
}

// live says that a replica can vote.
func (s *sim) live(r cluster.Replica) bool {
	n, up := s.Nodes[r.Node]
	return up && n.Incarnation == r.Incarnation
}

func (s *sim) quorum(g *group) bool {
	live := 0
	for _, r := range g.members {
		if s.live(r) {
			live++
		}
	}
	return 2*live > len(g.members)
}

// elect gives each group the leader that it can have: the preferred one that is
// not drained, else any.
func (s *sim) elect() {
	for tp, a := range s.Assignments {
		g := s.groups[tp]
		if g == nil {
			g = &group{members: map[uint64]cluster.Replica{}, ready: map[uint64]bool{}, reached: a.ModRevision}
			for _, r := range a.Replicas {
				g.members[r.ID] = r
			}
			s.groups[tp] = g
		}
		var best int32
		if s.quorum(g) {
			for _, r := range a.Replicas {
				if _, in := g.members[r.ID]; in && s.live(r) && (best == 0 || s.Wishes[best].State != "" && s.Wishes[r.Node].State == "") {
					best = r.Node
				}
			}
			for _, id := range slices.Sorted(maps.Keys(g.members)) {
				if r := g.members[id]; best == 0 && s.live(r) {
					best = r.Node
				}
			}
		}
		if best != g.leader {
			g.leader = best
			g.term++
		}
	}
}

// step takes one group one step towards its assignment.
func (s *sim) step(tp cluster.TopicPartition) {
	g, a := s.groups[tp], s.Assignments[tp]
	if g == nil || g.leader == 0 || g.reached >= a.ModRevision {
		return
	}
	for _, r := range a.Replicas {
		if _, in := g.members[r.ID]; in {
			continue
		}
		if s.live(r) && !g.ready[r.ID] {
			g.ready[r.ID] = true
		} else if g.ready[r.ID] && s.live(r) {
			g.members[r.ID] = r
		}
		return
	}
	var leaving []uint64
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		if r := g.members[id]; hasID(a.Replicas, id) {
			continue
		} else if s.live(r) {
			leaving = append(leaving, id)
		} else {
			leaving = append([]uint64{id}, leaving...)
		}
	}
	if len(leaving) > 0 {
		r := g.members[leaving[0]]
		if delete(g.members, r.ID); !s.quorum(g) {
			g.members[r.ID] = r // others died meanwhile: wait for them
		}
		return
	}
	g.reached = a.ModRevision
}

// report writes the nodes' status.
func (s *sim) report() {
	s.elect()
	s.Status = map[int32]cluster.NodeStatus{}
	s.Revision++
	for id := range s.Nodes {
		s.Status[id] = cluster.NodeStatus{Node: id, Assignments: s.Revision, Leads: map[string]map[int32]uint64{},
			Lagging: map[string]map[int32][]int32{}, Moving: map[string][]int32{}, Bytes: map[string]map[int32]int64{}}
	}
	for tp, a := range s.Assignments {
		g := s.groups[tp]
		if g.leader == 0 {
			continue
		}
		st := s.Status[g.leader]
		if st.Leads[tp.Topic] == nil {
			st.Leads[tp.Topic], st.Lagging[tp.Topic], st.Bytes[tp.Topic] = map[int32]uint64{}, map[int32][]int32{}, map[int32]int64{}
		}
		st.Leads[tp.Topic][tp.Partition], st.Bytes[tp.Topic][tp.Partition] = g.term, s.bytes(tp)
		if g.reached < a.ModRevision {
			st.Moving[tp.Topic] = append(st.Moving[tp.Topic], tp.Partition)
		}
		for _, r := range a.Replicas {
			if _, in := g.members[r.ID]; !s.live(r) || !in && !g.ready[r.ID] {
				st.Lagging[tp.Topic][tp.Partition] = append(st.Lagging[tp.Topic][tp.Partition], r.Node)
			}
		}
	}
	holders := map[int32]bool{}
	for _, a := range s.Assignments {
		for _, r := range a.Replicas {
			holders[r.Node] = true
		}
	}
	for id := range holders {
		if _, up := s.Nodes[id]; up {
			delete(s.away, id)
		} else if _, known := s.away[id]; !known {
			s.away[id] = s.now
		}
	}
	maps.DeleteFunc(s.away, func(id int32, _ time.Time) bool {
		return !holders[id] || s.live(cluster.Replica{Node: id, Incarnation: s.disks[id]})
	})
}

func (s *sim) factsNow() Facts {
	return Facts{Options: s.opts, Now: s.now, Away: s.away, Written: s.written, Replicas: s.facts.Replicas}
}

// round is a report, a plan, and what the plan decided; it says whether
// anything was decided.
func (s *sim) round() (decided bool) {
	s.report()
	changes := Plan(&s.View, s.factsNow())
	if again := Plan(&s.View, s.factsNow()); fmt.Sprint(again) != fmt.Sprint(changes) {
		s.t.Fatalf("two plans of one view:\n%v\n%v", changes, again)
	}
	s.check(changes)
	decided = slices.ContainsFunc(changes, func(c Change) bool { return c.Kind != cluster.Blocked })
	if err := s.apply(changes); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range changes {
		if c.Kind == cluster.WriteOp {
			s.written[c.OpID] = s.now
		}
	}
	checkAssignments(s.t, s.model)
	return decided
}

// check holds a plan to the rules.
func (s *sim) check(changes []Change) {
	seen := map[string]bool{}
	arriving := 0
	for tp, a := range s.Assignments {
		if g := s.groups[tp]; g.leader != 0 && g.reached < a.ModRevision {
			for _, r := range a.Replicas {
				if len(a.Former) > 0 && !hasID(a.Former, r.ID) {
					arriving++
				}
			}
		}
	}
	wishes := maps.Clone(s.Wishes)
	for _, c := range changes {
		switch c.Kind {
		case cluster.WriteWish:
			wishes[c.Node] = c.Wish
		case cluster.DropWish:
			delete(wishes, c.Node)
		}
	}
	began := 0
	for _, c := range changes {
		switch key := c.TP.String(); c.Kind {
		case cluster.Blocked:
			if seen[c.Reason] {
				s.t.Fatalf("said twice: %s", c)
			}
			seen[c.Reason] = true
		case cluster.Replace, cluster.Place, cluster.Remove:
			if seen[key] {
				s.t.Fatalf("%s is touched twice:\n%v", key, changes)
			}
			seen[key] = true
			if c.Kind == cluster.Replace {
				n := s.checkReplace(c, wishes)
				if began == 0 && arriving == 0 { // a move may ask for more than move at a time
					n = min(n, s.opts.Moves)
				}
				began += n
			}
		}
	}
	if began > 0 && arriving+began > s.opts.Moves {
		s.t.Fatalf("%d replicas were moving, %d more begin, %d may", arriving, began, s.opts.Moves)
	}
}

// checkReplace returns how many replicas begin to move to another node.
func (s *sim) checkReplace(c Change, wishes map[int32]cluster.NodeWish) (began int) {
	was, g := s.Assignments[c.TP], s.groups[c.TP]
	settled := g.leader != 0 && g.reached >= was.ModRevision
	seen := g.leader != 0 && s.View.Status[g.leader].Assignments >= was.ModRevision
	live := func(rs []cluster.Replica) (n int) {
		for _, r := range rs {
			if s.live(r) {
				n++
			}
		}
		return n
	}
	if !strings.Contains(c.Reason, "operator") && len(c.Assignment.Replicas) < len(was.Replicas) {
		s.t.Fatalf("%s has fewer replicas than %s", c, cluster.FormatReplicas(was.Replicas))
	}
	if live(c.Assignment.Replicas) < live(was.Replicas) {
		s.t.Fatalf("%s has fewer live replicas than %s", c, cluster.FormatReplicas(was.Replicas))
	}
	if fmt.Sprint(c.Assignment.Bootstrap()) != fmt.Sprint(was.Bootstrap()) || c.Assignment.Generation <= was.Generation {
		s.t.Fatalf("%s follows %+v", c, was)
	}
	if former := c.Assignment.Former; settled && !slices.Equal(former, was.Replicas) ||
		!settled && seen && len(was.Former) > 0 && !slices.Equal(former, was.Former) {
		s.t.Fatalf("%s: former members %v, they were %+v", c, former, was)
	}
	for _, r := range c.Assignment.Replicas {
		if hasID(was.Replicas, r.ID) || hasNode(was.Replicas, r.Node) || hasID(was.Former, r.ID) {
			continue
		}
		if i := slices.IndexFunc(was.Former, func(f cluster.Replica) bool { return f.Node == r.Node }); i >= 0 && !settled && s.live(was.Former[i]) {
			s.t.Fatalf("%s puts another replica beside %+v", c, was.Former[i])
		}
		n, up := s.Nodes[r.Node]
		if !up || n.State != cluster.StateReady || wishes[r.Node].State != "" && !strings.Contains(c.Reason, "operator") {
			s.t.Fatalf("%s places a replica on a node that takes none", c)
		}
		s.moves++
		if settled {
			began++
		}
	}
	for _, r := range was.Replicas {
		if _, lost := s.away[r.Node]; !hasID(c.Assignment.Replicas, r.ID) && !s.live(r) && lost && !strings.Contains(c.Reason, "operator") {
			if wishes[r.Node].State != cluster.WishDecommissioned && s.now.Sub(s.away[r.Node]) < s.opts.RebuildDelay {
				s.t.Fatalf("%s: node %d has not been away for long", c, r.Node)
			}
		}
	}
	return began
}

// partitions are the assigned ones, in the same order each time.
func (s *sim) partitions() []cluster.TopicPartition {
	return slices.SortedFunc(maps.Keys(s.Assignments), func(a, b cluster.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// settleAll plans and lets the groups follow, in any order, until nothing is
// left to do.
func (s *sim) settleAll(rounds int) {
	quiet := 0
	for range rounds {
		s.now = s.now.Add(time.Second)
		decided := s.round()
		still := true
		s.elect()
		for _, tp := range s.partitions() {
			g := s.groups[tp]
			for range s.rng.IntN(8) {
				s.step(tp)
			}
			still = still && (g.leader == 0 || g.reached >= s.Assignments[tp].ModRevision)
		}
		if quiet++; decided || !still {
			quiet = 0
		}
		if quiet == 2 {
			return
		}
	}
	s.t.Fatalf("no end after %d rounds; next: %v", rounds, Plan(&s.View, s.factsNow()))
}
