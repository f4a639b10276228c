package node

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/replication"
)

func (r *replicas) replicaDir(replica uint64) string {
	return vfs.Join(r.dir, strconv.FormatUint(replica, 10))
}

func (r *replicas) openOne(id partitionID, topic string, replica uint64, a cluster.Assignment, settings partition.Settings) error {
	if a.Recovered != nil && a.Recovered.Into == replica {
		if err := r.inherit(id, topic, a.Recovered, settings); err != nil {
			return fmt.Errorf("begin %s/%d anew from replica %d: %w", topic, id.index, a.Recovered.From, err)
		}
	}
	if err := r.begunAnew(id, replica, replicaIDs(a.Bootstrap())); err != nil {
		return fmt.Errorf("open %s/%d: %w", topic, id.index, err)
	}
	f := replicaFile{Topic: topic, TopicID: id.topicID, Index: id.index, Replica: replica}
	if err := r.writeReplicaFile(f); err != nil {
		return fmt.Errorf("open %s/%d: %w", topic, id.index, err)
	}
	r.mu.Lock()
	r.onDisk[replica] = f
	r.mu.Unlock()
	return r.openPartition(f, replicaIDs(a.Bootstrap()), a, settings)
}

// openFormer opens a replica that its partition's assignment does not name any
// more, or whose assignment is missing. It has bootstrapped already if it had to.
func (r *replicas) openFormer(f replicaFile, replica uint64, a cluster.Assignment, settings partition.Settings) error {
	r.log.Info("opening a replica that no assignment names: it stays until its group's leader has confirmed that it was removed",
		"topic", f.Topic, "partition", f.Index, "replica", replica)
	return r.openPartition(f, nil, a, settings)
}

func (r *replicas) openPartition(f replicaFile, initial []uint64, a cluster.Assignment, settings partition.Settings) error {
	id := f.id()
	cfg := r.partitionConfig(f, settings)
	cfg.Initial = initial
	r.setOpening(id, true)
	defer r.setOpening(id, false)
	p, err := partition.Open(cfg)
	var bad *partition.DamagedError
	if errors.As(err, &bad) {
		r.damaged(id, f.Replica, bad.Segment.Base, bad.Damage, bad)
	}
	if err != nil {
		return withRemedy(fmt.Errorf("open %s/%d: %w", f.Topic, f.Index, err))
	}
	if a.TopicID == f.TopicID {
		p.Group().SetTarget(target(a))
	}
	r.add(&opened{id, f.Topic, f.Replica, p})
	if p.Group().Status().Leading {
		r.found()
	}
	r.log.Debug("opened a replica", "topic", f.Topic, "partition", f.Index, "replica", f.Replica)
	return nil
}

func (r *replicas) partitionConfig(f replicaFile, settings partition.Settings) partition.Config {
	id := f.id()
	return partition.Config{
		OnCompaction: func() { r.compact(id, f.Replica) }, UpkeepInterval: r.upkeep,
		Topic: f.Topic, TopicID: f.TopicID, Index: f.Index, Replica: f.Replica,
		Dir: r.replicaDir(f.Replica), Host: r.host, Segments: r.segments, Settings: settings, Metrics: r.metrics,
		OnStatus: func(s replication.Status) { r.onStatus(id, f.Replica, s) }, Logger: r.log, Now: r.now,
		OnDamage: func(segment int64, err *seglog.DamageError) { r.damaged(id, f.Replica, segment, err, nil) },
	}
}
