package cluster

import (
	"bytes"
	"fmt"
	"slices"
)

// wanted decides what etcd shall hold below the prefix, but for meta.
func (r *restorer) wanted() (map[string][]byte, error) {
	out := map[string][]byte{}
	put := func(rel string, v any) error {
		if raw, ok := r.raw[rel]; ok {
			out[rel] = raw
			return nil
		}
		value, err := Encode(v)
		if err == nil {
			out[rel] = value
		}
		return err
	}
	r.buried()
	topics := r.topics()
	assignments := r.assignments(topics)
	p, known := r.plan, map[string]bool{}
	for name, t := range topics {
		known[t.ID] = true
		if err := put("topics/"+name, t); err != nil {
			return nil, err
		}
	}
	for tp, a := range assignments {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("BUG: assignment of %s: %w", tp, err)
		}
		if err := put("assignments/"+tp.String(), a); err != nil {
			return nil, err
		}
	}
	for id, t := range r.dead {
		if err := put("deleted/"+id, t); err != nil {
			return nil, err
		}
	}
	r.counters(assignments)
	for rel, next := range map[string]int64{"producer-ids": p.ProducerIDs, "replica-ids": p.ReplicaIDs, "node-ids": p.NodeIDs} {
		if err := put(rel, Counter{Next: next}); err != nil {
			return nil, err
		}
	}
	for rel, why := range r.views[0].v.Broken {
		if k := parseKey(rel).kind; k == kindTopic || k == kindAssignment {
			if _, known := out[rel]; !known {
				r.differ("%s makes no sense (%s) and is written as it was", rel, why)
				out[rel] = r.views[0].pic.items[rel].value
			}
		}
	}
	// Keys that this version does not know are as the newest view has them.
	for rel, it := range r.views[0].pic.items {
		if parseKey(rel).kind == kindOther && it.lease == 0 {
			out[rel] = it.value
		}
	}
	if err := r.settings(out); err != nil {
		return nil, err
	}
	r.orphans(known)
	p.Topics, p.Assignments, p.Tombstones = len(topics), len(assignments), len(r.dead)
	return out, nil
}

// buried gathers the tombstones of all views: what was deleted stays deleted.
func (r *restorer) buried() {
	for _, w := range r.views {
		for id, t := range w.v.Deleted {
			r.dead[id] = t
		}
	}
	if r.plan.Foreign != "" {
		return
	}
	for rel, it := range r.etcd.items { // an older state of etcd says nothing false of these
		if k := parseKey(rel); k.kind == kindDeleted {
			if t, err := decode(it.value, (*Tombstone).check); err == nil && !r.alive(k.name) {
				r.dead[k.name] = t
			}
		}
	}
}

func (r *restorer) alive(topicID string) bool {
	for _, w := range r.views {
		if _, _, ok := w.v.TopicByID(topicID); ok {
			return true
		}
	}
	return false
}

// follows says that the newest view is a later state of what w has: then a key
// that only w has was deleted.
func (r *restorer) follows(w *witness) bool {
	base := r.views[0]
	if w.meta.Epoch < base.meta.Epoch {
		return true // a restore in between has considered it
	}
	return w.pic.etcdID == base.pic.etcdID && contradiction(w.pic.items, w.pic.revision, base.pic.items) == ""
}

// topics is what the newest view has, and what views of another history add.
func (r *restorer) topics() map[string]Topic {
	topics := map[string]Topic{}
	for i, w := range r.views {
		for _, name := range names(w.v.Topics) {
			t := w.v.Topics[name]
			have, known := topics[name]
			_, dead := r.dead[t.ID]
			switch {
			case dead:
				if i > 0 || known {
					r.differ("topic %s (%s) of %s was deleted and stays so", name, t.ID, w.who())
				}
			case i == 0:
				topics[name], r.raw["topics/"+name] = t, w.pic.items["topics/"+name].sensible()
			case known && have.ID == t.ID:
			case known:
				r.differ("topic %s is %s to %s and %s to %s; %s is taken", name, have.ID, r.views[0].who(), t.ID, w.who(), have.ID)
			case w.kept("topics/"+name) || r.spoilt("topics/"+name):
				r.differ("topic %s (%s) is kept: its key was deleted or edited, and the topic was not deleted", name, t.ID)
				topics[name], r.raw["topics/"+name] = t, w.pic.items["topics/"+name].sensible()
			case r.follows(w):
				r.differ("topic %s (%s) is known to %s only, which is behind: it was deleted since", name, t.ID, w.who())
			default:
				r.differ("topic %s (%s) is known to %s, whose history differs: it is kept", name, t.ID, w.who())
				topics[name], r.raw["topics/"+name] = t, w.pic.items["topics/"+name].sensible()
			}
		}
	}
	return topics
}

