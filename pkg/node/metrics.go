package node

import (
	"context"
	"errors"
	"path"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
)

// nodeMetrics are what the node knows when it is asked: they cost nothing
// between scrapes. No label has a value for each partition, and only as many topics
// have one as Config.MetricsTopics says.
type nodeMetrics struct {
	n *Node

	build, info, clock                              *prometheus.Desc
	ready, draining                                 *prometheus.Desc
	winner, winnerKnown, terms                      *prometheus.Desc
	etcdConnected, etcdSession, frozen              *prometheus.Desc
	nodes, retired, topics, partitions, offline     *prometheus.Desc
	replicas, led, underReplicated, moving, segment *prometheus.Desc
	topicSegment                                    *prometheus.Desc
	lagSeconds, lagEntries                          *prometheus.Desc
	stuck, minFree, operations                      *prometheus.Desc
}

func newNodeMetrics(n *Node) *nodeMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("raftsman_"+name, help, labels, nil)
	}
	return &nodeMetrics{
		n:               n,
		build:           desc("build_info", "1, with what this node runs.", "version", "go_version"),
		info:            desc("node_info", "1, with who this node is.", "cluster", "node", "rack"),
		clock:           desc("time_seconds", "The node's clock, in seconds since 1970."),
		ready:           desc("ready", "1 while /readyz says so."),
		draining:        desc("draining", "1 while the node hands over all that it leads: its disk is full or slow, an operator wished it, or it stops."),
		winner:          desc("winner", "1 while this node is the winner, which places and moves replicas."),
		winnerKnown:     desc("winner_known", "1 while this node knows a winner that answers."),
		terms:           desc("winner_terms_total", "Times that this node became the winner."),
		etcdConnected:   desc("etcd_connected", "1 while etcd answers this node."),
		etcdSession:     desc("etcd_session", "1 while this node has a lease in etcd, and is registered."),
		frozen:          desc("metadata_frozen", "1 while changes are refused, since etcd does not hold what it held."),
		nodes:           desc("nodes", "Nodes of the cluster that answer this one's pings (up, itself included), and that do not (down), without retired ones.", "state"),
		retired:         desc("node_retired", "1 for each node that was decommissioned, holds nothing and is not registered: nothing is expected of it.", "node"),
		topics:          desc("topics", "Topics of the cluster."),
		partitions:      desc("partitions", "Partitions of the cluster."),
		offline:         desc("partitions_offline", "Partitions of the cluster without a leader that answers, as this node knows."),
		replicas:        desc("replicas", "Replicas that are open on this node."),
		led:             desc("partitions_led", "Partitions that this node leads."),
		underReplicated: desc("partitions_under_replicated", "Partitions led here that have a replica that is away or is more than 10 s behind."),
		moving:          desc("partitions_moving", "Partitions led here whose members are being changed."),
		segment:         desc("segment_bytes", "Bytes of the records that this node stores."),
		topicSegment:    desc("topic_segment_bytes", "Of raftsman_segment_bytes, those of one topic.", "topic"),
		lagSeconds:      desc("follower_lag_seconds", "Of the worst replica on another node of what is led here: how long ago it had everything. Some tenths of a second are none.", "node"),
		lagEntries:      desc("follower_lag_entries", "Of the worst replica on another node of what is led here: raft entries that it lacks.", "node"),
		stuck:           desc("disk_stuck", "1 while an fsync of the write-ahead log does not return."),
		minFree:         desc("disk_min_free_bytes", "--min-free-disk: with less free no records are taken."),
		operations:      desc("operations", "Operations that wait or run, in the whole cluster.", "state"),
	}
}

// Describe implements prometheus.Collector.
func (m *nodeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.build, m.info, m.clock, m.ready, m.draining, m.winner, m.winnerKnown, m.terms, m.etcdConnected, m.etcdSession, m.frozen,
		m.nodes, m.retired, m.topics, m.partitions, m.offline, m.replicas, m.led, m.underReplicated, m.moving, m.segment, m.topicSegment,
		m.lagSeconds, m.lagEntries, m.stuck, m.minFree, m.operations,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	n, v := m.n, m.n.store.View()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	flag := func(d *prometheus.Desc, on bool) {
		if on {
			gauge(d, 1)
		} else {
			gauge(d, 0)
		}
	}
	gauge(m.build, 1, n.cfg.Version, runtime.Version())
	gauge(m.info, 1, n.cfg.Cluster, strconv.Itoa(int(n.ID())), n.cfg.Rack)
	gauge(m.clock, float64(n.now().UnixNano())/1e9)
	flag(m.ready, n.readiness() == nil)
	flag(m.draining, len(n.shedReasons(v)) > 0)
	flag(m.winner, n.isWinner())
	flag(m.winnerKnown, n.isWinner() || v.Winner != nil && n.alive(v.Winner.Node))
	ch <- prometheus.MustNewConstMetric(m.terms, prometheus.CounterValue, float64(n.terms.Load()))
	flag(m.etcdConnected, n.store.Connected())
	n.mu.Lock()
	session := n.session
	n.mu.Unlock()
	flag(m.etcdSession, session != nil && session.Valid())
	flag(m.frozen, v.Frozen != "")

	up, down, retired := 1, 0, retiredNodes(v)
	for id := range retired {
		gauge(m.retired, 1, strconv.Itoa(int(id)))
	}
	for _, peer := range n.peers.Peers() {
		switch {
		case retired[peer]:
			continue
		case n.alive(peer):
			up++
		default:
			down++
		}
		lag := n.lags.of(peer)
		gauge(m.lagSeconds, lag.behind.Seconds(), strconv.Itoa(int(peer)))
		gauge(m.lagEntries, float64(lag.entries), strconv.Itoa(int(peer)))
	}
	gauge(m.nodes, float64(up), "up")
	gauge(m.nodes, float64(down), "down")
	m.collectPartitions(v, gauge)
	flag(m.stuck, !n.host.Healthy())
	gauge(m.minFree, float64(max(n.cfg.MinFreeDisk, 0)))
	states := map[cluster.OpState]int{cluster.OpPending: 0, cluster.OpRunning: 0}
	for _, op := range v.Ops {
		if _, counts := states[op.State]; counts {
			states[op.State]++
		}
	}
	for state, count := range states {
		gauge(m.operations, float64(count), string(state))
	}
}

