package node

import "slices"

// followers says which replicas of this node may serve consumers that read from
// the nearest replica (KIP-392).
type followers struct{ n *Node }

// closely says that the partition's leader is alive, as far as is known, and that
// it counts this node among the replicas in sync.
func (f *followers) closely(id partitionID) bool {
	l, ok := f.n.leaders.of(id)
	return ok && l.node != f.n.ID() && f.n.alive(l.node) && slices.Contains(l.inSync, f.n.ID()) && !f.n.stuck.Load()
}

// term is the latest in which somebody has said that it leads a partition.
func (f *followers) term(id partitionID) uint64 {
	l, _ := f.n.leaders.of(id)
	return l.term
}
