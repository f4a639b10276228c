package node

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/vfs"
)

// evidence is what this node knows of the cluster, for a restore of the
// metadata: its view, its replicas and what their groups have agreed upon, and
// the producer ids that it holds.
func (n *Node) evidence() (any, error) {
	view, err := n.store.Picture()
	if err != nil {
		return nil, fmt.Errorf("encode the view: %w", err)
	}
	e := cluster.Evidence{
		Format: cluster.EvidenceFormat, Cluster: n.cfg.Cluster, ClusterID: n.dir.id.ClusterID,
		Node: n.ID(), Incarnation: n.dir.id.Incarnation, Live: true, View: view, ProducerIDs: n.producerIDs.end(),
	}
	opened := make(map[uint64]bool)
	n.replicas.eachOpen(func(id partitionID, topic string, p *partition.Partition) {
		g := p.Group()
		s := g.Status()
		r := cluster.ReplicaEvidence{Topic: topic, TopicID: id.topicID, Partition: id.index, Replica: g.Replica(), Leading: s.Leading, Term: s.Term}
		r.Voters, _ = g.Members()
		r.Epoch, r.Generation = p.Reached()
		opened[r.Replica] = true
		e.Replicas = append(e.Replicas, r)
	})
	for replica, f := range n.replicas.stored() {
		if !opened[replica] {
			e.Replicas = append(e.Replicas, f)
		}
	}
	return e, nil
}

// eachOpen calls fn for all open replicas, with their topic's name.
func (r *replicas) eachOpen(fn func(partitionID, string, *partition.Partition)) {
	for _, o := range r.all() {
		fn(o.id, o.topic, o.p)
	}
}

// stored returns the replicas that have a directory.
func (r *replicas) stored() map[uint64]cluster.ReplicaEvidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[uint64]cluster.ReplicaEvidence, len(r.onDisk))
	for replica, f := range r.onDisk {
		all[replica] = cluster.ReplicaEvidence{Topic: f.Topic, TopicID: f.TopicID, Partition: f.Index, Replica: replica}
	}
	return all
}

// ReadEvidence reads what a stopped node knows from its data directory. cluster
// and prefix are those of the node's settings.
func ReadEvidence(fsys vfs.FS, dir, name, prefix string) (e cluster.Evidence, err error) {
	fail := func(err error) (cluster.Evidence, error) {
		return e, fmt.Errorf("data directory %s: %w", dir, err)
	}
	id, ok, err := identity.Load(fsys, dir)
	if err != nil {
		return fail(err)
	}
	if !ok {
		return fail(errors.New("it holds no identity.json: it is not a node's data directory, or was never used"))
	}
	keys, err := cluster.NewKeys(prefix, name)
	if err != nil {
		return fail(err)
	}
	e = cluster.Evidence{
		Format: cluster.EvidenceFormat, Cluster: name, ClusterID: id.ClusterID, Node: id.NodeID, Incarnation: id.Incarnation, Source: dir,
	}
	if e.View, err = cluster.ReadPicture(fsys, dir, keys); err != nil {
		return fail(err)
	}
	reserve, err := readProducerReserve(fsys, dir)
	if err != nil {
		return fail(err)
	}
	for _, b := range reserve.Blocks {
		e.ProducerIDs = max(e.ProducerIDs, b.End)
	}
	r := &replicas{fs: fsys, dir: vfs.Join(dir, "partitions"), onDisk: make(map[uint64]replicaFile)}
	names, err := fsys.List(r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	for _, name := range names {
		if _, err := strconv.ParseUint(name, 10, 64); err != nil {
			continue
		}
		f, err := r.readReplicaFile(vfs.Join(r.dir, name, replicaFileName))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fail(err)
		}
		e.Replicas = append(e.Replicas, cluster.ReplicaEvidence{Topic: f.Topic, TopicID: f.TopicID, Partition: f.Index, Replica: f.Replica})
	}
	return e, nil
}
