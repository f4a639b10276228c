package cluster

import (
	"maps"
	"strings"
)

// draft is the next view in the making. It shares maps with the published
// view until it changes them.
type draft struct {
	keys Keys
	old  *View // where last good values of unreadable keys come from
	next View
	own  map[keyKind]bool // maps that are no longer shared
	// reported is told of every value that makes no sense.
	reported func(rel string, it item, err error)
}

// revise begins a draft with everything the old view holds.
func revise(keys Keys, old *View, reported func(string, item, error)) *draft {
	return &draft{keys: keys, old: old, next: *old, own: map[keyKind]bool{}, reported: reported}
}

// reload begins an empty draft.
func reload(keys Keys, old *View, reported func(string, item, error)) *draft {
	d := revise(keys, old, reported)
	d.next = View{Source: old.Source, EtcdClusterID: old.EtcdClusterID, Revision: old.Revision}
	return d
}

// writable makes a map of the draft its own.
func writable[K comparable, V any](d *draft, kind keyKind, m *map[K]V) map[K]V {
	if !d.own[kind] {
		d.own[kind] = true
		*m = maps.Clone(*m)
		if *m == nil {
			*m = map[K]V{}
		}
	}
	return *m
}

// set is put for one kind of value: decode, check, store.
func set[K comparable, V any](d *draft, kind keyKind, m *map[K]V, old map[K]V, key K, it item, check func(*V) error) error {
	v, err := decode(it.value, check)
	if err != nil {
		if last, ok := old[key]; ok {
			writable(d, kind, m)[key] = last
		}
		return err
	}
	writable(d, kind, m)[key] = v
	return nil
}

// put takes in a key's value.
func (d *draft) put(rel string, it item) {
	k, n, o := parseKey(rel), &d.next, d.old
	var err error
	switch k.kind {
	case kindOther:
		return
	case kindMeta:
		var m Meta
		if m, err = decode(it.value, (*Meta).check); err == nil {
			m.CreateRevision, m.ModRevision = it.createRevision, it.modRevision
			n.Meta = &m
		} else {
			n.Meta = o.Meta
		}
	case kindNode:
		err = set(d, k.kind, &n.Nodes, o.Nodes, k.node, it, func(v *Node) error {
			v.Lease, v.ModRevision = it.lease, it.modRevision
			return v.check(k.node)
		})
	case kindCandidate:
		c, derr := decode(it.value, func(*Candidate) error { return nil })
		if derr != nil {
			c, err = Candidate{}, derr // it stands all the same
		}
		c.Key, c.Lease, c.CreateRevision = d.keys.base+rel, it.lease, it.createRevision
		writable(d, k.kind, &n.Candidates)[k.name] = c
		n.Winner = winner(n.Candidates)
	case kindTopic:
		err = set(d, k.kind, &n.Topics, o.Topics, k.name, it, func(v *Topic) error {
			v.CreateRevision, v.ModRevision = it.createRevision, it.modRevision
			return v.check()
		})
	case kindAssignment:
		err = set(d, k.kind, &n.Assignments, o.Assignments, k.tp, it, func(v *Assignment) error {
			v.ModRevision = it.modRevision
			return v.check()
		})
	case kindStatus:
		err = set(d, k.kind, &n.Status, o.Status, k.node, it, func(v *NodeStatus) error { return v.check(k.node) })
	case kindDeleted:
		err = set(d, k.kind, &n.Deleted, o.Deleted, k.name, it, func(v *Tombstone) error {
			v.ModRevision = it.modRevision
			return v.check()
		})
	case kindProducerIDs:
		err = setCounter(&n.ProducerIDs, o.ProducerIDs, it)
	case kindReplicaIDs:
		err = setCounter(&n.ReplicaIDs, o.ReplicaIDs, it)
	case kindNodeIDs:
		err = setCounter(&n.NodeIDs, o.NodeIDs, it)
	case kindOp:
		err = set(d, k.kind, &n.Ops, o.Ops, k.name, it, func(v *Op) error {
			v.CreateRevision, v.ModRevision = it.createRevision, it.modRevision
			return v.check()
		})
	case kindWish:
		err = set(d, k.kind, &n.Wishes, o.Wishes, k.node, it, func(v *NodeWish) error {
			v.ModRevision = it.modRevision
			return v.check()
		})
	case kindRebalance:
		var r Rebalance
		if r, err = decode(it.value, (*Rebalance).check); err == nil {
			r.ModRevision = it.modRevision
			n.Rebalance = r
		} else {
			n.Rebalance = o.Rebalance
		}
	case kindBrokerConfig:
		err = set(d, k.kind, &n.Configs, o.Configs, k.node, it, func(v *BrokerConfig) error {
			v.ModRevision = it.modRevision
			return nil
		})
	case kindFrozen:
		n.Halt = decodeFreeze(it.value)
	}
	if err != nil {
		writable(d, -1, &n.Broken)[rel] = err.Error()
		d.reported(rel, it, err)
	} else if _, was := n.Broken[rel]; was {
		delete(writable(d, -1, &n.Broken), rel)
	}
}

