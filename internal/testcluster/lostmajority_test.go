package testcluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// survivor asks a node for its replica of partition 0.
func (c *Cluster) survivor(t *testing.T, id int32, topic string) (s node.SurvivorState) {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s/partition/recover?topic=%s&partition=0", c.Member(id).Node.HTTPAddr(), topic))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatalf("state of %s at node %d: %s, %v", topic, id, resp.Status, err)
	}
	return s
}

// recover has partition 0 begin anew from a node; refused is what it says if it
// does not.
func (c *Cluster) recover(t *testing.T, id int32, topic string, destroyed ...int32) (refused string) {
	t.Helper()
	s := c.survivor(t, id, topic)
	body, err := json.Marshal(node.RecoverRequest{Topic: topic, Replica: s.Replica, Revision: s.Revision, Destroyed: destroyed, DataMayBeLost: true})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(fmt.Sprintf("http://%s/partition/recover", c.Member(id).Node.HTTPAddr()), "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		return ""
	}
	return strings.TrimSpace(string(answer))
}

// inSync waits until partition 0 has n replicas in sync, and returns its leader.
func (c *Cluster) inSync(t *testing.T, topic string, n int) (leader int32) {
	t.Helper()
	adm := kadm.NewClient(c.Client())
	testetcd.Eventually(t, fmt.Sprintf("%d replicas of %s in sync", n, topic), func() bool {
		topics, err := adm.ListTopics(t.Context(), topic)
		if err != nil || len(topics[topic].Partitions) == 0 {
			return false
		}
		p := topics[topic].Partitions[0]
		leader = p.Leader
		return p.Err == nil && leader > 0 && len(p.ISR) == n
	})
	return leader
}

// produceMore appends want[len(want):n] numbers.
func produceMore(t *testing.T, c *Cluster, topic string, from, n int) {
	t.Helper()
	client := c.Client()
	for i := from; i < n; i++ {
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)}, func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %s: %v", r.Value, err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// loseMajority makes a topic with n records on nodes 1 to 3 and loses 2 and 3.
// Nodes 4 and 5 are new and empty.
func loseMajority(t *testing.T, tune func(*node.Config), n int) *Cluster {
	t.Helper()
	c := Start(t, 3, tune)
	if _, err := kadm.NewClient(c.Client()).CreateTopic(t.Context(), 1, 3, nil, "numbers"); err != nil {
		t.Fatal(err)
	}
	produceMore(t, c, "numbers", 0, n)
	c.inSync(t, "numbers", 3)
	if refused := c.recover(t, 1, "numbers", 2, 3); !strings.Contains(refused, "nothing needs to be recovered") {
		t.Errorf("with all replicas there it answers %q", refused)
	}
	c.Stop(2)
	c.Stop(3)
	for _, id := range []int32{4, 5} {
		c.launch(id)
		c.waitReady(id)
	}
	testetcd.Eventually(t, "the lost leader to be forgotten", func() bool { return c.survivor(t, 1, "numbers").Leader == 0 })
	return c
}

