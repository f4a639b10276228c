package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/replication"
)

// Nodes find each other without etcd: each keeps the last known registrations
// on disk, and tells its own to a peer that it has reached. One known address is
// enough for two nodes to meet, whichever of them was started first, and a node
// that came back under another address is known as soon as it has dialled.

const (
	kindAddress = replication.KindUser + 2

	peersFile    = "peers.json"
	maxPeersFile = 64 << 20
)

// learn takes in what a node says of itself.
func (p *peers) learn(n cluster.Node) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, known := p.nodes[n.Node]
	if known && (old.Peer == n.Peer && old.Kafka == n.Kafka && old.HTTP == n.HTTP &&
		old.Incarnation == n.Incarnation && old.State == n.State && old.EtcdMember == n.EtcdMember && old.Started.Equal(n.Started) && maps.Equal(old.Listeners, n.Listeners)) {
		return false
	}
	n.Lease, n.ModRevision = 0, 0
	p.nodes[n.Node] = n
	return true
}

// tellAddress tells a peer who and where this node is.
func (n *Node) tellAddress(peer int32) {
	msg, err := cluster.Encode(n.self())
	if err != nil {
		panic(fmt.Sprintf("BUG: encode registration: %v", err)) // plain numbers and strings
	}
	n.host.Net().Send(peer, byte(kindAddress), msg)
}

func (n *Node) hearAddress(from int32, msg []byte) ([]byte, error) {
	var node cluster.Node
	if err := json.Unmarshal(msg, &node); err != nil {
		return nil, fmt.Errorf("address of node %d: %w", from, err)
	}
	if node.Node != from || node.Peer == "" || node.Incarnation == "" {
		return nil, fmt.Errorf("address of node %d: it says that it is node %d at %q", from, node.Node, node.Peer)
	}
	if n.peers.learn(node) {
		n.host.Net().Refresh()
		n.wake()
	}
	return nil, nil
}

// loadPeers takes up the addresses of the node's former life.
func (n *Node) loadPeers() {
	nodes, err := readPeers(n.cfg.FS, n.cfg.DataDir)
	if err != nil {
		n.log.Warn("the addresses of the other nodes can't be read; etcd or they themselves will tell", "err", err)
	}
	for _, node := range nodes {
		if node.Node > 0 && node.Node != n.dir.id.NodeID {
			n.peers.learn(node)
		}
	}
}

func readPeers(fsys vfs.FS, dir string) (nodes []cluster.Node, err error) {
	buf, err := vfs.ReadFile(fsys, vfs.Join(dir, peersFile), maxPeersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(buf, &nodes); err != nil {
		return nil, fmt.Errorf("%s: %w", peersFile, err)
	}
	return nodes, nil
}

// peerSaver writes the addresses when they have changed. Loads and counts of
// the registrations change all the time and are left out.
type peerSaver struct{ written string }

func (s *peerSaver) save(n *Node) {
	all := n.peers.all()
	all = slices.DeleteFunc(all, func(o cluster.Node) bool { return o.Node == n.dir.id.NodeID })
	for i := range all {
		all[i].Leads, all[i].Replicas, all[i].Load, all[i].State = 0, 0, 0, cluster.StateReady
	}
	buf, err := json.Marshal(all)
	if err != nil || string(buf) == s.written {
		return
	}
	if err := vfs.WriteFileAtomic(n.cfg.FS, vfs.Join(n.cfg.DataDir, peersFile), append(buf, '\n')); err != nil {
		n.log.Warn("the addresses of the other nodes can't be written down", "err", err)
		return
	}
	s.written = string(buf)
}
