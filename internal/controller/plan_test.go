package controller

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/cluster"
)

var update = flag.Bool("update", false, "rewrite testdata with what Plan does now")

// Each script is lines that change the view; what a line prints follows it,
// indented. go test -update writes that.
func TestPlanScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			m := newModel()
			for line := range strings.Lines(string(data)) {
				if strings.HasPrefix(line, "\t") {
					continue // what was printed before
				}
				got.WriteString(line)
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				for out := range strings.Lines(m.do(t, line)) {
					got.WriteString("\t" + out)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != string(data) {
				t.Errorf("%s differs; got:\n%s", file, got.String())
			}
		})
	}
}

// settle plans and applies until nothing is left, and returns what is blocked.
func settle(t *testing.T, m *model) (blocked []Change) {
	t.Helper()
	for range 10 {
		changes := Plan(&m.View, Facts{})
		if again := Plan(&m.View, Facts{}); fmt.Sprint(again) != fmt.Sprint(changes) {
			t.Fatalf("two plans of one view:\n%v\n%v", changes, again)
		}
		blocked = slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Kind != cluster.Blocked })
		if len(blocked) == len(changes) {
			return blocked
		}
		if err := m.apply(changes); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no fixpoint after ten rounds")
	return nil
}

// A fresh cluster, with as many nodes in each rack: everything within one.
func TestFreshClustersAreBalanced(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newModel()
		racks, size := 1+rng.IntN(4), 1+rng.IntN(4)
		for i := range racks * size {
			m.do(t, fmt.Sprintf("node %d rack=r%d", i+1, i%racks))
		}
		for i := range 1 + rng.IntN(5) {
			m.do(t, fmt.Sprintf("topic t%d id=id%d partitions=%d rf=%d", i, i, 1+rng.IntN(40), 1+rng.IntN(racks*size)))
		}
		if blocked := settle(t, m); len(blocked) > 0 {
			t.Fatalf("seed %d: blocked: %v", seed, blocked)
		}
		checkAssignments(t, m)
		checkRacks(t, m)
		replicas, leads := m.counts()
		if s := spread(m, replicas); s > 1 {
			t.Fatalf("seed %d: replicas differ by %d: %v", seed, s, replicas)
		}
		if s := spread(m, leads); s > 1 {
			t.Fatalf("seed %d: preferred leaders differ by %d: %v (replicas %v)", seed, s, leads, replicas)
		}
	}
}

// Whatever has happened before, planning comes to an end and keeps the rules.
func TestAnyViewSettles(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := newModel()
		nodes, inc, topics := 1+rng.IntN(8), 0, 0
		for step := range 25 {
			switch id := 1 + rng.IntN(nodes); rng.IntN(7) {
			case 0:
				m.do(t, fmt.Sprintf("node %d rack=r%d", id, id%3))
			case 1:
				inc++
				m.do(t, fmt.Sprintf("node %d rack=r%d inc=x%d", id, id%3, inc)) // wiped
			case 2:
				m.do(t, fmt.Sprintf("lost %d", id))
			case 3:
				m.do(t, fmt.Sprintf("node %d state=draining", id))
			case 4:
				topics++
				m.do(t, fmt.Sprintf("topic t%d id=id%d partitions=%d rf=%d", topics, topics, 1+rng.IntN(9), 1+rng.IntN(nodes)))
			case 5:
				if name := fmt.Sprintf("t%d", 1+rng.IntN(topics+1)); m.Topics[name].ID != "" {
					m.do(t, fmt.Sprintf("topic %s id=%s partitions=%d rf=%d", name, m.Topics[name].ID,
						m.Topics[name].Partitions+3, m.Topics[name].ReplicationFactor))
				}
			case 6:
				if name := fmt.Sprintf("t%d", 1+rng.IntN(topics+1)); m.Topics[name].ID != "" {
					m.do(t, "delete "+name)
				}
			}
			if step%3 == 0 {
				before := maps.Clone(m.Assignments)
				settle(t, m)
				checkAssignments(t, m)
				checkMonotonic(t, before, m)
			}
		}
		settle(t, m)
		checkAssignments(t, m)
		for tp, a := range m.Assignments {
			if _, dead := m.Deleted[a.TopicID]; dead {
				t.Fatalf("seed %d: %s is of a deleted topic", seed, tp)
			}
		}
	}
}