func (m *nodeMetrics) collectPartitions(v *cluster.View, gauge func(*prometheus.Desc, float64, ...string)) {
	n, b := m.n, backend{m.n}
	partitions, offline := 0, 0
	for name, t := range v.Topics {
		for i := range t.Partitions {
			partitions++
			id := partitionID{t.ID, i}
			if l, ok := n.leaders.of(id); ok && n.alive(l.node) {
				continue
			}
			if l, ok := b.leader(v, name, id); !ok || l.node == 0 {
				offline++
			}
		}
	}
	gauge(m.topics, float64(len(v.Topics)))
	gauge(m.partitions, float64(partitions))
	gauge(m.offline, float64(offline))

	s, _ := n.status(v)
	count := func(of map[string]map[int32][]int32) (c int) {
		for _, partitions := range of {
			c += len(partitions)
		}
		return c
	}
	moving := 0
	for _, partitions := range s.Moving {
		moving += len(partitions)
	}
	var bytes int64
	topics := make(map[string]int64)
	for _, o := range n.replicas.all() {
		size := o.p.Size()
		bytes += size
		topics[n.replicas.metrics.TopicLabel(o.topic)] += size
	}
	for topic, size := range topics {
		if topic != "" {
			gauge(m.topicSegment, float64(size), topic)
		}
	}
	gauge(m.replicas, float64(n.replicas.count()))
	gauge(m.led, float64(n.leaders.count()))
	gauge(m.underReplicated, float64(count(s.Lagging)))
	gauge(m.moving, float64(moving))
	gauge(m.segment, float64(bytes))
}

// registerMetrics adds the metrics of the node as a whole.
func (n *Node) registerMetrics() error {
	var err error
	if n.replicas.metrics, err = partition.NewMetrics(n.cfg.Registerer, n.cfg.MetricsTopics); err != nil {
		return err
	}
	n.onClose("metrics of partitions", func() error { n.replicas.metrics.Unregister(n.cfg.Registerer); return nil })
	m := newNodeMetrics(n)
	if err := n.cfg.Registerer.Register(m); err != nil {
		return err
	}
	n.onClose("metrics of the node", func() error { n.cfg.Registerer.Unregister(m); return nil })
	return nil
}

// isWinner says whether the node is the winner at this moment, by its own clock.
func (n *Node) isWinner() bool {
	l := n.won.Load()
	return l != nil && l.Valid()
}

// leaderProbe says whether this node is the winner, or who is.
func (n *Node) leaderProbe() (leading bool, node int32) {
	if n.isWinner() {
		return true, n.ID()
	}
	if w := n.store.View().Winner; w != nil && w.Node != n.ID() && n.alive(w.Node) {
		return false, w.Node
	}
	return false, 0
}

// observeEtcd makes metrics of the requests to etcd.
func (n *Node) observeEtcd() (grpc.UnaryClientInterceptor, error) {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "raftsman_etcd_request_seconds", Help: "Requests to etcd, by operation; each attempt counts.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"op"})
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "raftsman_etcd_request_failures_total", Help: "Attempts of requests to etcd that failed, by operation and gRPC code."}, []string{"op", "code"})
	for _, c := range []prometheus.Collector{seconds, failed} {
		if err := n.cfg.Registerer.Register(c); err != nil {
			return nil, err
		}
		n.onClose("metrics of etcd", func() error { n.cfg.Registerer.Unregister(c); return nil })
	}
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		began, op := time.Now(), path.Base(method)
		err := invoke(ctx, method, req, reply, cc, opts...)
		seconds.WithLabelValues(op).Observe(time.Since(began).Seconds())
		if err != nil && !errors.Is(err, context.Canceled) {
			failed.WithLabelValues(op, status.Code(err).String()).Inc()
		}
		return err
	}, nil
}
