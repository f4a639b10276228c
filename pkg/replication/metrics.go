package replication

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count how leaderships come and go. They are touched when one changes.
type metrics struct {
	registerer   prometheus.Registerer
	gained, lost prometheus.Counter
	failover     prometheus.Histogram
	leaderless   prometheus.Collector
}

func newMetrics(h *Host, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: r,
		gained: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_leaderships_gained_total", Help: "Times that a replica here became the leader of its partition."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_leaderships_lost_total", Help: "Times that a replica here ceased to lead its partition."}),
		failover: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "raftsman_failover_seconds",
			Help:    "Of partitions that this node came to lead: from when it noticed that there was no leader until it led.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}),
		leaderless: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_replicas_leaderless", Help: "Replicas here that know no leader of their partition."},
			func() float64 { return float64(h.failover.lost.Load()) }),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.collectors() {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		m.unregister()
		return nil, err
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.gained, m.lost, m.failover, m.leaderless}
}

func (m *metrics) unregister() {
	if m == nil || m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

// changed notes what a group's status was and is now.
func (m *metrics) changed(g *Group, old, now Status) {
	if old.Leading && (!now.Leading || now.Term != old.Term) {
		m.lost.Inc()
	}
	if now.Leading && (!old.Leading || now.Term != old.Term) {
		m.gained.Inc()
		if since := g.orphanedAt.Swap(nil); since != nil {
			m.failover.Observe(time.Since(*since).Seconds())
		}
	}
}

// noteOrphan remembers since when a group has no leader. Who has just opened a
// replica does not know that.
func (g *Group) noteOrphan(o *orphan) {
	if o.lost.leader != 0 {
		g.orphanedAt.Store(&o.since)
	}
}

// endOrphan forgets it; for one that leads changed does.
func (g *Group) endOrphan() {
	if g.raft.State() != raft.Leader && !g.status.Load().Leading {
		g.orphanedAt.Store(nil)
	}
}

// Lag is how far a follower is behind.
type Lag struct {
	Replica uint64
	// Known is false while the follower never had all that there was, as far as
	// this leader has seen in its term.
	Known bool
	// Behind is how long ago it had all that there was. One that keeps up with a
	// busy leader has some tenths of a second.
	Behind  time.Duration
	Entries uint64 // of the leader's log that it lacks
}

// Lags are those of the other voters. Only the leader knows; others return nil.
func (g *Group) Lags() []Lag {
	status := g.Status()
	if !status.Leading {
		return nil
	}
	now, last := time.Now(), g.raft.LastIndex()
	voters, _ := g.members()
	lags := make([]Lag, 0, len(voters))
	for _, id := range voters {
		if id == g.replica {
			continue
		}
		l := Lag{Replica: id}
		l.Behind, l.Known = g.lag.since(status.Term, id, now)
		if f, _ := g.trans.Follower(id); f.Match < last {
			l.Entries = last - f.Match
		}
		lags = append(lags, l)
	}
	return lags
}
