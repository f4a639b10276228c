package node

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// operator is the node as its operators see it, through HTTP.
type operator struct{ n *Node }

var _ gateway.Operator = operator{}

// View implements gateway.Operator.
func (o operator) View() *cluster.View { return o.n.store.View() }

// Snapshot implements gateway.Operator.
func (o operator) Snapshot() health.Snapshot {
	n, v, b := o.n, o.n.store.View(), backend(o)
	partitions := health.Partitions(v, func(topic, topicID string, index int32) health.Leader {
		l, ok := b.leader(v, topic, partitionID{topicID, index})
		if !ok {
			return health.Leader{}
		}
		return health.Leader{Node: l.node, Term: l.term, InSync: l.inSync}
	}, n.alive)
	return health.Snapshot{View: v, Partitions: partitions, Nodes: health.Nodes(v, n.peers.all(), n.awaySince, partitions)}
}

// Health implements gateway.Operator.
func (o operator) Health() health.Report { return o.assess(o.Snapshot()) }

// assess says what is wrong with a snapshot of now.
func (o operator) assess(s health.Snapshot) health.Report {
	n := o.n
	return health.Assess(health.Input{
		Cluster: n.cfg.Cluster, Self: n.ID(), Now: n.now(), Base: n.store.Keys().Base(), Endpoints: n.etcd.Endpoints(),
		EtcdAway: n.watched.etcd(n.store.Connected(), n.now()), RebuildDelay: n.cfg.ReplicaRebuildDelay,
		Disk: health.Disk{
			Dir: n.cfg.DataDir, Stuck: !n.host.Healthy(), Full: n.space.full.Load(), Free: n.space.free.Load(),
			MinFree: n.cfg.MinFreeDisk, Slowest: n.watched.slowest(),
		},
		Snapshot: s,
	})
}

// seeWait is how long an answer waits until this node sees the change itself.
const seeWait = 2 * time.Second

// CreateOp implements gateway.Operator.
func (o operator) CreateOp(ctx context.Context, id string, op cluster.Op) error {
	return o.change(ctx, o.n.store.CreateOp(ctx, id, op), func(v *cluster.View) bool {
		_, ok := v.Ops[id]
		return ok
	})
}

// CancelOp implements gateway.Operator.
func (o operator) CancelOp(ctx context.Context, id string) error {
	return o.change(ctx, o.n.store.CancelOp(ctx, id), func(v *cluster.View) bool {
		op, ok := v.Ops[id]
		return !ok || op.Cancel || op.State.Final()
	})
}

// SetRebalance implements gateway.Operator.
func (o operator) SetRebalance(ctx context.Context, paused bool) error {
	return o.change(ctx, o.n.store.SetRebalance(ctx, paused), func(v *cluster.View) bool { return v.Rebalance.Paused == paused })
}

// change waits for what was written, unless that failed. That it is not seen in
// time is no error: it is in etcd.
func (o operator) change(ctx context.Context, err error, seen func(*cluster.View) bool) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, seeWait)
	defer cancel()
	_, _ = o.n.store.WaitFor(ctx, seen)
	return nil
}

// watched is what only somebody who looks all the time can tell. The zero value
// is ready.
type watched struct {
	mu       sync.Mutex
	away     map[int32]time.Time // since when nodes don't answer
	etcdAway time.Time           // zero: etcd answers
	syncs    []*dto.Histogram    // of the write-ahead log, the oldest first
}

const (
	watchEvery = time.Second
	syncsEvery = 10 // looks
	syncsKept  = 7  // samples: of a minute
)

// watchHealth looks until ctx ends.
func (n *Node) watchHealth(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		n.turns.turned("health", turnPatience)
		n.watched.etcd(n.store.Connected(), n.now())
		for _, peer := range n.peers.Peers() {
			n.awaySince(peer)
		}
		if i%syncsEvery == 0 {
			n.watched.sample(n.host.Fsyncs())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// awaySince is since when a node does not answer, as far as this one has seen;
// nil: it does.
func (n *Node) awaySince(node int32) *time.Time { return n.watched.node(node, n.alive(node), n.now()) }

func (w *watched) node(id int32, alive bool, now time.Time) *time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if alive {
		delete(w.away, id)
		return nil
	}
	if w.away == nil {
		w.away = make(map[int32]time.Time)
	}
	since, known := w.away[id]
	if !known {
		since = now.UTC().Truncate(time.Second)
		w.away[id] = since
	}
	return &since
}

func (w *watched) etcd(connected bool, now time.Time) *time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case connected:
		w.etcdAway = time.Time{}
		return nil
	case w.etcdAway.IsZero():
		w.etcdAway = now.UTC().Truncate(time.Second)
	}
	since := w.etcdAway
	return &since
}

// sample keeps how long syncs have taken so far.
func (w *watched) sample(fsyncs prometheus.Metric) {
	var now dto.Metric
	if fsyncs == nil || fsyncs.Write(&now) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.syncs = append(w.syncs, now.GetHistogram())
	w.syncs = w.syncs[max(0, len(w.syncs)-syncsKept):]
}

// fewSyncs say nothing about a disk.
const fewSyncs = 20

// slowest returns what one sync in a hundred took at least, of those of the last
// minute; 0: not known.
func (w *watched) slowest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.syncs) < 2 {
		return 0
	}
	first, last := w.syncs[0], w.syncs[len(w.syncs)-1]
	count := last.GetSampleCount() - first.GetSampleCount()
	if count < fewSyncs || len(first.GetBucket()) != len(last.GetBucket()) {
		return 0
	}
	at := 0.0 // the upper bound of the bucket before
	for i, b := range last.GetBucket() {
		if upTo := b.GetCumulativeCount() - first.GetBucket()[i].GetCumulativeCount(); upTo*100 > count*99 {
			break
		}
		at = b.GetUpperBound()
	}
	return time.Duration(at * float64(time.Second))
}
