package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/cluster"
)

// A disk that is merely slow answers, and makes every partition that its node
// leads as slow. Nodes tell each other how long their logs' writes take; one that
// is much slower than most others, under a load like theirs, leads nothing until
// that is over. When most are slow none is the odd one, and all go on.

const (
	slowCheck  = time.Second
	slowWindow = 5 * time.Second // that a median is taken over
	// slowEnter is how long the disk must be slow, and slowLeave how long well,
	// without a break.
	slowEnter = 5 * time.Second
	slowLeave = 30 * time.Second
	// slowFactor times the others' latency, and slowLeast, is slow; below
	// wellFactor times the others', or below wellMost, is well.
	slowFactor = 10
	slowLeast  = 20 * time.Millisecond
	wellFactor = 3
	wellMost   = slowLeast / 3
	// fewCommits in slowWindow say nothing, unless they took much of it.
	fewCommits   = 20
	fewestSlowly = 3
	// alike: another node counts if it writes no less than one part in so many of
	// what this one does. Batches don't compare: a slow disk gathers large ones.
	alike = 8
	// staleReport is how long a peer's report counts.
	staleReport = 3*slowCheck + slowCheck/2
)

// diskReport is what a node says of the writes to its log.
type diskReport struct {
	Commits int   `json:"commits"`   // in slowWindow
	Median  int64 `json:"median_ns"` // of a write with its fsync
	Bytes   int64 `json:"bytes"`     // written in slowWindow
	Slow    bool  `json:"slow"`      // it hands its leaderships over for that
	// Behind is how far the worst of the receiver's replicas is behind what the
	// sender leads; less than leastLag is 0.
	Behind int64 `json:"behind_ms,omitempty"`
}

// says whether there was enough to tell.
func (d diskReport) says() bool {
	busy := time.Duration(d.Commits)*time.Duration(d.Median) > slowWindow/4
	return d.Median > 0 && (d.Commits >= fewCommits || busy && d.Commits >= fewestSlowly)
}

// slowJudge decides whether the own disk is the slow one.
type slowJudge struct {
	slow  bool
	since time.Time // since when what is seen speaks for a change; zero: it does not
}

// look takes in what is known at a time, and says whether slow has changed. nodes
// are all that are known, this one among them; others are the median that was
// compared with, 0 for none.
func (j *slowJudge) look(now time.Time, own diskReport, peers []diskReport, nodes int) (changed bool, others time.Duration) {
	slow := 1 // with this one
	var medians []int64
	for _, p := range peers {
		if p.Slow {
			slow++
		}
		if p.says() && p.Bytes >= own.Bytes/alike {
			medians = append(medians, p.Median)
		}
	}
	if !own.says() || len(medians) == 0 {
		j.since = time.Time{}
		return false, 0
	}
	// The upper median: with as many slow peers as quick ones it is a slow one's.
	slices.Sort(medians)
	others = time.Duration(medians[len(medians)/2])
	took := time.Duration(own.Median)
	speaks, patience := took > slowFactor*others && took > slowLeast && 2*slow < nodes, slowEnter
	if j.slow {
		speaks, patience = took < max(wellFactor*others, wellMost), slowLeave
	}
	switch {
	case !speaks:
		j.since = time.Time{}
	case j.since.IsZero():
		j.since = now
	case now.Sub(j.since) >= patience:
		j.slow, j.since = !j.slow, time.Time{}
		return true, others
	}
	return false, others
}

// slowDisk is what a node knows of the disks' latencies. Its zero value is ready.
type slowDisk struct {
	median atomic.Int64 // nanoseconds, the own
	slow   atomic.Bool

	mu    sync.Mutex
	peers map[int32]heardReport
}

type heardReport struct {
	diskReport
	at time.Time
}

// milliseconds is what the node says of a slow disk in etcd: in two digits, so
// that it is not rewritten all the time.
func (s *slowDisk) milliseconds() int64 {
	if !s.slow.Load() {
		return 0
	}
	return max(rounded(s.median.Load()/int64(time.Millisecond)), 1)
}