// kept says that etcd lost the key under the eyes of this node, and that nothing
// explains it.
func (w *witness) kept(rel string) bool { return w.pic.items[rel].gone }

// spoilt says that the key makes no sense in the newest view.
func (r *restorer) spoilt(rel string) bool { return r.views[0].v.Broken[rel] != "" }

// wrong lists the keys of an etcd that is well otherwise which are missing there, or
// make no sense, and which a node knows better.
func (r *restorer) wrong() (why []string) {
	for _, w := range r.views[1:] {
		for rel, it := range w.pic.items {
			now, is := r.etcd.items[rel]
			switch {
			case !retainable(rel):
			case it.gone && !is:
				why = append(why, rel+" was deleted, and its topic was not")
			case is && now.bad && it.sensible() != nil:
				why = append(why, rel+" makes no sense")
			}
		}
	}
	slices.Sort(why)
	return slices.Compact(why)
}

func (w *witness) who() string {
	if w.Node == 0 {
		return "etcd"
	}
	return fmt.Sprintf("node %d", w.Node)
}

// assignments takes the newest of each partition by (epoch, generation), and
// what the group itself has agreed upon if that is newer still.
func (r *restorer) assignments(topics map[string]Topic) map[TopicPartition]Assignment {
	best := map[TopicPartition]Assignment{}
	from := map[TopicPartition]*witness{}
	for _, w := range r.views {
		for tp, a := range w.v.Assignments {
			if t, ok := topics[tp.Topic]; !ok || t.ID != a.TopicID {
				continue
			}
			have, known := best[tp]
			newer := a.Epoch > have.Epoch || a.Epoch == have.Epoch && a.Generation > have.Generation
			if known && (a.Epoch != have.Epoch || a.Generation != have.Generation || !sameReplicas(a, have)) {
				taken := have
				if newer {
					taken = a
				}
				r.differ("%s is %d.%d (%s) to %s and %d.%d (%s) to %s; %d.%d (%s) is taken", tp,
					have.Epoch, have.Generation, FormatReplicas(have.Replicas), from[tp].who(),
					a.Epoch, a.Generation, FormatReplicas(a.Replicas), w.who(), taken.Epoch, taken.Generation, FormatReplicas(taken.Replicas))
			}
			if !known || newer {
				best[tp], from[tp] = a, w
				r.raw["assignments/"+tp.String()] = w.pic.items["assignments/"+tp.String()].sensible()
			}
		}
	}
	for tp, g := range r.groups(topics) {
		if have := best[tp]; g.Epoch > have.Epoch || g.Epoch == have.Epoch && g.Generation > have.Generation {
			if a, ok := r.agreed(tp, g, have); ok {
				best[tp] = a
				delete(r.raw, "assignments/"+tp.String())
			}
		}
	}
	return best
}

func sameReplicas(a, b Assignment) bool { return slices.Equal(a.Replicas, b.Replicas) }

// groups is the best evidence of each partition's own group: its leader's, else
// that of the replica with the highest term.
func (r *restorer) groups(topics map[string]Topic) map[TopicPartition]ReplicaEvidence {
	best := map[TopicPartition]ReplicaEvidence{}
	for _, t := range r.all {
		for _, rep := range t.Replicas {
			tp := TopicPartition{rep.Topic, rep.Partition}
			if topic, ok := topics[tp.Topic]; !ok || topic.ID != rep.TopicID || len(rep.Voters) == 0 || rep.Partition < 0 || rep.Partition >= topic.Partitions {
				continue
			}
			have, known := best[tp]
			switch {
			case !known, rep.Leading && !have.Leading, rep.Leading == have.Leading && rep.Term > have.Term:
				best[tp] = rep
			}
		}
	}
	return best
}

