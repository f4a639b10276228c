//go:build system

package system

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

// startPlaced starts a cluster with a topic of filled partitions under load.
func startPlaced(t *testing.T, nodes, partitions, bytes int, extra ...string) (*cluster, *spread) {
	t.Helper()
	seed := seedOf(t)
	c := startCluster(t, nodes, 10*time.Second, extra...)
	c.createMany("placed", partitions)
	s := startSpread(t, c.kafka, seed)
	s.add("placed", partitions, false, false)
	s.fill(t, bytes)
	return c, s
}

// TestNodesJoin: two nodes join three, and get their fifths of the replicas, the
// leaders and the bytes, at the set rate, with no error at a client and no more
// moved than needed. The claim is 300 partitions of 10 MB (RAFTSMAN_PARTITIONS,
// RAFTSMAN_PARTITION_BYTES) within three minutes.
func TestNodesJoin(t *testing.T) {
	partitions := fromEnv("RAFTSMAN_PARTITIONS", 40)
	const rate = 50 << 20
	c, s := startPlaced(t, 3, partitions, partitionSize(), "--rebalance-rate", strconv.Itoa(rate))
	before, _ := c.awaitLayout("all in its place", time.Minute, func(l layout) bool { return l.whole() && l.level(1, 2, 3) })
	c.addNode()
	c.addNode()
	c.waitReady(4)
	c.waitReady(5)
	after, took := c.awaitLayout("fifths", 10*time.Minute, func(l layout) bool { return l.whole() && l.level(1, 2, 3, 4, 5) })
	var sizes []int64
	for id := range 5 {
		sizes = append(sizes, c.partitionBytes(id+1)>>20)
	}
	needed := 3*partitions - 3*(3*partitions/5) // what three nodes hold above their fifths
	t.Logf("level after %v (wanted: 3m): %v, MiB on disk %v; %d replicas moved, %d needed", took.Round(100*time.Millisecond), after, sizes, after.moved(before), needed)
	if moved := after.moved(before); moved > needed {
		t.Errorf("%d replicas were moved, %d suffice", moved, needed)
	}
	if least := float64(sizes[3]<<20) / rate; took.Seconds() < 0.8*least {
		t.Errorf("node 4 got %d MiB in %v: that is more than the rate of %d MiB a second", sizes[3], took, rate>>20)
	}
	s.finish(t)
	c.awaitLayout("freed space", 2*time.Minute, func(layout) bool {
		sizes = sizes[:0]
		for id := range 5 {
			sizes = append(sizes, c.partitionBytes(id+1)>>20)
		}
		fair := (sizes[0] + sizes[1] + sizes[2] + sizes[3] + sizes[4]) / 5
		return slices.Max(sizes) <= fair+fair/10+2 && slices.Min(sizes) >= fair-fair/10-2
	})
	t.Logf("MiB on disk %v", sizes)
	s.verify(t, c.kafka)
}

