package cluster

import (
	"maps"
	"slices"
	"time"
)

// item is a key's value as etcd has it, or had it.
type item struct {
	value          []byte
	createRevision int64
	modRevision    int64
	lease          int64

	bad  bool   // value makes no sense
	good []byte // the last value that did; nil for none, and while value does
	// gone: etcd has no such key any more, and nothing explains that. value is
	// what it held.
	gone bool
}

// sensible is the last value that made sense; nil when none is known.
func (it item) sensible() []byte {
	if it.bad {
		return it.good
	}
	return it.value
}

// after makes it the successor of another value of the same key. bad says that it
// makes no sense.
func (it item) after(was item, bad bool) item {
	it.bad, it.good = bad, nil
	if bad {
		it.good = was.sensible()
	}
	return it
}

// goneReason is what View.Broken says of a key that is gone.
const goneReason = "the key was deleted from etcd, and its topic was not"

// retainable says which keys are kept when they vanish: without them there would
// be data that nobody knows of, or that would be begun anew.
func retainable(rel string) bool {
	k := parseKey(rel).kind
	return k == kindTopic || k == kindAssignment
}

// keepGone takes the topics and assignments back into the draft that are missing
// in etcd though no tombstone names their topic, and returns what was kept.
// candidates are keys that etcd does not have, with what they held. A raised
// epoch explains everything: an operator has rewritten the keys.
func (d *draft) keepGone(candidates map[string]item, epoch int64) map[string]item {
	for rel := range candidates {
		d.delete(rel)
	}
	if len(candidates) == 0 || d.next.Meta == nil || d.next.Meta.Epoch > epoch {
		return nil
	}
	kept := map[string]item{}
	keep := func(rel string, it item) {
		it.gone = true
		kept[rel] = it
		writable(d, -1, &d.next.Broken)[rel] = goneReason
	}
	n, o := &d.next, d.old
	order := slices.Sorted(maps.Keys(candidates))
	for _, rel := range order {
		k := parseKey(rel)
		if k.kind != kindTopic {
			continue
		}
		t, known := o.Topics[k.name]
		if _, dead := n.Deleted[t.ID]; known && !dead {
			writable(d, k.kind, &n.Topics)[k.name] = t
			keep(rel, candidates[rel])
		}
	}
	for _, rel := range order { // of topics that are there, or were kept
		k := parseKey(rel)
		if k.kind != kindAssignment {
			continue
		}
		a, known := o.Assignments[k.tp]
		if t, there := n.Topics[k.tp.Topic]; known && there && t.ID == a.TopicID {
			writable(d, k.kind, &n.Assignments)[k.tp] = a
			keep(rel, candidates[rel])
		}
	}
	return kept
}

// goneLocked are the keys that were kept until now.
func (s *Store) goneLocked() map[string]item {
	gone := map[string]item{}
	for rel := range s.view.Load().Broken {
		if it := s.items[rel]; it.gone {
			gone[rel] = it
		}
	}
	return gone
}

// missingLocked are the keys that were there and that a picture of all keys
// lacks. A topic that went while nobody looked is the business of judge, and
// after a long time only its tombstone may be gone.
func (s *Store) missingLocked(now map[string]item, at time.Time) map[string]item {
	away := at.Sub(s.memory.at)
	long := s.memory.at.IsZero() || away < 0 || away > tombstonesLast
	missing := map[string]item{}
	for rel, it := range s.items {
		if _, is := now[rel]; is || !retainable(rel) {
			continue
		}
		if parseKey(rel).kind == kindTopic && (long || !it.gone) {
			continue
		}
		missing[rel] = it
	}
	return missing
}

// reportGone logs, once, each key that was deleted by hand.
func (s *Store) reportGone(kept map[string]item) {
	for _, rel := range slices.Sorted(maps.Keys(kept)) {
		mark := -kept[rel].modRevision // not the mark of a value that makes no sense
		if s.reported[rel] == mark {
			continue
		}
		s.reported[rel] = mark
		s.opts.Logger.Error("a key was deleted from etcd though its topic was not; its last value stays in use and data is served on",
			"key", s.keys.base+rel, "do", "put it back from what the nodes know: raftsman cluster restore-metadata")
	}
}

// reportMended logs keys that make sense again.
func (s *Store) reportMended(was, is *View) {
	for _, rel := range slices.Sorted(maps.Keys(was.Broken)) {
		if _, still := is.Broken[rel]; !still {
			delete(s.reported, rel)
			s.opts.Logger.Info("a key in etcd is as it should be again", "key", s.keys.base+rel)
		}
	}
}
