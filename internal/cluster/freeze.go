package cluster

import "fmt"

// memory is what a node remembers of the etcd that its view came from.
type memory struct {
	etcdID   uint64 // 0: it has seen none
	revision int64
	meta     *Meta
	frozen   string
	sticky   bool // only a raised epoch thaws it
}

// sighting is what an answer of etcd shows of itself.
type sighting struct {
	etcdID   uint64
	revision int64
	meta     *Meta // nil: no such key
}

// judge says whether etcd still holds what it held. An empty reason means yes,
// or that an operator has restored the metadata: the epoch was raised. Pure.
func judge(m memory, s sighting) (reason string, sticky bool) {
	if m.meta == nil {
		return "", false // nothing to protect
	}
	if s.meta != nil && s.meta.ClusterID == m.meta.ClusterID && s.meta.Epoch > m.meta.Epoch {
		return "", false
	}
	switch {
	case s.etcdID != m.etcdID:
		return fmt.Sprintf("this is another etcd: its cluster id is %x, it was %x", s.etcdID, m.etcdID), m.sticky
	case s.meta == nil:
		return fmt.Sprintf("etcd has lost the metadata of cluster %s: the key meta is missing", m.meta.ClusterID), true
	case s.meta.ClusterID != m.meta.ClusterID:
		return fmt.Sprintf("etcd holds the metadata of another cluster, %s, not of %s", s.meta.ClusterID, m.meta.ClusterID), true
	case s.meta.Epoch < m.meta.Epoch:
		return fmt.Sprintf("etcd holds an older state: epoch %d, it was %d", s.meta.Epoch, m.meta.Epoch), true
	case s.revision < m.revision:
		return fmt.Sprintf("etcd holds an older state: revision %d, it was %d (a restored backup?)", s.revision, m.revision), true
	case s.meta.CreateRevision != m.meta.CreateRevision:
		return "the key meta was deleted and made anew", true
	case m.sticky:
		return m.frozen, true
	}
	return "", false
}
