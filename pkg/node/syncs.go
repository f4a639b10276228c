package node

import (
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/vfs"
)

// countSyncs makes a metric of every call of this node that waits for the disk
// (but for those of raft-boltdb, which opens its files itself).
func (n *Node) countSyncs() error {
	syncs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "raftsman_disk_syncs_total",
		Help: "Calls that waited for the disk, by system call and by part of the data directory: wal, manifests, partitions, other.",
	}, []string{"call", "part"})
	if err := n.cfg.Registerer.Register(syncs); err != nil {
		return err
	}
	n.onClose("metric of syncs", func() error { n.cfg.Registerer.Unregister(syncs); return nil })
	root := n.cfg.DataDir
	n.cfg.FS = vfs.NewCounted(n.cfg.FS, func(call, name string) { syncs.WithLabelValues(call, partOf(root, name)).Inc() })
	return nil
}

// partOf names the part of the data directory that a file is in.
func partOf(root, name string) string {
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return "other"
	}
	switch first, _, _ := strings.Cut(filepath.ToSlash(rel), "/"); first {
	case "wal", "manifests", "partitions":
		return first
	}
	return "other"
}
