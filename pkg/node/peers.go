package node

import (
	"slices"
	"sync"

	"github.com/raftsman/raftsman/internal/cluster"
)

// peers tells the network where nodes and replicas are. A node whose
// registration vanished keeps its last address: its lease may have expired
// while it is well.
type peers struct {
	self int32

	mu       sync.Mutex
	nodes    map[int32]cluster.Node // the last registration of each node
	replicas map[uint64]int32       // replica id → node
	last     *cluster.View
}

func newPeers(self int32) *peers {
	return &peers{self: self, nodes: make(map[int32]cluster.Node), replicas: make(map[uint64]int32)}
}

// update takes in a view. Replicas that are gone from it stay known: a group
// may still be on its way from one assignment to the next.
func (p *peers) update(v *cluster.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// What etcd has just said counts; an old view tells only of nodes that have
	// not told more themselves since.
	fresh := v.Source == cluster.SourceEtcd && v.Frozen == "" && v != p.last
	p.last = v
	for id, n := range v.Nodes {
		if _, known := p.nodes[id]; fresh || !known {
			p.nodes[id] = n
		}
	}
	for _, a := range v.Assignments {
		for _, r := range a.Replicas {
			p.replicas[r.ID] = r.Node
		}
		for _, r := range a.Initial {
			p.replicas[r.ID] = r.Node
		}
	}
}

// holds takes in which replicas a node says it has, unless more is known.
func (p *peers) holds(node int32, replicas []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range replicas {
		if _, known := p.replicas[id]; !known {
			p.replicas[id] = node
		}
	}
}

// NodeOf implements replication.Resolver.
func (p *peers) NodeOf(replica uint64) (int32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	node, ok := p.replicas[replica]
	return node, ok
}

// PeerAddr implements replication.Resolver.
func (p *peers) PeerAddr(node int32) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.nodes[node]
	return n.Peer, ok && n.Peer != ""
}

// state is what a node said of itself last, to etcd or to this node.
func (p *peers) state(node int32) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[node].State
}

// node is the last registration of a node.
func (p *peers) node(id int32) (cluster.Node, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.nodes[id]
	return n, ok
}

// Peers implements replication.Resolver.
func (p *peers) Peers() []int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]int32, 0, len(p.nodes))
	for id := range p.nodes {
		if id != p.self {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// all returns the last registrations of all nodes, by id.
func (p *peers) all() []cluster.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]cluster.Node, 0, len(p.nodes))
	for _, n := range p.nodes {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b cluster.Node) int { return int(a.Node) - int(b.Node) })
	return all
}
