package node

import (
	"context"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/coordinator"
	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/internal/partition"
)

// offsetsTopic is where consumer groups live. Its name is Kafka's.
const offsetsTopic = "__consumer_offsets"

// groups runs a coordinator for each partition of __consumer_offsets that this
// node leads, for as long as a term lasts.
type groups struct {
	n       *Node
	metrics *coordinator.Metrics
	wg      sync.WaitGroup // run, coordinators, the topic's creation

	// The configuration, as of these revisions of the keys that alter it. run's alone.
	config    group.Config
	revisions [2]int64

	mu       sync.Mutex
	closed   bool
	stop     context.CancelFunc // of run
	held     map[int32]*heldGroups
	bequests map[int32][]bequest // for coordinators that have not begun
	creating bool
	uncreate context.CancelFunc // of the topic's creation
	failed   error              // why the topic could not be created
}

// heldGroups is the coordinator of one partition in one term.
type heldGroups struct {
	c      *coordinator.Coordinator
	p      *partition.Partition
	term   uint64
	began  time.Time
	cancel context.CancelFunc
}

func newGroups(n *Node) (*groups, error) {
	metrics, err := coordinator.NewMetrics(n.cfg.Registerer)
	if err != nil {
		return nil, err
	}
	n.onClose("metrics of groups", func() error { metrics.Close(); return nil })
	return &groups{n: n, metrics: metrics, held: make(map[int32]*heldGroups), bequests: make(map[int32][]bequest), revisions: [2]int64{-1}}, nil
}

// run follows what this node leads, until ctx ends.
func (g *groups) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		cancel()
		return
	}
	g.stop = cancel
	g.wg.Add(1)
	g.mu.Unlock()
	defer g.wg.Done()
	defer cancel()
	var last *cluster.View
	for ctx.Err() == nil {
		changed := g.n.changes.wait()
		v := g.n.store.View()
		g.configure(v)
		g.follow(ctx, v)
		if last != nil && v != last {
			g.forget(last, v)
		}
		last = v
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// configure tells the coordinators how groups are configured, when that has changed.
func (g *groups) configure(v *cluster.View) {
	revisions := [2]int64{v.Configs[g.n.ID()].ModRevision, v.Configs[0].ModRevision}
	if revisions == g.revisions {
		return
	}
	g.revisions = revisions
	g.config = g.n.cfg.Groups.altered(backend{g.n}.configs(v))
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.held {
		h.c.Configure(g.config)
	}
}

// follow starts and ends coordinators as leaderships come and go.
func (g *groups) follow(ctx context.Context, v *cluster.View) {
	t := v.Topics[offsetsTopic]
	leads := make(map[int32]*partition.Partition)
	for i := range t.Partitions {
		if p, ok := g.n.replicas.get(partitionID{t.ID, i}); ok && p.Group().Status().Leading {
			leads[i] = p
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	for i, h := range g.held {
		if p := leads[i]; p != h.p || p.Group().Status().Term != h.term {
			h.cancel()
			delete(g.held, i)
		}
	}
	for i, p := range leads {
		if s := p.Group().Status(); g.held[i] == nil && s.Leading {
			g.startLocked(ctx, v, i, p, s.Term)
		}
	}
}

func (g *groups) startLocked(ctx context.Context, v *cluster.View, index int32, p *partition.Partition, term uint64) {
	all := ctx
	ctx, cancel := context.WithCancel(ctx)
	h := &heldGroups{p: p, term: term, began: time.Now(), cancel: cancel}
	h.c = coordinator.New(coordinator.Options{
		Log: coordinator.Of(p), Term: term, Groups: g.config, Now: g.n.now, Metrics: g.metrics,
		Logger: g.n.log.With("topic", offsetsTopic, "partition", index),
	})
	// Topics may have been deleted while nobody coordinated the partition.
	for _, d := range v.Deleted {
		if _, again := v.Topics[d.Topic]; !again {
			h.c.RemoveTopic(d.Topic)
		}
	}
	g.held[index] = h
	g.settleLocked(index, h)
	id := partitionID{v.Topics[offsetsTopic].ID, index}
	g.wg.Go(func() {
		defer cancel()
		h.c.Run(ctx)
		g.mu.Lock()
		if g.held[index] == h {
			delete(g.held, index)
		}
		g.mu.Unlock()
		g.bequeath(all, id, h)
	})
}

// forget tells the coordinators of topics that were deleted.
func (g *groups) forget(last, v *cluster.View) {
	for id, d := range v.Deleted {
		if _, known := last.Deleted[id]; known {
			continue
		}
		g.mu.Lock()
		for _, h := range g.held {
			h.c.RemoveTopic(d.Topic)
		}
		g.mu.Unlock()
	}
}

// of returns the coordinator of a partition, if it is here.
func (g *groups) of(index int32) *coordinator.Coordinator {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.held[index]; h != nil {
		return h.c
	}
	return nil
}

// all returns the coordinators on this node.
func (g *groups) all() []*coordinator.Coordinator {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*coordinator.Coordinator, 0, len(g.held))
	for _, h := range g.held {
		list = append(list, h.c)
	}
	return list
}

// close ends all coordinators: what waits is answered with NOT_COORDINATOR, and
// what comes as well. It returns when nothing runs any more.
func (g *groups) close() {
	g.mu.Lock()
	g.closed = true
	if g.stop != nil {
		g.stop()
	}
	if g.uncreate != nil {
		g.uncreate()
	}
	g.mu.Unlock()
	g.wg.Wait()
}
