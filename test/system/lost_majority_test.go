//go:build system

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// placed is an assignment as etcd has it.
type placed struct {
	Replicas []struct {
		Node int    `json:"node"`
		ID   uint64 `json:"id"`
	} `json:"replicas"`
	Generation int64 `json:"generation"`
	Recovered  *struct {
		From    uint64   `json:"from"`
		Into    uint64   `json:"into"`
		GivenUp []uint64 `json:"given_up"`
	} `json:"recovered"`
}

func (c *cluster) placed(topic string) (p placed, nodes []int) {
	c.t.Helper()
	out := c.etcdctl("get", "--print-value-only", fmt.Sprintf("/raftsman/default/assignments/%s/0", topic))
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		c.t.Fatalf("assignment of %s: %v", topic, err)
	}
	for _, r := range p.Replicas {
		nodes = append(nodes, r.Node)
	}
	return p, nodes
}

// lines are n numbered lines, as one text.
func lines(from, n int) string {
	var b strings.Builder
	for i := from; i < n; i++ {
		fmt.Fprintf(&b, "line %d of what was acknowledged\n", i)
	}
	return b.String()
}

// TestLostMajority destroys two of a partition's three nodes and lets it begin
// anew from the third by the command line, whose node is killed meanwhile, at a
// moment that RAFTSMAN_SEED decides. Nothing that it had is lost, the replicas are
// three again, and the destroyed nodes change nothing when they return together.
func TestLostMajority(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64() >> 16
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := startCluster(t, 5, 3*time.Second)
	// Small segments: the survivor has manifests and a log behind them.
	if out, err := c.raftsman("topic", "create", "numbers", "--partitions", "1", "--replication-factor", "3", "--config", "segment.bytes=65536"); err != nil {
		t.Fatalf("create: %v\n%s", err, out)
	}
	waitFor(t, "a leader", 20*time.Second, func() bool { return c.leader("numbers", 0) > 0 })
	brokers := strings.Join(c.kafka, ",")
	have := 4000
	command(t, lines(0, have), "kcat", "-b", brokers, "-P", "-t", "numbers", "-p", "0", "-X", "enable.idempotence=true", "-X", "acks=all", "-q")
	check := func(what string) {
		t.Helper()
		if got := string(command(t, "", "kcat", "-b", brokers, "-C", "-t", "numbers", "-p", "0", "-e", "-q")); got != lines(0, have) {
			t.Fatalf("%s: %d bytes are there, want %d", what, len(got), len(lines(0, have)))
		}
	}
	for round := range repetitions(3) {
		waitFor(t, "three replicas in sync", time.Minute, func() bool { return c.allInSync("numbers", 3) })
		before, nodes := c.placed("numbers")
		leader := c.leader("numbers", 0)
		nodes = slices.DeleteFunc(nodes, func(n int) bool { return n == leader })
		survivor, lost := nodes[0], []int{leader, nodes[1]}
		for _, id := range lost {
			c.node(id).kill()
		}
		names := fmt.Sprintf("%d,%d", lost[0], lost[1])
		recover := func(args ...string) (string, error) {
			return c.raftsman(append([]string{"partition", "recover", "numbers", "0", "--http", c.http[survivor-1]}, args...)...)
		}
		waitFor(t, "the leader to be forgotten", 20*time.Second, func() bool {
			out, err := recover()
			ok := err != nil && strings.Contains(out, "--destroyed") && strings.Contains(out, "survives")
			if ok {
				t.Logf("what is left:\n%s", out)
			}
			return ok
		})
		waitFor(t, "the destroyed nodes' leases to end", 20*time.Second, func() bool { return !c.registered(lost[0]) && !c.registered(lost[1]) })
		if out, err := recover("--destroyed", fmt.Sprint(lost[0]), "--yes-i-know-data-may-be-lost"); err == nil || !strings.Contains(out, "not named") {
			t.Errorf("with one of two named: %v\n%s", err, out)
		}

		// The survivor's node dies while it acts, or soon after.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, binary(t, "raftsman"), "partition", "recover", "numbers", "0", "--http", c.http[survivor-1],
			"--destroyed", names, "--yes-i-know-data-may-be-lost")
		cmd.Env = plainEnv()
		if err := startWithThread(cmd); err != nil {
			t.Fatal(err)
		}
		kill := time.NewTimer(time.Duration(5+rnd.IntN(95)) * time.Millisecond)
		<-kill.C
		c.node(survivor).kill()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cancel()
		c.node(survivor).start()
		c.waitReady(survivor)
		decided, _ := c.placed("numbers")
		if decided.Generation == before.Generation { // it died before it had decided
			waitFor(t, "the recovery", time.Minute, func() bool {
				_, err := recover("--destroyed", names, "--yes-i-know-data-may-be-lost")
				return err == nil
			})
		}
		waitFor(t, "a leader, and three replicas in sync", time.Minute, func() bool {
			now := c.leader("numbers", 0)
			return now > 0 && !slices.Contains(lost, now) && c.allInSync("numbers", 3)
		})
		after, _ := c.placed("numbers")
		t.Logf("round %d: nodes %v lost, %d survived; decided before its end: %t; assignment %+v", round+1, lost, survivor, decided.Generation > before.Generation, after)
		if after.Recovered == nil || len(after.Recovered.GivenUp) < 3 {
			t.Fatalf("the assignment has no note: %+v", after)
		}
		check("after the recovery")
		more := lines(have, have+500)
		command(t, more, "kcat", "-b", brokers, "-P", "-t", "numbers", "-p", "0", "-X", "enable.idempotence=true", "-X", "acks=all", "-q")
		have += 500

		for _, id := range lost {
			c.node(id).start()
		}
		for _, id := range lost {
			c.waitReady(id)
			var was uint64
			for _, r := range before.Replicas {
				if r.Node == id {
					was = r.ID
				}
			}
			aside := filepath.Join(c.dir, fmt.Sprintf("node-%d", id), "partitions", fmt.Sprintf("%d.set-aside", was))
			waitFor(t, fmt.Sprintf("node %d to set replica %d aside", id, was), 20*time.Second, func() bool { _, err := os.Stat(aside); return err == nil })
		}
		check("after the lost ones returned")
		if out, err := recover("--destroyed", names, "--yes-i-know-data-may-be-lost"); err == nil || !strings.Contains(out, "nothing needs to be recovered") {
			t.Errorf("a partition that is well: %v\n%s", err, out)
		}
	}
}
