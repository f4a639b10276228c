//go:build system

package system

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sessionTTL is a short life of leases, or RAFTSMAN_TTL.
func sessionTTL(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("RAFTSMAN_TTL")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("RAFTSMAN_TTL: %v", err)
	}
	return d
}

func (c *cluster) killEtcd() {
	for _, p := range c.etcds {
		p.kill()
	}
}

func (c *cluster) startEtcd() {
	for _, p := range c.etcds {
		p.start()
	}
}

// TestWithoutEtcd takes all of etcd away under load: records are written and
// read, new clients come, leaders and whole clusters are restarted, and nobody
// notices but those who want to change something.
func TestWithoutEtcd(t *testing.T) {
	ttl := sessionTTL(t)
	c := startCluster(t, 4, ttl)
	c.createWith("numbers", "--partitions", "1", "--replication-factor", "3")
	c.createWith("side", "--partitions", "4", "--replication-factor", "2")
	aside := c.withoutReplica("numbers")
	t.Logf("node %d has no replica of the topic, its lease's life is %v", aside, ttl)
	ids := newIDs(t, c)
	ids.take(1, 2, 3, 4)
	l := startLoad(t, c.kafka, "numbers")
	r := startReading(t, c.kafka, "numbers")
	waitFor(t, "acknowledgements", 20*time.Second, func() bool { return l.ackedSince(time.Time{}) > 500 })

	c.killEtcd()
	at := time.Now()
	waitFor(t, "three lives of a lease", 4*ttl, func() bool { return time.Since(at) > 3*ttl })
	l.goesOn(t)
	r.goesOn(t, l)
	t.Logf("etcd was killed: longest time without an acknowledgement in %v: %v", 3*ttl, l.longestGap(at).Round(time.Millisecond))
	c.newClients(aside, "side")
	ids.take(1, 2, 3, 4)

	old := c.leader("numbers", 0)
	at = time.Now()
	c.node(old).kill()
	found := c.awaitLeaders("numbers", at, old)
	waitFor(t, "acknowledgements after the kill", 30*time.Second, func() bool { return l.ackedSince(at.Add(50*time.Millisecond)) > 200 })
	t.Logf("leader (node %d) killed: longest time without an acknowledgement %v; the nodes named another leader after %v (wanted: 2s)",
		old, l.longestGap(at).Round(time.Millisecond), found)

	at = time.Now()
	c.node(old).start()
	c.waitReady(old)
	t.Logf("node %d, started without etcd, was ready after %v", old, time.Since(at).Round(time.Millisecond))
	c.newClients(old, "side")
	ids.take(old)

	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		at = time.Now()
		c.restartAll(sig)
		begun := time.Now()
		for id := range c.nodes {
			c.waitReady(id + 1)
		}
		ready := time.Since(begun)
		waitFor(t, "acknowledgements after the restart", 60*time.Second, func() bool { return l.ackedSince(begun) > 100 })
		served := l.firstAfter(begun)
		t.Logf("all nodes stopped (%v, %v) and started without etcd: first acknowledgement %v after the last start, all ready %v after it",
			sig, begun.Sub(at).Round(time.Millisecond), served.Sub(begun).Round(time.Millisecond), ready.Round(time.Millisecond))
		c.newClients(aside, "side")
		ids.take(1, 2, 3, 4)
	}
	l.goesOn(t)
	r.goesOn(t, l)
	for id := range c.nodes {
		message, code := c.tryCreate(id+1, "meanwhile")
		if !retriable(code) || message == "" {
			t.Errorf("node %d answers the wish for a new topic with %v %q, not with a retriable error", id+1, code, message)
		}
		if id == 0 {
			t.Logf("a new topic without etcd: %v: %s", code, message)
		}
	}

	at = time.Now()
	c.startEtcd()
	waitFor(t, "a winner", 60*time.Second, func() bool { return c.winnerOrNone() > 0 })
	t.Logf("a winner %v after etcd was started", time.Since(at).Round(time.Millisecond))
	waitFor(t, "all nodes to be registered", 30*time.Second, func() bool {
		return strings.Count(c.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/nodes/"), "/nodes/") == 4
	})
	at = time.Now()
	waitFor(t, "a new topic", 30*time.Second, func() bool {
		message, code := c.tryCreate(aside, "first-after")
		if code != nil && !retriable(code) {
			t.Fatalf("create: %v %s", code, message)
		}
		return code == nil
	})
	t.Logf("a topic could be created %v after all nodes were registered", time.Since(at).Round(time.Millisecond))
	for id := range c.nodes {
		waitFor(t, "node "+strconv.Itoa(id+1)+" to follow etcd", 30*time.Second, func() bool {
			i, err := c.info(id + 1)
			return err == nil && i.Source == "etcd"
		})
	}
	c.createWith("after", "--replication-factor", "3")
	if out, err := c.raftsman("cluster", "status", "--http", c.http[0]); err != nil || strings.Contains(out, "frozen") {
		t.Errorf("cluster status: %v\n%s", err, out)
	}
	ids.take(1, 2, 3, 4)
	l.finish(t)
	r.finish(t, l)
	l.verify(t, c.kafka)
	ids.verify()
}

