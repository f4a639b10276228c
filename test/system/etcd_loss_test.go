//go:build system

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// etcdDir is where a member of etcd keeps its data.
func (c *cluster) etcdDir(i int) string { return filepath.Join(c.dir, fmt.Sprintf("etcd-%d", i)) }

// backUpEtcd copies the data of all members while they are stopped.
func (c *cluster) backUpEtcd() (dir string) {
	c.t.Helper()
	dir = c.t.TempDir()
	for _, p := range c.etcds {
		p.signal(syscall.SIGTERM)
	}
	for i, p := range c.etcds {
		<-p.done
		if err := os.CopyFS(filepath.Join(dir, fmt.Sprint(i)), os.DirFS(c.etcdDir(i))); err != nil {
			c.t.Fatal(err)
		}
	}
	c.startEtcd()
	waitFor(c.t, "a winner after the backup", 60*time.Second, func() bool { return c.winnerOrNone() > 0 })
	c.awaitChanges()
	return dir
}

// createPatiently creates a topic while nodes may still be on their way back to
// etcd: it goes by retriable errors as a client does.
func (c *cluster) createPatiently(topic string, args ...string) {
	c.t.Helper()
	waitFor(c.t, "topic "+topic+" to be created", 60*time.Second, func() bool {
		out, err := c.raftsman(append([]string{"topic", "create", topic}, args...)...)
		if err != nil && !strings.Contains(out, "REQUEST_TIMED_OUT") {
			c.t.Fatalf("create %s: %v\n%s", topic, err, out)
		}
		return err == nil
	})
	waitFor(c.t, "a leader of "+topic, 20*time.Second, func() bool { return c.leader(topic, 0) > 0 })
}

// awaitChanges waits until every node sees all others, and then asks each for a
// topic, as a client does that tries again, until it is accepted.
func (c *cluster) awaitChanges() {
	c.t.Helper()
	waitFor(c.t, "every node to see all of them registered", 30*time.Second, func() bool {
		return c.each(func(i clusterInfo) bool { return len(i.Nodes) == len(c.nodes) })
	})
	for id := range c.nodes {
		waitFor(c.t, fmt.Sprintf("node %d to accept changes", id+1), 30*time.Second, func() bool {
			message, code := c.tryCreate(id+1, "probe")
			if code != nil && !retriable(code) && !errors.Is(code, kerr.TopicAlreadyExists) {
				c.t.Fatalf("node %d: %v: %s", id+1, code, message)
			}
			return code == nil || errors.Is(code, kerr.TopicAlreadyExists)
		})
	}
}

// replaceEtcd puts a backup, or nothing, in the place of etcd's data.
func (c *cluster) replaceEtcd(backup string) {
	c.t.Helper()
	for i := range c.etcds {
		if err := os.RemoveAll(c.etcdDir(i)); err != nil {
			c.t.Fatal(err)
		}
		if backup == "" {
			continue
		}
		if err := os.CopyFS(c.etcdDir(i), os.DirFS(filepath.Join(backup, fmt.Sprint(i)))); err != nil {
			c.t.Fatal(err)
		}
	}
	c.startEtcd()
}

// clusterInfo is what a node says in /cluster.json.
type clusterInfo struct {
	Frozen string `json:"frozen"`
	Epoch  int64  `json:"epoch"`
	Source string `json:"source"`
	Nodes  []any  `json:"nodes"`
}

func (c *cluster) info(node int) (i clusterInfo, err error) {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + c.http[node-1] + "/cluster.json")
	if err != nil {
		return i, err
	}
	defer resp.Body.Close()
	return i, json.NewDecoder(resp.Body).Decode(&i)
}

// addNode starts one more node, with further flags.
func (c *cluster) addNode(flags ...string) (id int) {
	c.t.Helper()
	p := ports(c.t, 3)
	id = len(c.nodes) + 1
	args := slices.Clone(c.nodes[0].args)
	set := func(flag, value string) { args[slices.Index(args, flag)+1] = value }
	c.kafka, c.http = append(c.kafka, fmt.Sprintf("127.0.0.1:%d", p[0])), append(c.http, fmt.Sprintf("127.0.0.1:%d", p[1]))
	set("--kafka-addr", c.kafka[id-1])
	set("--http-addr", c.http[id-1])
	set("--peer-addr", fmt.Sprintf("127.0.0.1:%d", p[2]))
	set("--node-id", fmt.Sprint(id))
	set("--data-dir", filepath.Join(c.dir, fmt.Sprintf("node-%d", id)))
	c.nodes = append(c.nodes, c.spawn(fmt.Sprintf("node-%d", id), append(args, flags...)...))
	return id
}