// TestDecommission empties one of five nodes under load, by the command line and
// by etcdctl alone.
func TestDecommission(t *testing.T) {
	for _, by := range []string{"cli", "etcdctl"} {
		t.Run(by, func(t *testing.T) {
			partitions := fromEnv("RAFTSMAN_PARTITIONS", 40)
			c, s := startPlaced(t, 5, partitions, partitionSize())
			before, _ := c.awaitLayout("all in its place", 2*time.Minute, func(l layout) bool { return l.whole() && l.level(1, 2, 3, 4, 5) })
			id := "by-hand"
			if by == "etcdctl" {
				c.etcdctl("put", "/raftsman/default/ops/"+id, `{"kind":"decommission","node":5}`)
			} else {
				out, err := c.raftsman("node", "decommission", "5", "--yes", "--no-wait", "--http", c.http[0])
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				waitFor(t, "the operation's key", 20*time.Second, func() bool { return len(c.opIDs()) == 1 })
				id = c.opIDs()[0]
			}
			began := time.Now()
			waitFor(t, "the winner to begin", 20*time.Second, func() bool { return c.op(id).State == "running" })
			op, samples := c.awaitOp(id, 10*time.Minute)
			end := time.Now()
			if op.State != "done" {
				t.Fatalf("the operation is %s: %s", op.State, op.Reason)
			}
			judge(t, samples, end)
			after, _ := c.awaitLayout("full replication", time.Minute, func(l layout) bool { return l.whole() && l.level(1, 2, 3, 4) })
			t.Logf("done after %v: %v; %d replicas moved, node 5 had %d", end.Sub(began).Round(100*time.Millisecond), after, after.moved(before), before.replicas[5])
			if after.moved(before) > before.replicas[5]+partitions/10 {
				t.Errorf("%d replicas were moved, node 5 had %d", after.moved(before), before.replicas[5])
			}
			waitFor(t, "freed space", 2*time.Minute, func() bool { return c.partitionBytes(5) < 1<<20 })
			c.node(5).kill()
			s.finish(t)
			s.verify(t, c.kafka)
		})
	}
}

// TestNodeGone: one of five is killed for good; its replicas are rebuilt on the
// others after the delay.
func TestNodeGone(t *testing.T) {
	partitions := fromEnv("RAFTSMAN_PARTITIONS", 40)
	c, s := startPlaced(t, 5, partitions, partitionSize(), "--replica-rebuild-delay", "10s")
	c.awaitLayout("all in its place", 2*time.Minute, func(l layout) bool { return l.whole() && l.level(1, 2, 3, 4, 5) })
	c.node(3).kill()
	killed := time.Now()
	after, _ := c.awaitLayout("three replicas of everything", 10*time.Minute, func(l layout) bool { return l.whole() && l.level(1, 2, 4, 5) })
	for p, rs := range after.assigned {
		if len(rs) != 3 {
			t.Errorf("%v has %d replicas", p, len(rs))
		}
	}
	t.Logf("rebuilt and level %v after the kill: %v", time.Since(killed).Round(100*time.Millisecond), after)
	s.finish(t)
	s.verify(t, c.kafka)
}

// TestRacks: every partition has a replica in each of three racks, and all take
// records when a whole rack is killed.
func TestRacks(t *testing.T) {
	partitions := fromEnv("RAFTSMAN_PARTITIONS", 40)
	racks := []string{"a", "a", "b", "b", "c", "c"}
	c := startClusterWith(t, 6, 10*time.Second, func(id int) []string { return []string{"--rack", racks[id-1]} })
	c.createMany("racked", partitions)
	l, _ := c.awaitLayout("all in its place", time.Minute, func(l layout) bool { return l.whole() })
	for p, rs := range l.assigned {
		in := map[string]bool{}
		for _, r := range rs {
			in[racks[r.Node-1]] = true
		}
		if len(in) != 3 {
			t.Errorf("%v is in racks %v: %v", p, in, rs)
		}
	}
	s := startSpread(t, c.kafka, seedOf(t))
	s.add("racked", partitions, false, false)
	s.writeAll()
	waitFor(t, "a record in each partition", time.Minute, func() bool { return s.everywhere(0) })
	for phase, rack := range []string{"b"} {
		for id, r := range racks {
			if r == rack {
				c.node(id + 1).kill()
			}
		}
		at := time.Now()
		s.begin(phase + 1)
		s.writeAll()
		waitFor(t, "a record in each partition without rack "+rack, time.Minute, func() bool { return s.everywhere(phase + 1) })
		t.Logf("rack %s killed: each of %d partitions took a record after %v", rack, partitions, time.Since(at).Round(time.Millisecond))
	}
	s.finish(t)
	s.verify(t, c.kafka)
}

// seedOf is RAFTSMAN_SEED, or one that is printed.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(envOr("RAFTSMAN_SEED", ""), 10, 64); err == nil {
		seed = n
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	return seed
}
