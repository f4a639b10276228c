package replication

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

// storm is a cluster with many groups whose network and nodes fail at random.
// Replica ids are 10 times the group plus the node.
type storm struct {
	t      *testing.T
	rnd    *rand.Rand
	net    *faultNet
	nodes  int32
	groups int
	rf     func(group int) int
	slow   time.Duration // raft's own timers
	fs     map[int32]vfs.FS
	dir    string

	mu     sync.Mutex
	addrs  map[int32]string
	up     map[int32]*Host
	lists  map[uint64]*list
	open   map[uint64]*Group
	acked  map[int][]string
	serial int
}

func (s *storm) NodeOf(replica uint64) (int32, bool) { return int32(replica % 10), true }

func (s *storm) PeerAddr(node int32) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.addrs[node]
	return a, ok
}

func (s *storm) Peers() (ids []int32) {
	for id := int32(1); id <= s.nodes; id++ {
		ids = append(ids, id)
	}
	return ids
}

// members are the nodes of a group.
func (s *storm) members(group int) (nodes []int32) {
	for i := range s.rf(group) {
		nodes = append(nodes, int32((group+i)%int(s.nodes))+1)
	}
	return nodes
}

func (s *storm) start(id int32) {
	s.t.Helper()
	addr, ok := s.PeerAddr(id)
	if !ok {
		addr = "127.0.0.1:0"
	}
	ln, err := s.net.listen(id, addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.addrs[id] = ln.Addr().String()
	s.mu.Unlock()
	dir := "/"
	if s.fs[id] == nil {
		dir = filepath.Join(s.dir, fmt.Sprint(id))
	}
	h, err := Open(Config{
		Dir: dir, FS: s.fs[id], ClusterID: "storm", NodeID: id, Incarnation: fmt.Sprint("i", id),
		Store: StoreWAL, Listener: ln, Dial: s.net.dialer(id), Resolver: s, Logger: testLogger().With("node", id),
		HeartbeatTimeout: s.slow, CommitTimeout: 3 * s.slow, LeaderLease: 500 * time.Millisecond,
		SnapshotBytes: 1 << 20, TrailingBytes: 1 << 18, WALFileSize: 1 << 20, WALSizeLimit: 64 << 20,
	})
	if err == nil {
		err = h.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.up[id] = h
	s.mu.Unlock()
	for g := range s.groups {
		nodes := s.members(g)
		if !slices.Contains(nodes, id) {
			continue
		}
		var initial []uint64
		for _, n := range nodes {
			initial = append(initial, uint64(10*g)+uint64(n))
		}
		l, replica := &list{}, uint64(10*g)+uint64(id)
		group, err := h.OpenGroup(GroupConfig{Replica: replica, Name: fmt.Sprint("g", g), Initial: initial, StateMachine: l, Membership: l})
		if err != nil {
			s.t.Fatal(err)
		}
		s.mu.Lock()
		s.lists[replica], s.open[replica] = l, group
		s.mu.Unlock()
	}
}

func (s *storm) stop(id int32) {
	s.t.Helper()
	s.mu.Lock()
	h := s.up[id]
	delete(s.up, id)
	for replica := range s.open {
		if int32(replica%10) == id {
			delete(s.open, replica)
		}
	}
	s.mu.Unlock()
	began := time.Now()
	if err := h.Close(); err != nil {
		s.t.Errorf("close node %d: %v", id, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		s.t.Errorf("node %d took %v to close", id, took)
	}
}

// replicas of a group that are open.
func (s *storm) replicas(group int) (all []*Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.members(group) {
		if g := s.open[uint64(10*group)+uint64(n)]; g != nil {
			all = append(all, g)
		}
	}
	return all
}

// write proposes to a group now and then until stop is closed.
func (s *storm) write(group int, pause time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for _, g := range s.replicas(group) {
			if !g.Status().Leading {
				continue
			}
			s.mu.Lock()
			s.serial++
			v := fmt.Sprint("v", s.serial)
			s.mu.Unlock()
			if g.Propose([]byte(v), nil).Error() == nil {
				s.mu.Lock()
				s.acked[group] = append(s.acked[group], v)
				s.mu.Unlock()
			}
			break
		}
	}
}

func (s *storm) pass(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// fault does one thing to the network or to a node.
func (s *storm) fault(down map[int32]bool) string {
	a := 1 + s.rnd.Int32N(s.nodes)
	b := 1 + (a-1+1+s.rnd.Int32N(s.nodes-1))%s.nodes
	what := s.rnd.IntN(11)
	name := [...]string{"cut", "cut one way", "isolate", "isolate one way", "drop", "refuse", "slow", "stop", "start", "heal", "flap"}[what]
	others := func(f func(o int32)) {
		for o := int32(1); o <= s.nodes; o++ {
			if o != a {
				f(o)
			}
		}
	}
	switch what {
	case 0:
		s.net.set(a, b, true)
		s.net.set(b, a, true)
	case 1:
		s.net.set(a, b, true)
	case 2:
		others(func(o int32) { s.net.set(a, o, true); s.net.set(o, a, true); s.net.drop(a, o) })
	case 3:
		others(func(o int32) { s.net.set(a, o, true) })
	case 4:
		s.net.drop(a, b)
	case 5:
		s.net.refuse(a, b, true)
		s.net.drop(a, b)
	case 6:
		s.net.slow(a, b, time.Duration(s.rnd.IntN(80))*time.Millisecond)
	case 7:
		if !down[a] {
			s.stop(a)
			down[a] = true
		}
	case 8:
		for id := range down {
			s.start(id)
			delete(down, id)
			break
		}
	case 9:
		s.net.heal()
	case 10:
		for range 6 {
			s.net.set(a, b, true)
			s.pass(time.Duration(s.rnd.IntN(60)) * time.Millisecond)
			s.net.set(a, b, false)
			s.net.drop(a, b)
			s.pass(time.Duration(s.rnd.IntN(60)) * time.Millisecond)
		}
	}
	return fmt.Sprintf("%s %d %d", name, a, b)
}

// within waits for a condition, and says what is missing if it does not come.
func (s *storm) within(limit time.Duration, story []string, missing func() string) time.Duration {
	s.t.Helper()
	began := time.Now()
	for {
		m := missing()
		if m == "" {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			s.t.Fatalf("after %v: %s\nfaults: %s", limit, m, strings.Join(story, "; "))
		}
		s.pass(5 * time.Millisecond)
	}
}

// joined says which nodes do not reach each other, or miss a leader.
func (s *storm) joined() string {
	for a, h := range s.up {
		for b := range s.up {
			if a != b && !h.net.Alive(b) {
				return fmt.Sprintf("node %d does not reach node %d", a, b)
			}
		}
		if n := h.failover.lost.Load(); n > 0 {
			return fmt.Sprintf("node %d misses %d leaders", a, n)
		}
	}
	return ""
}

// led says which group has not exactly one leader that all its replicas know.
func (s *storm) led() string {
	for group := range s.groups {
		var leader Status
		all := s.replicas(group)
		for _, g := range all {
			if st := g.Status(); st.Leading {
				if leader.Leading {
					return fmt.Sprintf("group %d has two leaders: %+v and %+v", group, leader, st)
				}
				leader = st
			}
		}
		for _, g := range all {
			st := g.Status()
			if !leader.Leading || st.Leader != leader.Leader || g.raft.CurrentTerm() != leader.Term {
				var states []string
				for _, g := range all {
					states = append(states, fmt.Sprintf("%d: %+v raft %v term %d last %d", g.replica, g.Status(), g.raft.State(), g.raft.CurrentTerm(), g.raft.LastIndex()))
				}
				return fmt.Sprintf("group %d: %s", group, strings.Join(states, "; "))
			}
		}
	}
	return ""
}

// agreed says which group's replicas have not all applied all that there is.
func (s *storm) agreed() string {
	for group := range s.groups {
		all := s.replicas(group)
		for _, g := range all {
			if g.AppliedIndex() != all[0].AppliedIndex() || g.raft.CommitIndex() != g.raft.LastIndex() || g.raft.LastIndex() != all[0].raft.LastIndex() {
				var states []string
				for _, g := range all {
					states = append(states, fmt.Sprintf("%d: applied %d commit %d last %d leading %v", g.replica, g.AppliedIndex(), g.raft.CommitIndex(), g.raft.LastIndex(), g.Status().Leading))
				}
				return fmt.Sprintf("group %d: %s", group, strings.Join(states, "; "))
			}
		}
	}
	return ""
}

// same checks that all replicas hold the same, and what was acknowledged.
func (s *storm) same() {
	for group := range s.groups {
		all := s.replicas(group)
		first := s.lists[all[0].replica].snapshot()
		for _, g := range all[1:] {
			if other := s.lists[g.replica].snapshot(); !slices.Equal(first, other) {
				s.t.Fatalf("group %d: replica %d holds %d values, replica %d %d", group, all[0].replica, len(first), g.replica, len(other))
			}
		}
		at := make(map[string]int, len(first))
		for i, v := range first {
			at[v] = i
		}
		last := -1
		for _, v := range s.acked[group] {
			i, ok := at[v]
			if !ok || i <= last {
				s.t.Fatalf("group %d: acknowledged %s is at %d (there: %v), after %d", group, v, i, ok, last)
			}
			last = i
		}
	}
}

// round does some faults, heals, and looks at what becomes of it.
func (s *storm) round(n int) {
	s.t.Helper()
	down := make(map[int32]bool)
	var story []string
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for group := 0; group < s.groups; group += 5 {
		writers.Go(func() { s.write(group, 20*time.Millisecond, stop) })
	}
	for range 1 + s.rnd.IntN(5) {
		story = append(story, s.fault(down))
		s.pass(time.Duration(s.rnd.IntN(2500)) * time.Millisecond)
	}
	if s.rnd.IntN(2) == 0 { // what was broken during the heal
		close(stop)
		stop = nil
	}
	s.net.heal()
	for id := range down {
		s.start(id)
	}
	led := s.within(healLimit, story, s.led)
	if stop != nil {
		close(stop)
	}
	writers.Wait()
	// A writer's last entry may have cost the leader another look.
	agreed := s.within(healLimit, story, func() string {
		return cmp.Or(s.joined(), s.led(), s.agreed())
	})
	s.same()
	s.calm(story)
	s.t.Logf("round %d: led after %v, agreed %v later: %s", n, led.Round(time.Millisecond), agreed.Round(time.Millisecond), strings.Join(story, "; "))
}

// healLimit: raft's own timers are far slower.
const healLimit = 15 * time.Second

// calm checks that nothing goes on when nothing happens: no term grows, and no
// entry is written.
func (s *storm) calm(story []string) {
	s.t.Helper()
	look := func() (all []string) {
		for group := range s.groups {
			for _, g := range s.replicas(group) {
				all = append(all, fmt.Sprintf("replica %d: %+v, term %d, last %d", g.replica, g.Status(), g.raft.CurrentTerm(), g.raft.LastIndex()))
			}
		}
		return all
	}
	before := look()
	var from []uint64
	for id := int32(1); id <= s.nodes; id++ {
		from = append(from, s.up[id].failover.scans.Load())
	}
	s.within(healLimit, story, func() string {
		for id := int32(1); id <= s.nodes; id++ {
			if s.up[id].failover.scans.Load() < from[id-1]+20 {
				return fmt.Sprintf("node %d does not look after its groups", id)
			}
		}
		return ""
	})
	for i, now := range look() {
		if now != before[i] {
			s.t.Fatalf("nothing happened, but %s became %s\nfaults: %s", before[i], now, strings.Join(story, "; "))
		}
	}
}

func stormSettings(t *testing.T, rounds int) (seed uint64, n int) {
	seed = rand.Uint64()
	if v := os.Getenv("RAFTSMAN_SEED"); v != "" {
		seed, _ = strconv.ParseUint(v, 10, 64)
	}
	if v := os.Getenv("RAFTSMAN_ROUNDS"); v != "" {
		rounds, _ = strconv.Atoi(v)
	}
	t.Logf("RAFTSMAN_SEED=%d RAFTSMAN_ROUNDS=%d", seed, rounds)
	return seed, rounds
}

func newStorm(t *testing.T, seed uint64, nodes int32, groups int, pipes bool) *storm {
	s := &storm{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), net: newFaultNet(pipes), nodes: nodes, groups: groups, slow: time.Hour,
		fs: make(map[int32]vfs.FS), addrs: make(map[int32]string), up: make(map[int32]*Host),
		lists: make(map[uint64]*list), open: make(map[uint64]*Group), acked: make(map[int][]string),
	}
	s.rf = func(group int) int { return min(int(nodes), 3+2*(group%2)) }
	return s
}

func (s *storm) run(rounds int) {
	for id := int32(1); id <= s.nodes; id++ {
		s.start(id)
	}
	defer func() {
		s.net.heal()
		for id := int32(1); id <= s.nodes; id++ {
			if s.up[id] != nil {
				s.stop(id)
			}
		}
	}()
	s.within(healLimit, []string{"first start"}, s.led)
	most := 0
	for n := range rounds {
		s.round(n)
		if now := runtime.NumGoroutine(); n == 0 {
			most = now + now/4
		} else if now > most {
			s.t.Fatalf("round %d: %d goroutines, and %d were too many in the first", n, now, most)
		}
	}
}

// TestStorm cuts, slows and breaks connections and stops nodes at random, over
// TCP. After each healing all groups have one leader, all replicas apply all
// that was committed though nothing new is proposed, and then nothing moves.
func TestStorm(t *testing.T) {
	for _, nodes := range []int32{3, 5} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			seed, rounds := stormSettings(t, 1)
			s := newStorm(t, seed, nodes, 50, false)
			s.dir = t.TempDir()
			s.run(rounds)
		})
	}
}

// TestStormInFakeTime does the same with pipes and fake time, many more rounds.
func TestStormInFakeTime(t *testing.T) {
	for _, nodes := range []int32{2, 3, 4, 5} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			seed, rounds := stormSettings(t, 3)
			// Pooled objects have channels, which belong to the bubble they were made in.
			runtime.GC()
			runtime.GC()
			synctest.Test(t, func(t *testing.T) {
				s := newStorm(t, seed, nodes, 10, true)
				if nodes == 4 {
					s.rf = func(int) int { return 4 }
				}
				for id := int32(1); id <= nodes; id++ {
					s.fs[id] = vfs.NewMem()
				}
				s.run(rounds)
			})
			runtime.GC()
			runtime.GC()
		})
	}
}