// hear takes in a peer's report.
func (s *slowDisk) hear(from int32, msg []byte) ([]byte, error) {
	var d diskReport
	if err := json.Unmarshal(msg, &d); err != nil {
		return nil, fmt.Errorf("disk of node %d: %w", from, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = make(map[int32]heardReport)
	}
	s.peers[from] = heardReport{d, time.Now()}
	return nil, nil
}

// fresh are the reports that count.
func (s *slowDisk) fresh(now time.Time) (reports []diskReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, r := range s.peers {
		if now.Sub(r.at) > staleReport {
			delete(s.peers, node)
			continue
		}
		reports = append(reports, r.diskReport)
	}
	return reports
}

// behind is how far the peers have said lately that this node's replicas are.
func (s *slowDisk) behind(now time.Time) map[int32]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := make(map[int32]time.Duration, len(s.peers))
	for node, r := range s.peers {
		if now.Sub(r.at) <= staleReport {
			told[node] = time.Duration(min(max(r.Behind, 0), 1<<40)) * time.Millisecond
		}
	}
	return told
}

// watchSlowDisk compares the own disk with the others until ctx ends.
func (n *Node) watchSlowDisk(ctx context.Context) {
	tick := time.NewTicker(slowCheck)
	defer tick.Stop()
	var (
		judge   slowJudge
		written []uint64 // since the start, at each of the last checks
	)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.turns.turned("disk speed", turnPatience)
		now := time.Now()
		lat := n.host.CommitLatency(now.Add(-slowWindow))
		written = append(written, n.host.WrittenBytes())
		written = written[max(0, len(written)-1-int(slowWindow/slowCheck)):]
		own := diskReport{Commits: lat.Commits, Median: int64(lat.Median), Bytes: int64(written[len(written)-1] - written[0])}
		n.slow.median.Store(own.Median)
		peers := n.peers.Peers()
		changed, others := judge.look(now, own, n.slow.fresh(now), len(peers)+1)
		if changed {
			n.slowChanged(judge.slow, lat.Median, others)
		}
		own.Slow = judge.slow
		n.measureLags(now)
		for _, peer := range peers {
			own.Behind = 0
			if b := n.lags.of(peer).behind; b >= leastLag {
				own.Behind = b.Milliseconds()
			}
			msg, err := cluster.Encode(own)
			if err != nil {
				panic(fmt.Sprintf("BUG: encode a report: %v", err)) // plain numbers
			}
			n.host.Net().Send(peer, byte(kindDisk), msg)
		}
	}
}

func (n *Node) slowChanged(slow bool, own, others time.Duration) {
	n.slow.slow.Store(slow)
	facts := []any{"dir", n.cfg.DataDir, "write_and_fsync", own.Round(10 * time.Microsecond), "other_nodes", others.Round(10 * time.Microsecond)}
	if slow {
		n.log.Error("the disk of the write-ahead log is much slower than those of the other nodes: this node hands its leaderships over and takes none; look at the disk", facts...)
	} else {
		n.log.Info("the disk of the write-ahead log is as quick as those of the other nodes again: this node takes leaderships", facts...)
	}
	n.setShedding(shedSlow, slow)
}

// registerSlowDisk adds the metrics.
func (n *Node) registerSlowDisk() error {
	gauges := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_wal_commit_median_seconds", Help: "Median of a write to the write-ahead log with its fsync, over the last 5 s; 0 when there was none."},
			func() float64 { return time.Duration(n.slow.median.Load()).Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raftsman_disk_slow", Help: "1 while the node leads nothing because its disk is much slower than those of other nodes."},
			func() float64 {
				if n.slow.slow.Load() {
					return 1
				}
				return 0
			}),
	}
	for _, g := range gauges {
		if err := n.cfg.Registerer.Register(g); err != nil {
			return fmt.Errorf("register metrics of the disk's latency: %w", err)
		}
		n.onClose("metrics of the disk's latency", func() error { n.cfg.Registerer.Unregister(g); return nil })
	}
	return nil
}
