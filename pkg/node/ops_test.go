package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// call makes a request to a node and decodes the answer.
func call[T any](t *testing.T, c *testcluster.Cluster, node int32, method, path, body string) (status int, answer T) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.Member(node).Node.HTTPAddr()+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	if err != nil {
		t.Fatalf("%s %s: %v in %q", method, path, err, data)
	}
	return resp.StatusCode, answer
}

func report(t *testing.T, c *testcluster.Cluster, node int32) health.Report {
	t.Helper()
	_, r := call[health.Report](t, c, node, "GET", "/health.json", "")
	return r
}

// finds says whether a report has a finding of this kind.
func finds(r health.Report, kind string) bool {
	return slices.ContainsFunc(r.Findings, func(f health.Finding) bool { return f.Kind == kind })
}

// createOrders creates a topic of three partitions on three nodes each.
func createOrders(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	topic, err := cluster.Encode(cluster.Topic{ID: "7ada9717-d2c2-4af7-8c83-011338f789a0", Partitions: 3, ReplicationFactor: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Etcd.Client(t).Put(t.Context(), "/raftsman/test/topics/orders", string(topic)); err != nil {
		t.Fatal(err)
	}
}

// TestOperatorsSeeAndAsk: a real cluster, seen and changed through any node's
// HTTP, and through etcd.
func TestOperatorsSeeAndAsk(t *testing.T) {
	c := testcluster.Start(t, 3, nil)
	etcd := c.Etcd.Client(t)
	createOrders(t, c)
	testetcd.Eventually(t, "a healthy cluster, seen by all", func() bool {
		for id := int32(1); id <= 3; id++ {
			if r := report(t, c, id); r.State != health.Healthy || r.Nodes != 3 || r.Partitions != 3 {
				return false
			}
		}
		return true
	})
	var partitions []health.Partition
	testetcd.Eventually(t, "partitions that are led and in sync", func() bool {
		_, partitions = call[[]health.Partition](t, c, 2, "GET", "/partitions?topic=orders", "")
		return !slices.ContainsFunc(partitions, func(p health.Partition) bool {
			return p.Leader < 1 || p.Term < 1 || len(p.Replicas) != 3 || len(p.InSync) != 3
		})
	})
	leads := 0
	_, nodes := call[[]health.Node](t, c, 3, "GET", "/nodes", "")
	for _, n := range nodes {
		leads += n.Leads
		if !n.Alive || !n.Registered || n.Replicas != 3 || n.HTTP == "" {
			t.Errorf("node %+v", n)
		}
	}
	if len(partitions) != 3 || len(nodes) != 3 || leads != 3 {
		t.Errorf("%d partitions, %d nodes that lead %d", len(partitions), len(nodes), leads)
	}

	// Asked for through one node: etcd has it, and the answer of the same node.
	status, made := call[gateway.Operation](t, c, 1, "POST", "/ops", `{"id":"mine","kind":"transfer","topic":"orders","partition":1,"node":2}`)
	if status != http.StatusCreated || made.ID != "mine" || made.Created == nil {
		t.Errorf("%d %+v", status, made)
	}
	if got, err := etcd.Get(t.Context(), "/raftsman/test/ops/mine"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("etcd has %v, %v", got, err)
	}
	if status, seen := call[gateway.Operation](t, c, 1, "GET", "/ops/mine", ""); status != http.StatusOK || seen.Kind != cluster.OpTransfer {
		t.Errorf("%d %+v", status, seen)
	}
	if status, _ := call[gateway.Error](t, c, 2, "POST", "/ops", `{"id":"mine","kind":"drain","node":2}`); status != http.StatusConflict {
		t.Errorf("the same id: %d", status)
	}
	if status, _ := call[gateway.Error](t, c, 2, "POST", "/ops/none/cancel", ""); status != http.StatusNotFound {
		t.Errorf("cancel nothing: %d", status)
	}
	// Asked for through etcd: the nodes show it.
	if _, err := etcd.Put(t.Context(), "/raftsman/test/ops/by-hand", `{"kind":"transfer","topic":"orders","partition":2,"node":3}`); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the operation put by hand", func() bool {
		_, ops := call[[]gateway.Operation](t, c, 3, "GET", "/ops", "")
		return len(ops) == 2 && ops[1].ID == "by-hand" && ops[1].Partition == 2
	})

	if status, _ := call[gateway.Switch](t, c, 1, "PUT", "/rebalance", `{"paused":true}`); status != http.StatusOK {
		t.Errorf("pause: %d", status)
	}
	if _, s := call[gateway.Switch](t, c, 1, "GET", "/rebalance", ""); s.Paused == nil || !*s.Paused {
		t.Error("it is not paused")
	}
	testetcd.Eventually(t, "the finding about it", func() bool { return finds(report(t, c, 2), "rebalance-paused") })
	// What an operator asks for is done all the same.
	_, partitions = call[[]health.Partition](t, c, 2, "GET", "/partitions?topic=orders", "")
	to := partitions[0].Leader%3 + 1
	_, asked := call[gateway.Operation](t, c, 1, "POST", "/ops", fmt.Sprintf(`{"kind":"transfer","topic":"orders","partition":0,"node":%d}`, to))
	testetcd.Eventually(t, "the transfer while paused", func() bool {
		_, op := call[gateway.Operation](t, c, 1, "GET", "/ops/"+asked.ID, "")
		if op.State == cluster.OpRefused {
			t.Fatal(op.Reason)
		}
		_, partitions = call[[]health.Partition](t, c, 2, "GET", "/partitions?topic=orders", "")
		return op.State == cluster.OpDone && partitions[0].Leader == to
	})
	call[gateway.Switch](t, c, 2, "PUT", "/rebalance", `{"paused":false}`)
}

// TestHealthFollowsTheCluster: a node that stops, one that is back, and an etcd
// that is away.
func TestHealthFollowsTheCluster(t *testing.T) {
	c := testcluster.Start(t, 3, nil)
	createOrders(t, c)
	testetcd.Eventually(t, "all to be well", func() bool { r := report(t, c, 1); return r.State == health.Healthy && r.Partitions == 3 })
	c.Stop(3)
	testetcd.Eventually(t, "the lost node to be named", func() bool {
		r := report(t, c, 1)
		i := slices.IndexFunc(r.Findings, func(f health.Finding) bool { return f.Kind == "node-away" })
		return i >= 0 && slices.Equal(r.Findings[i].Nodes, []int32{3}) && r.Findings[i].Since != nil && r.State == health.Degraded
	})
	c.Restart(3)
	testetcd.Eventually(t, "all to be well", func() bool { return report(t, c, 1).State == health.Healthy })

	c.Etcd.Stop()
	testetcd.Eventually(t, "the lost etcd to be named", func() bool {
		r := report(t, c, 2)
		return finds(r, "etcd-away") && r.State == health.Degraded
	})
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/ops", `{"kind":"drain","node":2}`}, {"PUT", "/rebalance", `{"paused":true}`},
	} {
		if status, e := call[gateway.Error](t, c, 2, r.method, r.path, r.body); status != http.StatusServiceUnavailable || e.Remedy == "" {
			t.Errorf("%s %s without etcd: %s", r.method, r.path, fmt.Sprint(status, e))
		}
	}
}
