package testcluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// dataDir is where a node keeps all that it has.
func (c *Cluster) dataDir(id int32) string { return filepath.Join(c.dir, fmt.Sprint(id)) }

// wipe empties a stopped node's disk.
func (c *Cluster) wipe(t *testing.T, id int32) {
	t.Helper()
	if err := os.RemoveAll(c.dataDir(id)); err != nil {
		t.Fatal(err)
	}
}

// others are the nodes 1 to 3 but one, in random order.
func others(rnd *rand.Rand, id int32) (a, b int32) {
	two := slices.DeleteFunc([]int32{1, 2, 3}, func(n int32) bool { return n == id })
	rnd.Shuffle(2, func(i, j int) { two[i], two[j] = two[j], two[i] })
	return two[0], two[1]
}

// on are a node's replicas of a topic by their partitions.
func on(v *cluster.View, topic string, id int32) map[int32]uint64 {
	all := make(map[int32]uint64)
	for tp, a := range v.Assignments {
		if replica := replicaOn(a, id); tp.Topic == topic && replica > 0 {
			all[tp.Partition] = replica
		}
	}
	return all
}

// rebuilt waits until a wiped node has new replicas of each partition, under its
// new incarnation, and the groups have them as members.
func (m metadata) rebuilt(topic string, id int32, incarnation string, old map[int32]uint64) {
	m.t.Helper()
	v := m.await("the wiped node's new incarnation and replicas", func(v *cluster.View) bool {
		reg, up := v.Nodes[id]
		for index, replica := range old {
			tp := cluster.TopicPartition{Topic: topic, Partition: index}
			if up && replicaOn(v.Assignments[tp], id) == replica {
				return false
			}
		}
		return up && reg.Incarnation != incarnation
	})
	for index := range old {
		tp := cluster.TopicPartition{Topic: topic, Partition: index}
		for _, r := range v.Assignments[tp].Replicas {
			if r.Node == id && r.Incarnation != v.Nodes[id].Incarnation {
				m.t.Errorf("%s: replica %d belongs to incarnation %s, node %d is %s", tp, r.ID, r.Incarnation, id, v.Nodes[id].Incarnation)
			}
		}
		m.settled(tp)
	}
}

// wipeFaults are what else happens while a node loses its disk under load. Each
// leaves all three nodes running, with the victim's disk emptied.
var wipeFaults = []struct {
	name string
	do   func(t *testing.T, c *Cluster, rnd *rand.Rand, all []*writer, victim int32)
}{
	{"nothing else", func(t *testing.T, c *Cluster, rnd *rand.Rand, _ []*writer, victim int32) {
		c.lose(t, rnd, victim)
		c.Restart(victim)
	}},
	{"another node is stopped meanwhile", func(t *testing.T, c *Cluster, rnd *rand.Rand, all []*writer, victim int32) {
		other, _ := others(rnd, victim)
		c.lose(t, rnd, victim)
		c.Stop(other)
		s := silent(all)
		c.Restart(victim)
		pass(t, time.Duration(500+rnd.IntN(1000))*time.Millisecond)
		s.check(t, "one of three, and an empty one")
		c.Restart(other)
	}},
	{"the two that stay are cut apart", func(t *testing.T, c *Cluster, rnd *rand.Rand, all []*writer, victim int32) {
		a, b := others(rnd, victim)
		c.lose(t, rnd, victim)
		c.Network.Cut(a, b)
		s := silent(all)
		c.Restart(victim)
		pass(t, time.Duration(500+rnd.IntN(1000))*time.Millisecond)
		s.check(t, "two that are cut apart, and an empty one")
		c.Network.Heal(a, b)
	}},
	{"it is cut off from one node", func(t *testing.T, c *Cluster, rnd *rand.Rand, _ []*writer, victim int32) {
		a, _ := others(rnd, victim)
		c.lose(t, rnd, victim)
		c.Network.Cut(victim, a)
		c.Restart(victim)
		pass(t, time.Duration(rnd.IntN(1500))*time.Millisecond)
		c.Network.Heal(victim, a)
	}},
	// The one that matters: with the empty node's vote the lagging one would lead.
	{"it meets a node that lags", func(t *testing.T, c *Cluster, rnd *rand.Rand, all []*writer, victim int32) {
		lagging, whole := others(rnd, victim)
		c.Stop(lagging)
		fresh(t, "that one node lacks", all)
		c.lose(t, rnd, victim)
		c.Stop(whole)
		s := silent(all)
		first, second := lagging, victim
		if rnd.IntN(2) == 0 {
			first, second = second, first
		}
		c.Restart(first)
		c.Restart(second)
		pass(t, time.Duration(1500+rnd.IntN(1500))*time.Millisecond)
		s.check(t, "one that lags, and an empty one")
		c.Restart(whole)
	}},
}

// lose stops a node at any moment, in order or with its connections broken first,
// so that writes stay half-done, and empties its disk.
func (c *Cluster) lose(t *testing.T, rnd *rand.Rand, victim int32) {
	t.Helper()
	pass(t, time.Duration(rnd.IntN(300))*time.Millisecond)
	a, b := others(rnd, victim)
	abrupt := rnd.IntN(2) == 0
	if abrupt {
		c.Network.Cut(victim, a)
		c.Network.Cut(victim, b)
	}
	c.Stop(victim)
	if abrupt {
		c.Network.Heal(victim, a)
		c.Network.Heal(victim, b)
	}
	c.wipe(t, victim)
}