// TestEtcdLost replaces etcd by an empty one and by a backup of before half of
// the topics, under running nodes and under nodes that are started afresh:
// everything is served on, nothing can be changed, and restore-metadata mends it.
func TestEtcdLost(t *testing.T) {
	t.Parallel()
	for _, backup := range []bool{false, true} {
		for _, afresh := range []bool{false, true} {
			name := map[bool]string{false: "empty", true: "backup"}[backup] + map[bool]string{false: "_nodes_run", true: "_nodes_start"}[afresh]
			t.Run(name, func(t *testing.T) { loseEtcd(t, backup, afresh) })
		}
	}
}

func loseEtcd(t *testing.T, backup, afresh bool) {
	c := startCluster(t, 3, sessionTTL(t))
	ids := newIDs(t, c)
	c.createWith("first", "--replication-factor", "3")
	c.createWith("first-aside", "--partitions", "4", "--replication-factor", "3")
	c.createWith("doomed", "--replication-factor", "3")
	first := startLoad(t, c.kafka, "first")
	ids.take(1, 2, 3)
	kept := ""
	if backup {
		kept = c.backUpEtcd()
	}
	c.createPatiently("second", "--replication-factor", "2")
	c.createPatiently("second-aside", "--partitions", "4", "--replication-factor", "2")
	second := startLoad(t, c.kafka, "second")
	if out, err := c.raftsman("topic", "delete", "doomed"); err != nil {
		t.Fatalf("delete: %v\n%s", err, out)
	}
	// Beyond the blocks that the nodes had when the backup was made.
	ids.takeMany(1, 11_000)
	ids.take(1, 2, 3)
	first.goesOn(t)
	second.goesOn(t)

	at := time.Now()
	c.killEtcd()
	if afresh {
		for _, p := range c.nodes {
			p.kill()
		}
	}
	marks := c.marks()
	c.replaceEtcd(kept)
	if afresh {
		for _, p := range c.nodes {
			p.start()
		}
	}
	waitFor(t, "all nodes to be frozen", 60*time.Second, func() bool {
		return c.each(func(i clusterInfo) bool { return i.Frozen != "" })
	})
	t.Logf("all nodes were frozen %v after etcd was killed", time.Since(at).Round(time.Millisecond))
	c.frozenButServing(ids, first, second)
	c.toldOnce(marks)
	t.Logf("longest time without an acknowledgement since: first %v, second %v", first.longestGap(at).Round(time.Millisecond), second.longestGap(at).Round(time.Millisecond))
	c.restore(backup && afresh)

	c.createWith("after", "--replication-factor", "3")
	if c.topicExists("doomed") {
		t.Error("a deleted topic is back")
	}
	joined := c.addNode()
	c.waitReady(joined)
	highest := ids.last
	if lowest := ids.takeMany(joined, 3); lowest <= highest {
		t.Errorf("the new node hands out producer id %d, and %d was given out before", lowest, highest)
	}
	ids.take(1, 2, 3)
	c.newClients(joined, "second-aside")
	for _, l := range []*load{first, second} {
		l.goesOn(t)
		l.finish(t)
		l.verify(t, c.kafka)
	}
	ids.verify()
}

// each says whether all nodes' cluster.json satisfies cond.
func (c *cluster) each(cond func(clusterInfo) bool) bool {
	for id := range c.nodes {
		i, err := c.info(id + 1)
		if err != nil || !cond(i) {
			return false
		}
	}
	return true
}

// marks is how much each node has logged.
func (c *cluster) marks() (at []int) {
	for _, p := range c.nodes {
		at = append(at, len(p.logs()))
	}
	return at
}

// toldOnce: each node has said what to do exactly once, at error level.
func (c *cluster) toldOnce(marks []int) {
	c.t.Helper()
	for i, p := range c.nodes {
		var said []string
		for line := range strings.SplitSeq(p.logs()[marks[i]:], "\n") {
			if strings.Contains(line, "restore-metadata") {
				said = append(said, line)
			}
		}
		if len(said) != 1 || !strings.Contains(said[0], "level=ERROR") {
			c.t.Errorf("%s said %d times what to do:\n%s", p.name, len(said), strings.Join(said, "\n"))
		}
		if i == 0 && len(said) > 0 {
			c.t.Log(said[0])
		}
	}
}

