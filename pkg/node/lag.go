package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/partition"
)

// How far replicas are behind. Only a leader sees it: each second it measures the
// followers of all that it leads, and tells each node how far the worst of its
// replicas is behind (in diskReport). So a node knows the lag of its own replicas,
// and that costs by nodes, not by partitions.

// lags is what a leader has measured. Its zero value is ready.
type lags struct {
	mu      sync.Mutex
	nodes   map[int32]nodeLag    // the followers of what this node leads
	unknown map[uint64]time.Time // since when a follower has never had everything
}

// nodeLag is that of the worst of a node's replicas.
type nodeLag struct {
	behind  time.Duration
	entries uint64
}

// measureLags looks at the followers of all that this node leads.
func (n *Node) measureLags(now time.Time) {
	nodes, unknown := make(map[int32]nodeLag), make(map[uint64]time.Time)
	l := &n.lags
	l.mu.Lock()
	before := l.unknown
	l.mu.Unlock()
	n.replicas.each(func(_ partitionID, p *partition.Partition) {
		for _, f := range p.Group().Lags() {
			node, ok := n.peers.NodeOf(f.Replica)
			if !ok {
				continue
			}
			if !f.Known {
				since, known := before[f.Replica]
				if !known {
					since = now
				}
				unknown[f.Replica], f.Behind = since, now.Sub(since)
			}
			worst := nodes[node]
			nodes[node] = nodeLag{max(worst.behind, f.Behind), max(worst.entries, f.Entries)}
		}
	})
	l.mu.Lock()
	l.nodes, l.unknown = nodes, unknown
	l.mu.Unlock()
}

// of is the lag of a node's replicas behind what this node leads.
func (l *lags) of(node int32) nodeLag {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[node]
}

// leastLag is what counts as none: a follower that keeps up has some tenths of a
// second.
const leastLag = time.Second

// replicaHealth says whether the node serves and holds replicas, none of which is
// further behind its leader than most; 0: however far they are.
func (n *Node) replicaHealth(most time.Duration) (replicas int, behind time.Duration, err error) {
	if err := n.readiness(); err != nil {
		return 0, 0, err
	}
	leaders := make(map[int32]int)
	unled := 0
	for _, o := range n.replicas.all() {
		replicas++
		s := o.p.Group().Status()
		node, ok := n.peers.NodeOf(s.Leader)
		switch {
		case s.Leading:
		case s.Leader == 0 || !ok || !n.alive(node):
			unled++
		default:
			leaders[node]++
		}
	}
	if replicas == 0 {
		return 0, 0, fmt.Errorf("the node holds no replicas")
	}
	if most <= 0 {
		return replicas, 0, nil
	}
	if unled > 0 {
		return replicas, 0, fmt.Errorf("lag is not known: %d of %d replicas have no leader that answers", unled, replicas)
	}
	told := n.slow.behind(time.Now())
	for node := range leaders {
		b, ok := told[node]
		if !ok {
			return replicas, 0, fmt.Errorf("lag is not known: node %d, which leads what is here, has not told yet", node)
		}
		behind = max(behind, b)
	}
	if behind > max(most, leastLag) {
		return replicas, behind, fmt.Errorf("a replica is %v behind its leader, more than %v", behind.Round(100*time.Millisecond), most)
	}
	return replicas, behind, nil
}
