package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Numbers above those that are known to have been given out: a node that died
// may have taken some that no view shows.
const (
	producerIDMargin = 1_000_000
	replicaIDMargin  = 10_000
)

// Snapshot is what etcd holds below the cluster's prefix at one revision.
type Snapshot struct {
	etcdID   uint64
	revision int64
	items    map[string]item
}

// Write is one key that a restore changes.
type Write struct {
	Key    string `json:"key"` // below the prefix
	Value  string `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
	Was    string `json:"was,omitempty"` // what etcd holds; empty for nothing
}

// Brief is the value in a few words, for people.
func (w Write) Brief() string {
	if parseKey(w.Key).kind != kindAssignment {
		return w.Value
	}
	a, err := decode([]byte(w.Value), (*Assignment).check)
	if err != nil {
		return w.Value
	}
	return fmt.Sprintf("%d.%d on node:replica %s", a.Epoch, a.Generation, FormatReplicas(a.Replicas))
}

// RestorePlan says what a restore of the metadata would write, and why it
// should perhaps not be done.
type RestorePlan struct {
	Prefix    string        `json:"prefix"`
	ClusterID string        `json:"cluster_id"`
	Epoch     int64         `json:"epoch"` // after the restore
	Views     []ViewSummary `json:"views"`
	Missing   []int32       `json:"missing_nodes,omitempty"`
	// Etcd is what etcd holds now, in words; Well says that nothing is wrong with it.
	Etcd        string   `json:"etcd"`
	Well        bool     `json:"etcd_is_well"`
	Foreign     string   `json:"other_cluster,omitempty"` // id of another cluster that etcd holds
	Differences []string `json:"differences,omitempty"`

	Topics      int   `json:"topics"`
	Assignments int   `json:"assignments"`
	Tombstones  int   `json:"tombstones"`
	ProducerIDs int64 `json:"producer_ids"`
	ReplicaIDs  int64 `json:"replica_ids"`
	NodeIDs     int64 `json:"node_ids"`

	Writes []Write `json:"writes"` // in order; then meta

	meta    Meta
	metaRev int64 // mod revision of meta in etcd when it was read; 0: none
	etcdID  uint64
}

// restorer gathers a plan.
type restorer struct {
	keys  Keys
	etcd  Snapshot
	views []*witness // newest first
	all   []testimony
	plan  *RestorePlan
	nodes map[uint64]Replica // by replica id
	dead  map[string]Tombstone
	raw   map[string][]byte // values as they were found: they may hold fields of a later version
}

// witness is a view that takes part.
type witness struct {
	testimony
	v *View
}

// PlanRestore decides what etcd should hold, from what the nodes know. It is
// pure. An error means that the evidence does not fit together.
func PlanRestore(keys Keys, etcd Snapshot, evidence []Evidence) (*RestorePlan, error) {
	r := &restorer{keys: keys, etcd: etcd, plan: &RestorePlan{Prefix: keys.base}, nodes: map[uint64]Replica{}, dead: map[string]Tombstone{}, raw: map[string][]byte{}}
	if err := r.hear(evidence); err != nil {
		return nil, err
	}
	r.judgeEtcd()
	r.countMissing()
	r.knowReplicas()
	r.plan.Epoch = r.plan.meta.Epoch
	wanted, err := r.wanted()
	if err != nil {
		return nil, err
	}
	r.diff(wanted)
	return r.plan, nil
}

// hear reads the evidence and orders the views, newest first.
func (r *restorer) hear(evidence []Evidence) error {
	seen := map[int32]string{}
	for _, e := range evidence {
		if other, twice := seen[e.Node]; twice {
			return fmt.Errorf("node %d speaks twice, from %s and %s: leave one out", e.Node, other, e.Source)
		}
		seen[e.Node] = e.Source
		t, err := e.read(r.keys)
		if err != nil {
			return err
		}
		r.all = append(r.all, t)
		if t.meta != nil {
			r.views = append(r.views, &witness{t, t.view(r.keys)})
		}
	}
	if len(r.views) == 0 {
		return errors.New("no node has a view of the cluster: there is nothing to restore from")
	}
	slices.SortFunc(r.views, func(a, b *witness) int {
		if a.meta.Epoch != b.meta.Epoch {
			return int(b.meta.Epoch - a.meta.Epoch)
		}
		if a.pic.revision != b.pic.revision {
			return int(b.pic.revision - a.pic.revision)
		}
		return int(a.Node - b.Node)
	})
	base := r.views[0]
	for _, t := range r.all {
		if t.ClusterID != base.ClusterID {
			return fmt.Errorf("node %d (%s) belongs to cluster %s and node %d (%s) to cluster %s: leave out the one that does not belong here",
				t.Node, t.Source, t.ClusterID, base.Node, base.Source, base.ClusterID)
		}
	}
	r.plan.ClusterID, r.plan.meta = base.ClusterID, *base.meta
	r.plan.meta.Epoch = base.meta.Epoch + 1
	for _, t := range r.all {
		s := ViewSummary{Node: t.Node, Source: t.Source, Replicas: len(t.Replicas), Frozen: t.frozen()}
		if t.meta == nil {
			s.Missing = "it has no view of the cluster"
		} else {
			v := t.view(r.keys)
			s.Epoch, s.Revision, s.Seen, s.Topics, s.Assigned = t.meta.Epoch, t.pic.revision, t.pic.at, len(v.Topics), len(v.Assignments)
		}
		r.plan.Views = append(r.plan.Views, s)
	}
	slices.SortFunc(r.plan.Views, func(a, b ViewSummary) int { return int(a.Node - b.Node) })
	return nil
}

// judgeEtcd says what etcd holds, and whether anything is wrong with it. What a
// well etcd holds counts as the newest view.
func (r *restorer) judgeEtcd() {
	p := r.plan
	p.etcdID = r.etcd.etcdID
	base := r.views[0]
	it, ok := r.etcd.items["meta"]
	if !ok {
		p.Etcd = fmt.Sprintf("no meta, %d keys, revision %d: the cluster's metadata is gone", len(r.etcd.items), r.etcd.revision)
		return
	}
	p.metaRev = it.modRevision
	m, err := decode(it.value, (*Meta).check)
	if err != nil {
		p.Etcd = fmt.Sprintf("a meta that makes no sense: %v", err)
		return
	}
	m.CreateRevision, m.ModRevision = it.createRevision, it.modRevision
	if m.ClusterID != base.ClusterID {
		p.Foreign = m.ClusterID
		p.Etcd = fmt.Sprintf("the metadata of another cluster, %s, made %s", m.ClusterID, m.Created.Format("2006-01-02 15:04:05"))
		return
	}
	topics := 0
	for rel := range r.etcd.items {
		if parseKey(rel).kind == kindTopic {
			topics++
		}
	}
	p.Etcd = fmt.Sprintf("epoch %d, revision %d, %d topics", m.Epoch, r.etcd.revision, topics)
	p.meta.Epoch = max(p.meta.Epoch, m.Epoch+1)
	if it, ok := r.etcd.items["frozen"]; ok {
		p.Etcd += ": frozen: " + decodeFreeze(it.value).String()
		return
	}
	for _, w := range r.views {
		if why := w.frozen(); why != "" {
			p.Etcd += fmt.Sprintf(": node %d is frozen: %s", w.Node, why)
			return
		}
	}
	mem := memory{etcdID: base.pic.etcdID, revision: base.pic.revision, meta: base.meta, items: base.pic.items, at: base.pic.at}
	if why, _ := judge(mem, sighting{etcdID: r.etcd.etcdID, revision: r.etcd.revision, meta: &m, items: r.etcd.items, at: base.pic.at}); why != "" {
		p.Etcd += ": " + why
		return
	}
	t := testimony{Evidence: Evidence{Source: "etcd", ClusterID: m.ClusterID}, meta: &m}
	t.pic = picture{memory: memory{etcdID: r.etcd.etcdID, revision: r.etcd.revision, meta: &m}, items: r.etcd.items}
	r.views = append([]*witness{{t, t.view(r.keys)}}, r.views...)
	wrong := r.wrong()
	p.Well = len(wrong) == 0
	for _, why := range wrong {
		p.Etcd += ": " + why
	}
}

// countMissing finds nodes that exist and have not spoken.
func (r *restorer) countMissing() {
	spoke := map[int32]bool{}
	for _, w := range r.views {
		spoke[w.Node] = true
	}
	missing := map[int32]bool{}
	for _, w := range r.views {
		for id := range w.v.Nodes {
			missing[id] = !spoke[id]
		}
		for _, a := range w.v.Assignments {
			for _, rep := range a.Replicas {
				missing[rep.Node] = !spoke[rep.Node]
			}
		}
	}
	for id, yes := range missing {
		if yes {
			r.plan.Missing = append(r.plan.Missing, id)
		}
	}
	slices.Sort(r.plan.Missing)
}

// knowReplicas gathers where every replica is.
func (r *restorer) knowReplicas() {
	for _, w := range r.views {
		for _, a := range w.v.Assignments {
			for _, rep := range slices.Concat(a.Former, a.Initial, a.Replicas) {
				r.nodes[rep.ID] = rep
			}
		}
	}
	for _, t := range r.all {
		for _, rep := range t.Replicas {
			r.nodes[rep.Replica] = Replica{Node: t.Node, ID: rep.Replica, Incarnation: t.Incarnation}
		}
	}
}

func (r *restorer) differ(format string, args ...any) {
	r.plan.Differences = append(r.plan.Differences, fmt.Sprintf(format, args...))
}

// diff lists the writes that make etcd hold what is wanted. Keys with a lease
// belong to those that live now and are left alone.
func (r *restorer) diff(wanted map[string][]byte) {
	for rel, value := range wanted {
		was, is := r.etcd.items[rel]
		if is && bytes.Equal(was.value, value) && was.lease == 0 {
			continue
		}
		r.plan.Writes = append(r.plan.Writes, Write{Key: rel, Value: string(value), Was: string(was.value)})
	}
	for rel, it := range r.etcd.items {
		if _, keep := wanted[rel]; keep || it.lease != 0 || rel == "meta" || rel == "frozen" {
			continue
		}
		if k := parseKey(rel).kind; k == kindNode || k == kindCandidate || k == kindStatus {
			continue // of the living, whatever became of their lease
		}
		r.plan.Writes = append(r.plan.Writes, Write{Key: rel, Delete: true, Was: string(it.value)})
	}
	slices.SortFunc(r.plan.Writes, func(a, b Write) int {
		if d := writtenAt(a.Key) - writtenAt(b.Key); d != 0 {
			return d
		}
		return strings.Compare(a.Key, b.Key)
	})
}

// names lists the keys of a map in order, for messages.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