// aside are the replicas that a node has set aside.
func (c *Cluster) aside(t *testing.T, id int32) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.dir, fmt.Sprint(id), "partitions", "*.set-aside"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestLostMajority destroys two of three nodes: by an operator's decision, and
// not without each lost node being named, the partition goes on with all that the
// third one had, gets new replicas on other nodes, and does not care that the two
// return together.
func TestLostMajority(t *testing.T) {
	for _, store := range []string{"wal", "boltdb"} {
		t.Run(store, func(t *testing.T) {
			c := loseMajority(t, func(cfg *node.Config) { cfg.RaftStore = store }, 500)
			for _, refuse := range []struct {
				named []int32
				why   string
			}{
				{[]int32{2}, "not named as destroyed"},
				{[]int32{2, 3, 4}, "holds no replica"},
				{[]int32{1, 2, 3}, "the one that is asked"},
			} {
				if refused := c.recover(t, 1, "numbers", refuse.named...); !strings.Contains(refused, refuse.why) {
					t.Errorf("named %v: it answers %q", refuse.named, refused)
				}
			}
			before := c.survivor(t, 1, "numbers")
			testetcd.Eventually(t, "the recovery to be taken", func() bool {
				refused := c.recover(t, 1, "numbers", 2, 3) // the lost nodes' leases run out
				return refused == ""
			})
			leader := c.inSync(t, "numbers", 3)
			checkNumbers(t, consume(t, c, "numbers", 500), 500)
			produceMore(t, c, "numbers", 500, 700)
			after := c.survivor(t, 1, "numbers")
			if after.Replica == before.Replica || after.Term <= before.Term || slices.Contains([]int32{2, 3}, leader) {
				t.Errorf("replica %d, was %d; term %d, was %d; leader %d", after.Replica, before.Replica, after.Term, before.Term, leader)
			}

			c.launch(2)
			c.launch(3)
			for _, id := range []int32{2, 3} {
				c.waitReady(id)
				testetcd.Eventually(t, fmt.Sprint("node ", id, " to set its replica aside"), func() bool { return len(c.aside(t, id)) == 1 })
				if got := c.survivor(t, id, "numbers"); got.Replica != 0 {
					t.Errorf("node %d opened replica %d", id, got.Replica)
				}
			}
			produceMore(t, c, "numbers", 700, 800)
			checkNumbers(t, consume(t, c, "numbers", 800), 800)

			// The survivor restarts: what it inherited is its own for good.
			c.Stop(1)
			c.Restart(1)
			c.inSync(t, "numbers", 3)
			checkNumbers(t, consume(t, c, "numbers", 800), 800)
			if dirs, err := os.ReadDir(filepath.Join(c.dir, "1", "partitions")); err != nil || len(dirs) != 2 {
				t.Errorf("partitions of node 1: %v, %v", dirs, err)
			}
		})
	}
}

// TestLostMajorityReturnsWithoutEtcd: while etcd is away the lost nodes can learn
// from a peer only that they are given up, and they do.
func TestLostMajorityReturnsWithoutEtcd(t *testing.T) {
	c := loseMajority(t, nil, 100)
	testetcd.Eventually(t, "the recovery to be taken", func() bool { return c.recover(t, 1, "numbers", 2, 3) == "" })
	c.inSync(t, "numbers", 3)
	c.Etcd.Cut()
	c.launch(2)
	c.launch(3)
	for _, id := range []int32{2, 3} {
		testetcd.Eventually(t, fmt.Sprint("node ", id, " to set its replica aside"), func() bool { return len(c.aside(t, id)) == 1 })
	}
	produceMore(t, c, "numbers", 100, 200)
	checkNumbers(t, consume(t, c, "numbers", 200), 200)
	c.Etcd.Mend(t)
	checkNumbers(t, consume(t, c, "numbers", 200), 200)
}

// TestLostMajorityReturnsUnseen: nobody can tell lost nodes that return together,
// while they reach neither etcd nor a peer, that they are given up: they elect a
// leader. The partition that began anew never hears of it, and once they hear of
// the recovery their replicas are set aside.
func TestLostMajorityReturnsUnseen(t *testing.T) {
	c := loseMajority(t, nil, 100)
	testetcd.Eventually(t, "the recovery to be taken", func() bool { return c.recover(t, 1, "numbers", 2, 3) == "" })
	c.inSync(t, "numbers", 3)
	c.Etcd.Cut()
	apart := func(do func(a, b int32)) {
		for _, lost := range []int32{2, 3} {
			for _, other := range []int32{1, 4, 5} {
				do(lost, other)
			}
		}
	}
	apart(c.Network.Cut)
	c.launch(2)
	c.launch(3)
	testetcd.Eventually(t, "the lost nodes to elect a leader", func() bool {
		l := c.survivor(t, 2, "numbers").Leader
		return l == 2 || l == 3
	})
	apart(c.Network.Heal)
	for _, id := range []int32{2, 3} {
		testetcd.Eventually(t, fmt.Sprint("node ", id, " to set its replica aside"), func() bool { return len(c.aside(t, id)) == 1 })
	}
	testetcd.Eventually(t, "the new group's leader", func() bool {
		l := c.survivor(t, 4, "numbers").Leader
		return slices.Contains([]int32{1, 4, 5}, l)
	})
	produceMore(t, c, "numbers", 100, 200)
	checkNumbers(t, consume(t, c, "numbers", 200), 200)
	c.Etcd.Mend(t)
}
