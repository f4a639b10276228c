package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// createPatience is how long the creation of __consumer_offsets may take.
const createPatience = 30 * time.Second

// maxGroupBytes bounds a record of a group, whatever clients may produce: it
// grows with the group's members and what they subscribe to.
const maxGroupBytes = 10 << 20

// create makes __consumer_offsets in the background, unless that is under way.
// It is tried again as long as somebody asks for a coordinator.
func (g *groups) create() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.creating {
		return
	}
	g.creating = true
	ctx, cancel := context.WithTimeout(context.Background(), createPatience)
	g.uncreate = cancel
	g.wg.Go(func() {
		defer cancel()
		err := g.createTopic(ctx)
		g.mu.Lock()
		g.creating, g.failed = false, err
		g.mu.Unlock()
		g.n.changes.notify()
	})
}

// createTopic makes the topic with three replicas, or as many as there are nodes.
func (g *groups) createTopic(ctx context.Context) error {
	b, v := backend{g.n}, g.n.store.View()
	brokers := b.configs(v)
	partitions := offsetsPartitions(brokers)
	rf, set := offsetsReplicas(brokers)
	if !set {
		// Nodes that are away for the moment count, as for other topics. When there
		// are more, the winner adds replicas.
		rf = min(rf, b.known(v))
	}
	if live, _ := b.registered(ctx, rf); live < rf {
		return fmt.Errorf("%s can't be created yet: it has %d replicas, and %d nodes are there", offsetsTopic, rf, live)
	}
	_, err := g.n.store.CreateTopic(ctx, offsetsTopic, partitions, int16(rf), map[string]string{
		"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600",
		"max.message.bytes": strconv.Itoa(maxGroupBytes),
	})
	if errors.Is(err, cluster.ErrTopicExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s can't be created: %w", offsetsTopic, err)
	}
	g.n.log.Info("created the topic of consumer groups", "topic", offsetsTopic, "partitions", partitions, "replicas", rf)
	return nil
}

// systemTopics tells the winner how many replicas the system's topics shall have.
func (n *Node) systemTopics(v *cluster.View) map[string]int {
	rf, _ := offsetsReplicas(backend{n}.configs(v))
	return map[string]int{offsetsTopic: rf}
}

// why is the reason that there is no coordinator, for clients.
func (g *groups) why() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.failed != nil:
		return g.failed.Error()
	case g.creating:
		return offsetsTopic + " is being created"
	}
	return "the group's partition of " + offsetsTopic + " has no leader"
}
