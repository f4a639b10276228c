package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// memory is what a node remembers of the etcd that its view came from.
type memory struct {
	etcdID   uint64 // 0: it has seen none
	revision int64
	meta     *Meta
	frozen   string
	sticky   bool      // only a raised epoch thaws it
	at       time.Time // when etcd was last seen to be right; zero: not known

	clusterID string // of the data directory; for a node that has lost its view

	counters map[string]Counter // as the view has them
	items    map[string]item    // all keys at revision; never changed while they are here
}

// sighting is what an answer of etcd shows of itself.
type sighting struct {
	etcdID   uint64
	revision int64
	meta     *Meta              // nil: no such key
	counters map[string]Counter // nil: not asked for
	items    map[string]item    // all keys, nil: not asked for
	at       time.Time
}

// judge says whether etcd still holds what it held. An empty reason means yes,
// or that an operator has restored the metadata: the epoch was raised. Pure.
func judge(m memory, s sighting) (reason string, sticky bool) {
	if m.meta == nil {
		if m.clusterID != "" && s.meta != nil && s.meta.ClusterID != m.clusterID {
			return fmt.Sprintf("etcd holds the metadata of another cluster, %s, not of %s", s.meta.ClusterID, m.clusterID), false
		}
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
	// A revision that did not go back proves little: others write to this etcd
	// too, and so does this cluster's next node.
	if s.counters != nil {
		if why := wentBack(m, s); why != "" {
			return "etcd holds an older state: " + why, true
		}
	}
	if s.items != nil && m.items != nil {
		if why := contradiction(m.items, m.revision, s.items); why != "" {
			return "etcd holds another history: " + why + " (a restored backup?)", true
		}
		if why := vanished(m, s); why != "" {
			return "etcd holds another history: " + why + " (a restored backup?)", true
		}
	}
	return "", false
}

// wentBack finds a counter that is below what it was. Counters only grow.
func wentBack(m memory, s sighting) string {
	for _, name := range slices.Sorted(maps.Keys(m.counters)) {
		was := m.counters[name]
		if was.ModRevision == 0 {
			continue
		}
		if now, ok := s.counters[name]; ok && (now.Next < was.Next || now.ModRevision < was.ModRevision) {
			return fmt.Sprintf("%s is at %d since revision %d, it was at %d since revision %d", name, now.Next, now.ModRevision, was.Next, was.ModRevision)
		}
	}
	return ""
}

// contradiction compares two pictures of the same keys: old is complete at
// revision, now is later. A key that was last changed at or before revision must
// be in both, changed at the same time; if not, they are not of one history.
func contradiction(old map[string]item, revision int64, now map[string]item) string {
	for _, rel := range slices.Sorted(maps.Keys(now)) {
		it := now[rel]
		if it.modRevision > revision {
			continue
		}
		was, ok := old[rel]
		switch {
		case !ok:
			return fmt.Sprintf("%s, last changed at revision %d, did not exist at revision %d", rel, it.modRevision, revision)
		case was.modRevision != it.modRevision:
			return fmt.Sprintf("%s was last changed at revision %d, and this etcd says at revision %d", rel, was.modRevision, it.modRevision)
		}
	}
	for _, rel := range counterKeys {
		if _, was := old[rel]; was {
			if _, is := now[rel]; !is {
				return rel + " is gone"
			}
		}
	}
	return ""
}

// counterKeys are never deleted: begun anew, a counter gives numbers out twice.
var counterKeys = []string{"producer-ids", "replica-ids", "node-ids"}

// lostCounter names a counter among the keys that are gone.
func lostCounter(gone, items map[string]item) string {
	for _, rel := range counterKeys {
		if _, is := gone[rel]; is {
			if _, was := items[rel]; was {
				return rel
			}
		}
	}
	return ""
}

// tombstonesLast is less than the controller's TombstoneLife: for so long a topic
// that was deleted has a tombstone.
const tombstonesLast = 6 * 24 * time.Hour

// vanished finds a topic that is gone without having been deleted. A node that
// was away for long can't tell.
func vanished(m memory, s sighting) string {
	if away := s.at.Sub(m.at); m.at.IsZero() || away < 0 || away > tombstonesLast {
		return ""
	}
	for _, rel := range slices.Sorted(maps.Keys(m.items)) {
		was := m.items[rel]
		if _, is := s.items[rel]; is || was.gone || parseKey(rel).kind != kindTopic {
			continue
		}
		t, err := decode(was.sensible(), (*Topic).check)
		if err != nil {
			continue
		}
		if _, deleted := s.items["deleted/"+t.ID]; !deleted {
			return rel + " is gone, and was not deleted"
		}
	}
	return ""
}

// epochLocked is the epoch that the view is of.
func (s *Store) epochLocked() int64 {
	if s.memory.meta == nil {
		return 0
	}
	return s.memory.meta.Epoch
}

// rememberLocked makes a view that was judged good the one to judge by.
func (s *Store) rememberLocked(v *View) {
	s.memory = memory{etcdID: v.EtcdClusterID, revision: v.Revision, meta: v.Meta, at: s.opts.Clock.Now()}
	if v.Meta != nil {
		s.guard = v.Meta
	}
}

// halted is the freeze that a key in etcd asks for.
func (v *View) halted() string {
	if v.Halt == nil {
		return ""
	}
	return v.Halt.String()
}

// halt writes the key frozen where this node has found that etcd does not hold
// what it held, so that nodes which remember less than this one change nothing
// either. An etcd that holds another cluster is left alone.
func (s *Store) halt(ctx context.Context) error {
	m := s.recall()
	if m.frozen == "" || m.meta == nil {
		return nil // it was the key that froze this node
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	resp, err := s.opts.Client.Get(ctx, s.keys.Meta())
	if err != nil {
		return err
	}
	seen := sighting{etcdID: resp.Header.ClusterId, revision: resp.Header.Revision}
	var rev int64
	if len(resp.Kvs) > 0 {
		meta, err := decode(resp.Kvs[0].Value, (*Meta).check)
		if err != nil || meta.ClusterID != m.meta.ClusterID {
			return err
		}
		meta.CreateRevision, meta.ModRevision = resp.Kvs[0].CreateRevision, resp.Kvs[0].ModRevision
		seen.meta, rev = &meta, meta.ModRevision
	}
	if reason, _ := judge(m, seen); reason == "" {
		return nil // restored, or the right etcd is back
	}
	value, err := Encode(Freeze{Reason: m.frozen, By: s.opts.Name, Since: s.now()})
	if err != nil {
		return err
	}
	_, err = s.opts.Client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(s.keys.Meta()), "=", rev),
		clientv3.Compare(clientv3.CreateRevision(s.keys.Frozen()), "=", 0),
	).Then(clientv3.OpPut(s.keys.Frozen(), string(value))).Commit()
	return err
}