// putItem takes in a key as a node remembers it: also one that etcd has no more,
// or whose last value makes no sense, which the item returned says.
func (d *draft) putItem(rel string, it item) item {
	if it.good != nil {
		good := it
		good.value = it.good
		d.put(rel, good)
	}
	d.put(rel, it)
	_, it.bad = d.next.Broken[rel]
	if it.gone {
		writable(d, -1, &d.next.Broken)[rel] = goneReason
	}
	return it
}

// decodeFreeze takes any value for a freeze: it is the key that counts.
func decodeFreeze(value []byte) *Freeze {
	f, err := decode(value, func(*Freeze) error { return nil })
	if err != nil || f.Reason == "" {
		f.Reason = "the key frozen exists"
	}
	return &f
}

func setCounter(c *Counter, old Counter, it item) error {
	v, err := decode(it.value, (*Counter).check)
	if err != nil {
		*c = old
		return err
	}
	v.ModRevision = it.modRevision
	*c = v
	return nil
}

// delete takes in that a key is gone.
func (d *draft) delete(rel string) {
	k, n := parseKey(rel), &d.next
	switch k.kind {
	case kindMeta:
		n.Meta = nil
	case kindNode:
		delete(writable(d, k.kind, &n.Nodes), k.node)
	case kindCandidate:
		delete(writable(d, k.kind, &n.Candidates), k.name)
		n.Winner = winner(n.Candidates)
	case kindTopic:
		delete(writable(d, k.kind, &n.Topics), k.name)
	case kindAssignment:
		delete(writable(d, k.kind, &n.Assignments), k.tp)
	case kindStatus:
		delete(writable(d, k.kind, &n.Status), k.node)
	case kindDeleted:
		delete(writable(d, k.kind, &n.Deleted), k.name)
	case kindProducerIDs:
		n.ProducerIDs = Counter{}
	case kindReplicaIDs:
		n.ReplicaIDs = Counter{}
	case kindNodeIDs:
		n.NodeIDs = Counter{}
	case kindOp:
		delete(writable(d, k.kind, &n.Ops), k.name)
	case kindWish:
		delete(writable(d, k.kind, &n.Wishes), k.node)
	case kindRebalance:
		n.Rebalance = Rebalance{}
	case kindBrokerConfig:
		delete(writable(d, k.kind, &n.Configs), k.node)
	case kindFrozen:
		n.Halt = nil
	}
	if _, was := n.Broken[rel]; was {
		delete(writable(d, -1, &n.Broken), rel)
	}
}

// winner is the candidate with the lowest create revision, whoever it is.
func winner(cs map[string]Candidate) *Candidate {
	var w *Candidate
	for _, c := range cs {
		if w == nil || c.CreateRevision < w.CreateRevision {
			w = &c
		}
	}
	return w
}

// relative cuts the base from a key.
func (k Keys) relative(key []byte) string { return strings.TrimPrefix(string(key), k.base) }