// agreed makes an assignment of a group's own configuration.
func (r *restorer) agreed(tp TopicPartition, g ReplicaEvidence, have Assignment) (Assignment, bool) {
	a := Assignment{TopicID: g.TopicID, Initial: have.Bootstrap(), Epoch: r.plan.meta.Epoch, Generation: g.Generation + 1}
	for _, id := range g.Voters {
		rep, ok := r.nodes[id]
		if !ok {
			r.differ("%s: its group has reached %d.%d with replica %d, and nobody knows on which node that is; %d.%d is kept",
				tp, g.Epoch, g.Generation, id, have.Epoch, have.Generation)
			return a, false
		}
		a.Replicas = append(a.Replicas, rep)
	}
	// The order of preference is the view's, as far as it goes.
	slices.SortStableFunc(a.Replicas, func(x, y Replica) int { return rank(have, x.ID) - rank(have, y.ID) })
	if len(a.Initial) == 0 {
		a.Initial = slices.Clone(a.Replicas)
	}
	if a.check() != nil {
		r.differ("%s: its group's configuration (%s) can't be an assignment; %d.%d is kept", tp, FormatReplicas(a.Replicas), have.Epoch, have.Generation)
		return a, false
	}
	r.differ("%s: its group has reached %d.%d (%s), the views know of %d.%d; the group's is taken",
		tp, g.Epoch, g.Generation, FormatReplicas(a.Replicas), have.Epoch, have.Generation)
	return a, true
}

func rank(a Assignment, id uint64) int {
	i := slices.IndexFunc(a.Replicas, func(r Replica) bool { return r.ID == id })
	if i < 0 {
		return len(a.Replicas)
	}
	return i
}

// counters raises the numbers above all that were given out. What an
// interrupted restore has raised already stays.
func (r *restorer) counters(assignments map[TopicPartition]Assignment) {
	var producer, replica, node int64 = 1, 1, 1
	for _, w := range r.views {
		producer, replica, node = max(producer, w.v.ProducerIDs.Next), max(replica, w.v.ReplicaIDs.Next), max(node, w.v.NodeIDs.Next)
		for id := range w.v.Nodes {
			node = max(node, int64(id)+1)
		}
	}
	for _, t := range r.all {
		producer, node = max(producer, t.ProducerIDs), max(node, int64(t.Node)+1)
		for _, rep := range t.Replicas {
			for _, id := range rep.Voters {
				replica = max(replica, int64(id)+1)
			}
		}
	}
	for id, rep := range r.nodes {
		replica, node = max(replica, int64(id)+1), max(node, int64(rep.Node)+1)
	}
	now := func(rel string) int64 {
		c, err := decode(r.etcd.items[rel].value, (*Counter).check)
		if err != nil {
			return 0
		}
		return c.Next
	}
	r.plan.ProducerIDs = max(producer+producerIDMargin, now("producer-ids"))
	r.plan.ReplicaIDs = max(replica+replicaIDMargin, now("replica-ids"))
	r.plan.NodeIDs = max(node, now("node-ids"))
}

// orphans names data that no topic explains. It is left where it is.
func (r *restorer) orphans(known map[string]bool) {
	told := map[string]bool{}
	for _, t := range r.all {
		for _, rep := range t.Replicas {
			if _, dead := r.dead[rep.TopicID]; dead || known[rep.TopicID] || told[rep.TopicID] {
				continue
			}
			told[rep.TopicID] = true
			r.differ("node %d has data of topic %s (%s), which no view knows any more; it is left where it is", t.Node, rep.Topic, rep.TopicID)
		}
	}
	for _, w := range r.views {
		for rel, it := range w.pic.items {
			if parseKey(rel).kind == kindOther && it.lease == 0 {
				if base, ok := r.views[0].pic.items[rel]; !ok || !bytes.Equal(base.value, it.value) {
					r.differ("%s differs between %s and %s, which has the newest view and is believed", rel, w.who(), r.views[0].who())
				}
			}
		}
	}
	slices.Sort(r.plan.Differences)
	r.plan.Differences = slices.Compact(r.plan.Differences)
}
