// Package testcluster runs whole clusters in a test's process: an embedded
// etcd, N nodes on real TCP and real files, and a network between them that
// can be cut.
package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// Cluster is an etcd and some nodes.
type Cluster struct {
	Etcd    *testetcd.Server
	Network *Network

	t     testing.TB
	dir   string
	nodes map[int32]*Member
	tune  func(*node.Config)
}

// Member is one node, running or not.
type Member struct {
	Node   *node.Node
	cancel context.CancelFunc
	done   chan error
	cfg    node.Config
}

// Start starts nodes 1 to n, and waits until they are ready. tune may change
// their configuration, and may be nil.
func Start(t testing.TB, n int, tune func(*node.Config)) *Cluster {
	t.Helper()
	c := &Cluster{Etcd: testetcd.Start(t), Network: newNetwork(), t: t, dir: t.TempDir(), nodes: make(map[int32]*Member), tune: tune}
	t.Cleanup(c.stopAll)
	for id := int32(1); id <= int32(n); id++ {
		c.launch(id)
	}
	for id := int32(1); id <= int32(n); id++ {
		c.waitReady(id)
	}
	testetcd.Eventually(t, "all nodes to know each other", func() bool {
		for _, m := range c.nodes {
			if !m.Node.Reaches(n) {
				return false
			}
		}
		return true
	})
	return c
}

// Logger writes to the test's log when RAFTSMAN_TEST_LOG is set.
func Logger(name string) *slog.Logger {
	if os.Getenv("RAFTSMAN_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	level := slog.LevelInfo
	if os.Getenv("RAFTSMAN_TEST_LOG") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("at", name)
}

func (c *Cluster) launch(id int32) {
	c.t.Helper()
	cfg := node.Config{
		NodeID: id, DataDir: filepath.Join(c.dir, fmt.Sprint(id)), Cluster: "test",
		Listeners: []node.KafkaListener{{Name: "default", Addr: "127.0.0.1:0"}},
		HTTPAddr:  "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		SessionTTL: 2 * time.Second, AutoCreateTopics: true, LeaderReturnDelay: -1,
		Groups: node.Groups{TopicPartitions: 8, InitialRebalanceDelay: -1},
		Logger: Logger(fmt.Sprint("node ", id)), Registerer: prometheus.NewRegistry(),
		Dial: c.Network.dialer(id), Listen: c.Network.listen,
	}
	cfg.Etcd.Endpoints = []string{c.Etcd.Endpoint()}
	if m := c.nodes[id]; m != nil {
		// The same addresses as before: clients know them.
		cfg.Listeners[0].Addr = m.cfg.Listeners[0].Addr
		cfg.PeerAddr, cfg.HTTPAddr = m.cfg.PeerAddr, m.cfg.HTTPAddr
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	n, err := node.New(cfg)
	if err != nil {
		c.t.Fatalf("node %d: %v", id, err)
	}
	cfg.Listeners[0].Addr, cfg.PeerAddr, cfg.HTTPAddr = n.KafkaAddr(), n.PeerAddr(), n.HTTPAddr()
	c.Network.name(n.PeerAddr(), id)
	ctx, cancel := context.WithCancel(context.Background())
	m := &Member{Node: n, cancel: cancel, done: make(chan error, 1), cfg: cfg}
	c.nodes[id] = m
	go func() { m.done <- n.Run(ctx) }()
}

func (c *Cluster) waitReady(id int32) {
	c.t.Helper()
	m := c.nodes[id]
	select {
	case <-m.Node.Ready():
	case err := <-m.done:
		c.t.Fatalf("node %d ended: %v", id, err)
	case <-time.After(30 * time.Second):
		c.t.Fatalf("node %d is not ready after 30 s", id)
	}
}

// Member returns a node.
func (c *Cluster) Member(id int32) *Member { return c.nodes[id] }

// Stop stops a node in order.
func (c *Cluster) Stop(id int32) {
	c.t.Helper()
	m := c.nodes[id]
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.cancel = nil
	select {
	case err := <-m.done:
		if err != nil {
			c.t.Errorf("node %d ended with %v", id, err)
		}
	case <-time.After(30 * time.Second):
		c.t.Fatalf("node %d does not stop", id)
	}
}

// Restart starts a stopped node at its former addresses.
func (c *Cluster) Restart(id int32) {
	c.t.Helper()
	c.launch(id)
	c.waitReady(id)
}

func (c *Cluster) stopAll() {
	for id := range c.nodes {
		c.Stop(id)
	}
}

// Brokers returns the Kafka addresses of all nodes.
func (c *Cluster) Brokers() []string {
	var addrs []string
	for id := int32(1); id <= int32(len(c.nodes)); id++ {
		addrs = append(addrs, c.nodes[id].cfg.Listeners[0].Addr)
	}
	return addrs
}

// Client makes a Kafka client of the whole cluster.
func (c *Cluster) Client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Brokers()...), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}