// frozenButServing: both halves of the topics are written and read, new producers
// get ids, and changes are refused in a way that clients try again.
func (c *cluster) frozenButServing(ids *takenIDs, loads ...*load) {
	c.t.Helper()
	for _, l := range loads {
		l.goesOn(c.t)
	}
	for id := range c.nodes {
		c.waitReady(id + 1)
		c.newClients(id+1, "first-aside")
		c.newClients(id+1, "second-aside")
		ids.take(id + 1)
		message, code := c.tryCreate(id+1, "meanwhile")
		if !retriable(code) || !strings.Contains(message, "frozen") {
			c.t.Errorf("node %d answers the wish for a new topic with %v %q", id+1, code, message)
		}
		if id == 0 {
			c.t.Logf("a new topic while frozen: %v: %s", code, message)
		}
	}
	// More than one node holds in the block at hand.
	ids.takeMany(2, 500)
	if c.topicExists("doomed") {
		c.t.Error("a deleted topic is back")
	}
}

func (c *cluster) topicExists(topic string) bool {
	c.t.Helper()
	out, err := c.raftsman("topic", "list", "-o", "json")
	if err != nil {
		c.t.Fatalf("topic list: %v\n%s", err, out)
	}
	return strings.Contains(out, `"`+topic+`"`)
}

// restore mends the metadata; with one node stopped, whose directory speaks for it.
func (c *cluster) restore(oneStopped bool) {
	c.t.Helper()
	args := []string{"cluster", "restore-metadata", "--http", c.http[0]}
	if out, err := c.raftsman(args...); err == nil || !strings.Contains(out, "--yes") {
		c.t.Errorf("it wrote without being asked to: %v\n%s", err, out)
	}
	if oneStopped {
		c.node(3).signal(syscall.SIGTERM)
		<-c.node(3).done
		if out, err := c.raftsman(append(args, "--yes")...); err == nil || !strings.Contains(out, "the views of nodes 3 are missing") {
			c.t.Errorf("it went on without node 3: %v\n%s", err, out)
		}
		args = append(args, "--data-dir", filepath.Join(c.dir, "node-3"))
	}
	before := c.keys()
	out, err := c.raftsman(append(args, "--dry-run")...)
	if err != nil {
		c.t.Fatalf("dry run: %v\n%s", err, out)
	}
	c.t.Logf("dry run:\n%s", out)
	if after := c.keys(); after != before {
		c.t.Errorf("the dry run changed keys:\n%s\nwere\n%s", after, before)
	}
	at := time.Now()
	out, err = c.raftsman(append(args, "--yes", "-o", "json")...)
	if err != nil {
		c.t.Fatalf("restore: %v\n%s", err, out)
	}
	c.t.Logf("restored, and all running nodes thawed, in %v", time.Since(at).Round(time.Millisecond))
	var result struct {
		Restored bool  `json:"restored"`
		Epoch    int64 `json:"epoch"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || !result.Restored || result.Epoch < 2 {
		c.t.Errorf("result %+v, %v\n%s", result, err, out)
	}
	if oneStopped {
		c.node(3).start()
		c.waitReady(3)
	}
	waitFor(c.t, "all nodes to thaw", 30*time.Second, func() bool {
		return c.each(func(i clusterInfo) bool { return i.Frozen == "" && i.Epoch == result.Epoch })
	})
	waitFor(c.t, "a winner", 30*time.Second, func() bool { return c.winnerOrNone() > 0 })
	waitFor(c.t, "all nodes to be registered", 30*time.Second, func() bool {
		return strings.Count(c.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/nodes/"), "/nodes/") == 3
	})
	c.awaitChanges()
	if out, err := c.raftsman("cluster", "restore-metadata", "--http", c.http[0], "--yes"); err == nil || !strings.Contains(out, "there is nothing to restore") {
		c.t.Errorf("a second restore of a well etcd: %v\n%s", err, out)
	}
}

// keys is every key without a lease, with its value.
func (c *cluster) keys() string {
	var all []string
	for _, dir := range []string{"meta", "frozen", "topics/", "assignments/", "deleted/", "producer-ids", "replica-ids", "node-ids"} {
		all = append(all, c.etcdctl("get", "--prefix", "/raftsman/default/"+dir))
	}
	return strings.Join(all, "")
}
