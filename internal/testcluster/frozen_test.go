package testcluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/node"
)

// disks are the nodes' file systems, whose fsync can hang.
type disks [4]*vfs.Freezer // disks[id]

// startFrozen starts three nodes on disks that can freeze. The log's files are
// small: it moves on to a next one, recycled or new, all the time.
func startFrozen(t *testing.T) (*Cluster, disks) {
	var d disks
	for id := range d {
		d[id] = new(vfs.Freezer)
	}
	c := Start(t, 3, func(cfg *node.Config) {
		cfg.FS = vfs.NewFail(vfs.OS, d[cfg.NodeID].Hook)
		cfg.MessageMaxBytes = 256 << 10
		cfg.WAL = node.WAL{FileSize: 2 << 20, SizeLimit: 16 << 20}
		cfg.SegmentBytes = 4 << 20
	})
	t.Cleanup(func() {
		for _, disk := range d {
			disk.Thaw()
		}
	})
	return c, d
}

// settings is the run's seed and number of rounds: RAFTSMAN_SEED repeats a
// run's choices, RAFTSMAN_ROUNDS makes it longer.
func settings(t *testing.T, rounds int) (*rand.Rand, int) {
	t.Helper()
	seed := rand.Uint64() >> 16
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	if n, err := strconv.Atoi(os.Getenv("RAFTSMAN_ROUNDS")); err == nil && n > 0 {
		rounds = n
	}
	t.Logf("RAFTSMAN_SEED=%d RAFTSMAN_ROUNDS=%d", seed, rounds)
	return rand.New(rand.NewPCG(seed, 0)), rounds
}

// pass waits until some time is over: the condition is the time itself.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// TestFrozenPair freezes the fsync of each two of three nodes under load, at a
// moment when each node leads a partition: nothing is acknowledged, neither at
// once nor after the nodes are taken for dead (their watchdog waits 2 s), by
// whomever it is led. After the thaw all goes on.
func TestFrozenPair(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c, d := startFrozen(t)
	for i, pair := range [][2]int32{{1, 2}, {1, 3}, {2, 3}} {
		topic := fmt.Sprint("numbers", i)
		c.spread(t, topic, 3)
		all := c.writers(topic, 3, 2<<10, 10*time.Millisecond)
		fresh(t, "before the freeze", all)
		d[pair[0]].Freeze()
		d[pair[1]].Freeze()
		s := silent(all)
		testetcd.Eventually(t, "fsyncs to hang", func() bool { return d[pair[0]].Held() > 0 && d[pair[1]].Held() > 0 })
		pass(t, time.Second)
		s.check(t, fmt.Sprint("in the first second with nodes ", pair, " frozen"))
		testetcd.Eventually(t, "the nodes to be taken for dead", func() bool {
			return !c.Member(pair[0]).Node.Registered() && !c.Member(pair[1]).Node.Registered()
		})
		pass(t, 2*time.Second)
		s.check(t, fmt.Sprint("with nodes ", pair, " frozen for long"))
		d[pair[0]].Thaw()
		d[pair[1]].Thaw()
		fresh(t, "after the thaw", all)
		c.finish(t, all)
		testetcd.Eventually(t, "all nodes to be back", func() bool {
			return c.Member(1).Node.Registered() && c.Member(2).Node.Registered() && c.Member(3).Node.Registered()
		})
	}
}

// TestFrozenOne: with one node frozen, a follower of two partitions and the
// leader of the third, all three go on.
func TestFrozenOne(t *testing.T) {
	c, d := startFrozen(t)
	leaders := c.spread(t, "numbers", 3)
	all := c.writers("numbers", 3, 2<<10, 10*time.Millisecond)
	for id := int32(1); id <= 3; id++ {
		fresh(t, "before the freeze", all)
		d[id].Freeze()
		testetcd.Eventually(t, "an fsync to hang", func() bool { return d[id].Held() > 0 })
		if id == 1 { // later the leaders are elsewhere
			var others []*writer
			for _, w := range all {
				if leaders[w.partition] != id {
					others = append(others, w)
				}
			}
			fresh(t, "with a follower frozen", others)
		}
		fresh(t, "with a node frozen", all)
		if d[id].Held() == 0 {
			t.Error("no fsync hangs any more")
		}
		d[id].Thaw()
	}
	c.finish(t, all)
}

// TestFrozenRolling freezes two nodes at the very moment at which one of them
// begins, or releases, a file of its log.
func TestFrozenRolling(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	rnd, rounds := settings(t, 4)
	c, d := startFrozen(t)
	c.spread(t, "numbers", 3)
	all := c.writers("numbers", 3, 4<<10, 10*time.Millisecond)
	moments := []struct {
		name  string
		match func(op vfs.Op, name string) bool
	}{
		{"a spare file gets its number", func(op vfs.Op, name string) bool {
			return op == vfs.OpRename && strings.Contains(name, "/wal/spare-")
		}},
		{"an old file is released", func(op vfs.Op, name string) bool {
			return op == vfs.OpRename && strings.Contains(name, "/wal/") && strings.HasSuffix(name, ".wal")
		}},
		{"a file is new", func(op vfs.Op, name string) bool { return op == vfs.OpSync && strings.Contains(name, "/wal/spare-") }},
		{"the log's names are synced", func(op vfs.Op, name string) bool { return op == vfs.OpSyncDir && strings.HasSuffix(name, "/wal") }},
	}
	for round := range rounds {
		m := moments[round%len(moments)]
		one := int32(1 + rnd.IntN(3))
		two := one%3 + 1
		fresh(t, "before the freeze", all)
		d[one].FreezeFrom(m.match)
		testetcd.Eventually(t, m.name, d[one].Frozen)
		d[two].Freeze()
		s := silent(all)
		testetcd.Eventually(t, "fsyncs to hang", func() bool { return d[one].Held() > 0 && d[two].Held() > 0 })
		pass(t, time.Duration(1000+rnd.IntN(4000))*time.Millisecond)
		s.check(t, m.name)
		t.Logf("node %d frozen as %s, node %d with it", one, m.name, two)
		d[one].Thaw()
		d[two].Thaw()
		fresh(t, "after the thaw", all)
	}
	c.finish(t, all)
}

// TestFrozenInTurn freezes and thaws nodes in a random order, with leaders
// moving away from the frozen ones: whenever two are frozen nothing is
// acknowledged, whenever at most one is everything goes on.
func TestFrozenInTurn(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	rnd, rounds := settings(t, 12)
	c, d := startFrozen(t)
	c.spread(t, "numbers", 3)
	all := c.writers("numbers", 3, 2<<10, 10*time.Millisecond)
	fresh(t, "before the first freeze", all)
	for range rounds {
		id := 1 + rnd.IntN(3)
		if d[id].Frozen() {
			d[id].Thaw()
		} else {
			d[id].Freeze()
		}
		var frozen []int
		for id := 1; id <= 3; id++ {
			if d[id].Frozen() {
				frozen = append(frozen, id)
			}
		}
		if len(frozen) < 2 {
			fresh(t, fmt.Sprint("with nodes ", frozen, " frozen"), all)
			continue
		}
		s := silent(all)
		pass(t, time.Duration(200+rnd.IntN(4500))*time.Millisecond)
		s.check(t, fmt.Sprint("with nodes ", frozen, " frozen"))
	}
	for _, disk := range d {
		disk.Thaw()
	}
	fresh(t, "after the last thaw", all)
	c.finish(t, all)
}