// goesOn waits for acknowledgements of now and checks that no record failed.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	at := time.Now()
	waitFor(t, "acknowledgements on "+l.topic, 30*time.Second, func() bool { return l.ackedSince(at) > 100 })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.failed {
		t.Error(err)
	}
}

// firstAfter is the time of the first acknowledgement after a moment.
func (l *load) firstAfter(at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.times {
		if x.After(at) {
			return x
		}
	}
	return time.Time{}
}

// restartAll stops all nodes and starts them again.
func (c *cluster) restartAll(sig syscall.Signal) {
	for _, p := range c.nodes {
		p.signal(sig)
	}
	for _, p := range c.nodes {
		<-p.done
	}
	for _, p := range c.nodes {
		p.start()
	}
}

// newClients are producers and a consumer that know one node only.
func (c *cluster) newClients(via int, topic string) {
	c.t.Helper()
	for name, opts := range map[string][]kgo.Opt{
		"an idempotent producer": nil,
		"a plain producer":       {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks())},
	} {
		c.writeAndRead(via, topic, name, opts...)
	}
}

func (c *cluster) writeAndRead(via int, topic, name string, opts ...kgo.Opt) {
	c.t.Helper()
	ctx, cancel := contextOf(c.t, 30*time.Second)
	defer cancel()
	at := time.Now()
	p, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.kafka[via-1]), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(250*time.Millisecond))...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer p.Close()
	value := name + strconv.FormatInt(time.Now().UnixNano(), 10)
	var records []*kgo.Record
	for i := range int32(4) {
		records = append(records, &kgo.Record{Partition: i, Value: []byte(value)})
	}
	offsets := map[int32]kgo.Offset{}
	for _, res := range p.ProduceSync(ctx, records...) {
		if res.Err != nil {
			c.t.Fatalf("%s that came new through node %d: partition %d: %v", name, via, res.Record.Partition, res.Err)
		}
		offsets[res.Record.Partition] = kgo.NewOffset().At(res.Record.Offset)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.kafka[via-1]), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		c.t.Fatal(err)
	}
	defer reader.Close()
	for missing := 4; missing > 0; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatalf("a consumer that came new through node %d: %v", via, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) == value {
				missing--
			}
		})
	}
	c.t.Logf("%s and a consumer, new through node %d, wrote and read 4 partitions in %v", name, via, time.Since(at).Round(time.Millisecond))
}

// TestStoppedInOrder stops one node after the other while etcd is well, so that
// the last one has seen all others go, and starts them while etcd is away: they
// find each other all the same.
func TestStoppedInOrder(t *testing.T) {
	c := startCluster(t, 3, sessionTTL(t))
	c.createWith("numbers", "--replication-factor", "3")
	c.createWith("side", "--partitions", "4", "--replication-factor", "2")
	l := startLoad(t, c.kafka, "numbers")
	l.goesOn(t)
	for i, p := range c.nodes {
		p.signal(syscall.SIGTERM)
		<-p.done
		if i < 2 {
			waitFor(t, "the next node to see it go", 20*time.Second, func() bool {
				b, err := os.ReadFile(c.viewFile(3))
				return err == nil && !strings.Contains(string(b), `"key":"nodes/`+strconv.Itoa(i+1)+`"`)
			})
		}
	}
	c.killEtcd()
	for _, p := range c.nodes {
		p.start()
	}
	begun := time.Now()
	waitFor(t, "acknowledgements after the start", 60*time.Second, func() bool { return l.ackedSince(begun) > 100 })
	t.Logf("first acknowledgement %v after the last start", l.firstAfter(begun).Sub(begun).Round(time.Millisecond))
	for id := range c.nodes {
		c.waitReady(id + 1)
		c.newClients(id+1, "side")
	}
	l.finish(t)
	l.verify(t, c.kafka)
}

func (c *cluster) viewFile(node int) string {
	return filepath.Join(c.dir, "node-"+strconv.Itoa(node), "view.json")
}
