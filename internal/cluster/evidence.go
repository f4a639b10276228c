package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Evidence is what one node knows of the cluster: what a restore of the
// metadata goes by. A running node gives it, or a stopped one's data directory.
type Evidence struct {
	Format      int               `json:"format"`
	Cluster     string            `json:"cluster"`
	ClusterID   string            `json:"cluster_id"`
	Node        int32             `json:"node"`
	Incarnation string            `json:"incarnation"`
	Source      string            `json:"source"` // for people: an address or a directory
	Live        bool              `json:"live"`   // it comes from a running node
	View        json.RawMessage   `json:"view"`   // as view.json; missing when the node has none
	Replicas    []ReplicaEvidence `json:"replicas,omitempty"`
	ProducerIDs int64             `json:"producer_ids,omitempty"` // above every producer id that the node holds
}

// EvidenceFormat is the version of Evidence that this code writes and reads.
const EvidenceFormat = 1

// ReplicaEvidence is a replica that a node has. What a group has agreed upon
// itself is known for replicas that are open.
type ReplicaEvidence struct {
	Topic      string   `json:"topic"`
	TopicID    string   `json:"topic_id"`
	Partition  int32    `json:"partition"`
	Replica    uint64   `json:"replica"`
	Leading    bool     `json:"leading,omitempty"`
	Term       uint64   `json:"term,omitempty"`
	Voters     []uint64 `json:"voters,omitempty"`
	Epoch      int64    `json:"epoch,omitempty"` // with Generation: the pair that the group has reached
	Generation int64    `json:"generation,omitempty"`
}

// Picture returns what would be saved as view.json now; nil when nothing is
// known of the cluster.
func (s *Store) Picture() (json.RawMessage, error) {
	s.mu.Lock()
	p := picture{memory: s.memory, items: maps.Clone(s.items)}
	s.mu.Unlock()
	if p.meta == nil {
		return nil, nil
	}
	return encodePicture(s.keys, p)
}

// ReadPicture reads view.json of a data directory as evidence; nil when there
// is none.
func ReadPicture(fsys vfs.FS, dir string, keys Keys) (json.RawMessage, error) {
	p, ok, err := readPicture(fsys, dir, keys)
	if err != nil || !ok {
		return nil, err
	}
	return encodePicture(keys, p)
}

// testimony is evidence that was read.
type testimony struct {
	Evidence
	pic  picture
	meta *Meta // nil: there is no view
}

func (e Evidence) read(keys Keys) (t testimony, err error) {
	t.Evidence = e
	if e.Format != EvidenceFormat || e.Node < 1 || e.Incarnation == "" || e.ClusterID == "" {
		return t, fmt.Errorf("what %s says is no evidence of a node (format %d, node %d)", e.Source, e.Format, e.Node)
	}
	if len(e.View) == 0 || string(e.View) == "null" {
		return t, nil
	}
	if t.pic, err = decodePicture(keys, e.View); err != nil {
		return t, fmt.Errorf("the view of node %d (%s): %w", e.Node, e.Source, err)
	}
	it, ok := t.pic.items["meta"]
	if !ok {
		return t, nil
	}
	m, err := decode(it.value, (*Meta).check)
	if err != nil {
		return t, fmt.Errorf("meta in the view of node %d (%s): %w", e.Node, e.Source, err)
	}
	m.CreateRevision, m.ModRevision = it.createRevision, it.modRevision
	if m.ClusterID != e.ClusterID {
		return t, fmt.Errorf("node %d (%s) belongs to cluster %s, and its view is of cluster %s", e.Node, e.Source, e.ClusterID, m.ClusterID)
	}
	t.meta, t.pic.meta = &m, &m
	return t, nil
}

// view makes a View of what the node remembers.
func (t *testimony) view(keys Keys) *View {
	d := reload(keys, &View{}, func(string, item, error) {})
	for rel, it := range t.pic.items {
		t.pic.items[rel] = d.putItem(rel, it)
	}
	d.next.EtcdClusterID, d.next.Revision = t.pic.etcdID, t.pic.revision
	return &d.next
}

// frozen says why the node refuses changes.
func (t *testimony) frozen() string { return t.pic.frozen }

// ViewSummary is a node's view in a few words.
type ViewSummary struct {
	Node     int32     `json:"node"`
	Source   string    `json:"source"`
	Epoch    int64     `json:"epoch"`
	Revision int64     `json:"revision"`
	Seen     time.Time `json:"seen,omitzero"`
	Topics   int       `json:"topics"`
	Assigned int       `json:"assignments"`
	Replicas int       `json:"replicas"`
	Frozen   string    `json:"frozen,omitempty"`
	Missing  string    `json:"missing,omitempty"` // why it has no view
}
