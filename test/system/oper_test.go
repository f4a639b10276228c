//go:build system

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// operator runs a command of the binary against all nodes and returns what it
// printed and its exit code.
func (c *cluster) operator(args ...string) (out string, code int) {
	c.t.Helper()
	out, err := c.raftsman(append(args, "--http", strings.Join(c.http, ","))...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, 0
	case errors.As(err, &exit):
		return out, exit.ExitCode()
	}
	c.t.Fatalf("raftsman %v: %v", args, err)
	return "", 0
}

// healthy waits until the cluster's health is as wanted, and returns the screen.
func (c *cluster) healthy(want int, texts ...string) string {
	c.t.Helper()
	var out string
	waitFor(c.t, fmt.Sprintf("cluster health to exit with %d and say %q", want, texts), time.Minute, func() bool {
		var code int
		out, code = c.operator("cluster", "health")
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return false
			}
		}
		return code == want
	})
	return out
}

// TestOperator is an operator's day: what is wrong is named with what to do, and
// exit codes say it to scripts.
func TestOperator(t *testing.T) {
	c := startCluster(t, 3, 2*time.Second)
	c.create("orders", 6)
	t.Log(c.healthy(0, "cluster default is healthy", "3 nodes answer, 1 topic, 6 partitions"))
	if out, code := c.operator("cluster", "status"); code != 0 || !strings.Contains(out, "healthy") || !strings.Contains(out, "rebalancing  on") {
		t.Errorf("cluster status: exit code %d\n%s", code, out)
	}

	// A node is lost: everything is served, and the screen says what to do.
	c.node(3).kill()
	t.Log(c.healthy(1, "node 3 is away: 6 partitions with a replica less", "start it again"))
	if out, code := c.operator("node", "list"); code != 0 || !strings.Contains(out, "away") {
		t.Errorf("node list: exit code %d\n%s", code, out)
	}
	if out, code := c.operator("partition", "list", "--problems", "--node", "3"); code != 0 || strings.Count(out, "away 3") != 6 {
		t.Errorf("partition list: exit code %d\n%s", code, out)
	}
	// Two are lost: nothing can be written.
	c.node(2).kill()
	t.Log(c.healthy(3, "6 partitions without a majority", "start nodes 2 and 3 again"))
	c.node(2).start()
	c.node(3).start()
	c.healthy(0)

	// The balancer's switch, by command and by etcdctl.
	if out, code := c.operator("cluster", "rebalance", "pause"); code != 0 {
		t.Errorf("pause: exit code %d\n%s", code, out)
	}
	c.healthy(1, "rebalancing is paused")
	c.etcdctl("put", "/raftsman/default/config/rebalance", `{"paused":false}`)
	c.healthy(0)
	c.etcdctl("put", "/raftsman/default/ops/nonsense", `no JSON`)
	c.healthy(1, "1 key in etcd with a value that makes no sense", "etcdctl get /raftsman/default/ops/nonsense")
	c.etcdctl("del", "/raftsman/default/ops/nonsense")
	c.healthy(0)

	// Without etcd data is served on, and operations are answered in time.
	for _, e := range c.etcds {
		e.kill()
	}
	t.Log(c.healthy(1, "does not reach etcd"))
	if out, code := c.operator("node", "drain", "2"); code != 1 || !strings.Contains(out, "ask again") {
		t.Errorf("drain without etcd: exit code %d\n%s", code, out)
	}
	for _, n := range c.nodes {
		n.kill()
	}
	if out, code := c.operator("cluster", "health"); code != 5 || !strings.Contains(out, c.http[0]) || !strings.Contains(out, c.http[2]) {
		t.Errorf("no node answers: exit code %d\n%s", code, out)
	}
}

// TestOperations: what operators ask for is carried out, by command and by
// etcdctl, and what makes no sense is refused with the reason.
func TestOperations(t *testing.T) {
	c := startCluster(t, 4, 2*time.Second)
	c.create("orders", 8)
	c.healthy(0)
	out, code := c.operator("node", "drain", "2", "--timeout", "50s")
	if code != 0 || !strings.Contains(out, "drain of node 2 is done") {
		t.Fatalf("drain: exit code %d\n%s", code, out)
	}
	if leads := c.leads(2); leads != 0 {
		t.Errorf("the drained node leads %d partitions", leads)
	}
	t.Log(c.healthy(1, "node 2 is drained", "raftsman node undrain 2"))
	if out, code := c.operator("node", "undrain", "2", "--timeout", "50s"); code != 0 {
		t.Fatalf("undrain: exit code %d\n%s", code, out)
	}
	c.healthy(0)

	if out, code := c.operator("node", "drain", "77"); code != 3 || !strings.Contains(out, "77") {
		t.Errorf("drain of a node that is not there: exit code %d\n%s", code, out)
	}
	c.healthy(1, "drain of node 77 was refused")

	// By etcdctl, seen by the command.
	c.etcdctl("put", "/raftsman/default/ops/by-hand", `{"kind":"decommission","node":4}`)
	if out, code := c.operator("ops", "wait", "by-hand", "--timeout", "50s"); code != 0 || !strings.Contains(out, "node 4 can be stopped") {
		t.Fatalf("decommission: exit code %d\n%s", code, out)
	}
	if list, _ := c.operator("partition", "list", "--node", "4", "-o", "json"); strings.TrimSpace(list) != "[]" {
		t.Errorf("the decommissioned node holds %s", list)
	}
	list, code := c.operator("ops", "list")
	if code != 0 || !strings.Contains(list, "by-hand") || !strings.Contains(list, "drain of node 2") {
		t.Errorf("ops list: exit code %d\n%s", code, list)
	}
	if out, code := c.operator("ops", "cancel", "by-hand"); code != 3 {
		t.Errorf("cancel of what has ended: exit code %d\n%s", code, out)
	}
	t.Log(list)
}

// leads counts the partitions that a node leads, as the cluster sees it.
func (c *cluster) leads(id int) int {
	c.t.Helper()
	out, _ := c.operator("node", "list", "-o", "json")
	var nodes []struct{ Node, Leads int }
	if err := json.Unmarshal([]byte(out), &nodes); err != nil {
		c.t.Fatalf("node list: %v\n%s", err, out)
	}
	for _, n := range nodes {
		if n.Node == id {
			return n.Leads
		}
	}
	c.t.Fatalf("no node %d in %s", id, out)
	return 0
}