// TestWipedUnderLoad empties one node's disk after another, in the middle of
// writes: the node comes back as another incarnation, its former replicas vote for
// nobody, it gets new ones, and nothing that was acknowledged is lost.
// RAFTSMAN_ROUNDS is how many disks.
func TestWipedUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	rnd, rounds := settings(t, len(wipeFaults))
	c := Start(t, 3, nil)
	m := c.metadata(t)
	c.spread(t, "wiped", 3)
	all := c.writers("wiped", 3, 200, 10*time.Millisecond)
	fresh(t, "before", all)
	begin := rnd.IntN(len(wipeFaults))
	for round := range rounds {
		victim, fault := 1+rnd.Int32N(3), wipeFaults[(begin+round)%len(wipeFaults)]
		v := m.store.View()
		old, incarnation := on(v, "wiped", victim), v.Nodes[victim].Incarnation
		if len(old) != 3 || incarnation == "" {
			t.Fatalf("round %d: node %d has replicas %v, incarnation %q", round, victim, old, incarnation)
		}
		began := time.Now()
		fault.do(t, c, rnd, all, victim)
		m.rebuilt("wiped", victim, incarnation, old)
		for _, replica := range old {
			if c.holds(victim, replica) {
				t.Errorf("round %d: node %d holds replica %d again", round, victim, replica)
			}
		}
		fresh(t, "after "+fault.name, all)
		t.Logf("round %d: node %d wiped, %s: whole after %v", round, victim, fault.name, time.Since(began).Round(time.Millisecond))
		if t.Failed() {
			break
		}
	}
	c.finish(t, all)
}

// TestTwoOfThreeWiped empties two of three disks at once: the partitions stay down
// and the winner and the health report say why; none begins anew, and nothing is
// acknowledged. With the former disks put back everything is there.
func TestTwoOfThreeWiped(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	rnd, rounds := settings(t, 1)
	var logs heard
	c := Start(t, 3, func(cfg *node.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(&logs, verbose{}), nil))
	})
	m := c.metadata(t)
	c.spread(t, "down", 3)
	all := c.writers("down", 3, 200, 10*time.Millisecond)
	for round := range rounds {
		fresh(t, "before", all)
		survivor := 1 + rnd.Int32N(3)
		a, b := others(rnd, survivor)
		blocked := len(logs.lines("msg=blocked"))
		before := m.store.View()
		pass(t, time.Duration(rnd.IntN(300))*time.Millisecond)
		c.Stop(a)
		c.Stop(b)
		m.await("both to be gone", func(v *cluster.View) bool { return v.Nodes[a].Node == 0 && v.Nodes[b].Node == 0 })
		s := silent(all)
		for _, id := range []int32{a, b} {
			if err := os.Rename(c.dataDir(id), c.dataDir(id)+"-kept"); err != nil {
				t.Fatal(err)
			}
			c.Restart(id)
		}
		testetcd.Eventually(t, "the winner to say what is wrong", func() bool {
			return slices.ContainsFunc(logs.lines("msg=blocked")[blocked:], func(line string) bool {
				return strings.Contains(line, "was wiped and only 1 of 3 replicas are left on live nodes")
			})
		})
		testetcd.Eventually(t, "the health report to say it", func() bool {
			return strings.Contains(c.read(t, survivor, "/health.json"), "came back with an empty data directory")
		})
		pass(t, time.Duration(500+rnd.IntN(1500))*time.Millisecond)
		s.check(t, "one of three, and two empty ones")
		c.stillDown(t, all, before, m.store.View(), survivor, a, b)
		for _, id := range []int32{a, b} {
			c.Stop(id)
			c.wipe(t, id)
			if err := os.Rename(c.dataDir(id)+"-kept", c.dataDir(id)); err != nil {
				t.Fatal(err)
			}
		}
		c.Restart(b)
		c.Restart(a)
		fresh(t, "with the former disks", all)
		t.Logf("round %d: nodes %d and %d wiped, and back with their former disks", round, a, b)
		if t.Failed() {
			break
		}
	}
	c.finish(t, all)
}

// verbose is the test's log, when it is asked for.
type verbose struct{}

func (verbose) Write(p []byte) (int, error) {
	if os.Getenv("RAFTSMAN_TEST_LOG") == "" {
		return len(p), nil
	}
	return os.Stderr.Write(p)
}

// read gets a path of a node's HTTP server.
func (c *Cluster) read(t *testing.T, id int32, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + c.Member(id).Node.HTTPAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// stillDown checks that partitions without their majority are as they were, and
// nowhere else. The survivor may have led them, and tell of what was committed
// until its lease is over; an end below that would be of an empty partition.
func (c *Cluster) stillDown(t *testing.T, all []*writer, before, now *cluster.View, survivor int32, wiped ...int32) {
	t.Helper()
	for tp, a := range before.Assignments {
		if tp.Topic == "down" && !slices.Equal(now.Assignments[tp].Replicas, a.Replicas) {
			t.Errorf("%s: the assignment was changed to %v", tp, now.Assignments[tp].Replicas)
		}
		if !c.holds(survivor, replicaOn(a, survivor)) {
			t.Errorf("%s: the data on node %d is gone", tp, survivor)
		}
	}
	for _, id := range wiped {
		if dirs, err := os.ReadDir(filepath.Join(c.dataDir(id), "partitions")); err != nil || len(dirs) > 0 {
			t.Errorf("the emptied node %d has partitions: %v, %v", id, dirs, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(c.Client()).ListEndOffsets(ctx, "down")
	if err != nil {
		return // nobody answers
	}
	for _, w := range all {
		o, ok := ends.Lookup("down", w.partition)
		if last := w.lastAcked(); ok && o.Err == nil && o.Offset <= last {
			t.Errorf("down/%d was begun anew: it ends at %d, and %s had offset %d acknowledged", w.partition, o.Offset, w.name, last)
		}
	}
}