// checkAssignments: no node twice in a partition, no replica id twice anywhere.
func checkAssignments(t testing.TB, m *model) {
	t.Helper()
	ids := map[uint64]cluster.TopicPartition{}
	for tp, a := range m.Assignments {
		seen := map[int32]bool{}
		for _, r := range a.Replicas {
			if seen[r.Node] {
				t.Fatalf("%s: node %d twice: %v", tp, r.Node, a.Replicas)
			}
			seen[r.Node] = true
			if other, ok := ids[r.ID]; ok {
				t.Fatalf("replica id %d in %s and %s", r.ID, other, tp)
			}
			ids[r.ID] = tp
			if int64(r.ID) >= m.ReplicaIDs.Next {
				t.Fatalf("replica id %d was not reserved: next is %d", r.ID, m.ReplicaIDs.Next)
			}
		}
	}
}

// checkMonotonic: a changed assignment has a higher generation, the same first
// replicas, and new ids for what was replaced.
func checkMonotonic(t *testing.T, before map[cluster.TopicPartition]cluster.Assignment, m *model) {
	t.Helper()
	for tp, old := range before {
		a, ok := m.Assignments[tp]
		if !ok || a.TopicID != old.TopicID || fmt.Sprint(a.Replicas) == fmt.Sprint(old.Replicas) {
			continue
		}
		if a.Generation <= old.Generation || fmt.Sprint(a.Bootstrap()) != fmt.Sprint(old.Bootstrap()) {
			t.Fatalf("%s: %+v became %+v", tp, old, a)
		}
	}
}

// checkRacks: a rack gets a second replica only when every other rack has as
// many already, or no node left.
func checkRacks(t testing.TB, m *model) {
	t.Helper()
	size := map[string]int{}
	for _, n := range m.Nodes {
		size[n.Rack]++
	}
	for tp, a := range m.Assignments {
		in := map[string]int{}
		for _, r := range a.Replicas {
			in[m.Nodes[r.Node].Rack]++
		}
		for x := range size {
			for y := range size {
				if in[x] > in[y]+1 && in[y] < size[y] {
					t.Fatalf("%s: %d replicas in rack %s, %d of %d in rack %s", tp, in[x], x, in[y], size[y], y)
				}
			}
		}
	}
}

func TestUnevenRacksAreSpread(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := newModel()
		nodes := 2 + rng.IntN(9)
		for i := range nodes {
			m.do(t, fmt.Sprintf("node %d rack=r%d", i+1, rng.IntN(4)))
		}
		m.do(t, fmt.Sprintf("topic t id=id partitions=%d rf=%d", 1+rng.IntN(50), 1+rng.IntN(nodes)))
		settle(t, m)
		checkAssignments(t, m)
		checkRacks(t, m)
		replicas, _ := m.counts()
		byRack := map[string][]int{}
		for id, n := range m.Nodes {
			byRack[n.Rack] = append(byRack[n.Rack], replicas[id])
		}
		for rack, counts := range byRack {
			if slices.Max(counts)-slices.Min(counts) > 1 {
				t.Fatalf("seed %d: within rack %s: %v", seed, rack, counts)
			}
		}
	}
}

// spread is the difference between the fullest and the emptiest node.
func spread(m *model, counts map[int32]int) int {
	low, high := 1<<30, 0
	for id := range m.Nodes {
		low, high = min(low, counts[id]), max(high, counts[id])
	}
	return high - low
}
