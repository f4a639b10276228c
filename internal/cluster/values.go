package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// FormatVersion is the version of the keys and values that this code writes.
const FormatVersion = 1

// Limits on what is believed from outside.
const (
	MaxPartitions = 100000 // of one topic
	MaxReplicas   = 1000   // of one partition
	maxValue      = 3 << 19
)

// States of a node.
const (
	StateReady    = "ready"
	StateDraining = "draining"
	StateFull     = "full" // its disk: it takes no records, leaderships or new replicas
)

// Meta says which cluster this is.
type Meta struct {
	ClusterID string    `json:"cluster_id"`
	Epoch     int64     `json:"epoch"` // raised when the metadata was restored
	Format    int       `json:"format"`
	Created   time.Time `json:"created"`

	CreateRevision int64 `json:"-"`
	ModRevision    int64 `json:"-"`
}

// Node is a live node, as it describes itself.
type Node struct {
	Node        int32             `json:"node"`
	Incarnation string            `json:"incarnation"`
	Kafka       string            `json:"kafka"` // the addresses that others dial
	HTTP        string            `json:"http"`
	Peer        string            `json:"peer"`
	Listeners   map[string]string `json:"listeners,omitempty"` // named Kafka listeners
	Rack        string            `json:"rack,omitempty"`
	Version     string            `json:"version,omitempty"`
	Level       int               `json:"level,omitempty"` // see Level
	PID         int               `json:"pid,omitempty"`
	Started     time.Time         `json:"started"`
	State       string            `json:"state"`
	Leads       int               `json:"leads"` // partitions it leads
	Replicas    int               `json:"replicas"`
	Load        float64           `json:"load"` // bytes written a second
	// SlowDiskMS is how long a write to its log takes, in milliseconds, while that
	// is so much longer than on other nodes that the node leads nothing; else 0.
	SlowDiskMS int64 `json:"slow_disk_ms,omitempty"`
	// EtcdMember is the name of the member of etcd that runs in the node's process.
	EtcdMember string `json:"etcd_member,omitempty"`

	Lease       int64 `json:"-"`
	ModRevision int64 `json:"-"`
}

// Candidate stands in the election. Whoever wrote the key, its create revision
// counts; Node is 0 when the value makes no sense.
type Candidate struct {
	Node int32  `json:"node"`
	Addr string `json:"addr,omitempty"`

	Key            string `json:"-"` // the whole key
	Lease          int64  `json:"-"`
	CreateRevision int64  `json:"-"`
}

// Topic is what its creator asked for.
type Topic struct {
	ID                string            `json:"topic_id"`
	Partitions        int32             `json:"partitions"`
	ReplicationFactor int16             `json:"replication_factor"`
	Config            map[string]string `json:"config,omitempty"`
	// Replicas are the nodes that its creator has chosen for partitions, the
	// preferred leader first; the others are the winner's to place. They are kept
	// when a partition was placed: the balancer leaves it alone as long as it is
	// where it was wanted.
	Replicas map[int32][]int32 `json:"replicas,omitempty"`
	// Placed says that partitions below it have been placed: one of them without
	// an assignment has lost it, and is never placed anew. The winner raises it in
	// the transaction that places.
	Placed int32 `json:"placed,omitempty"`

	CreateRevision int64 `json:"-"`
	ModRevision    int64 `json:"-"`
}

// Replica is one copy of a partition: a number that is never used again, on
// one incarnation of one node.
type Replica struct {
	Node        int32  `json:"node"`
	ID          uint64 `json:"id"`
	Incarnation string `json:"incarnation"`
}

// Assignment is where a partition shall live. Assignments of a partition are
// ordered by (Epoch, Generation).
type Assignment struct {
	TopicID  string    `json:"topic_id"`
	Replicas []Replica `json:"replicas"`          // preferred leader first
	Initial  []Replica `json:"initial,omitempty"` // those that bootstrap; omitted while it equals replicas
	// Former are the group's members from before the latest change: until it is
	// settled they are still needed, and after that they mean nothing.
	Former     []Replica `json:"former,omitempty"`
	Epoch      int64     `json:"epoch"`
	Generation int64     `json:"generation"`
	Fence      int64     `json:"fence"` // the winner's revision, for information
	// Recovered is set for good once a majority was lost and an operator let the
	// partition begin anew.
	Recovered *Recovery `json:"recovered,omitempty"`

	ModRevision int64 `json:"-"`
}

// Bootstrap returns the replicas of the initial assignment.
func (a Assignment) Bootstrap() []Replica {
	if len(a.Initial) > 0 {
		return a.Initial
	}
	return a.Replicas
}

// NodeStatus is what a node knows of the partitions it leads. Topics map to
// partitions.
type NodeStatus struct {
	Node    int32                        `json:"node"`
	Leads   map[string]map[int32]uint64  `json:"leads,omitempty"`   // at which term
	Lagging map[string]map[int32][]int32 `json:"lagging,omitempty"` // nodes whose replicas are not in sync
	// Moving are led partitions whose members are not those of the assignment
	// yet. A partition that is led, is not in here, and whose assignment is not
	// newer than Assignments, is settled.
	Moving map[string][]int32 `json:"moving,omitempty"`
	// Freed are replicas that assignments place on this node, which has removed
	// their data and never opens them again: they are to be replaced.
	Freed []uint64 `json:"freed,omitempty"`
	// Bytes is how large the led partitions are, rounded to two digits or so.
	Bytes map[string]map[int32]int64 `json:"bytes,omitempty"`
	// Assignments is the revision of the view that all this is about.
	Assignments int64 `json:"assignments,omitempty"`
}

// Tombstone says that a topic was deleted: only this lets a node remove data.
type Tombstone struct {
	Topic   string    `json:"topic"`
	Deleted time.Time `json:"deleted"`

	ModRevision int64 `json:"-"`
}

// Freeze stops every change of the cluster while its key exists: a node has
// seen that etcd does not hold what it held, or a restore is under way.
type Freeze struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	Since  time.Time `json:"since"`
}

func (f *Freeze) String() string { return fmt.Sprintf("%s (said by %s)", f.Reason, f.By) }

// Counter hands out numbers: Next and all above were never given out.
type Counter struct {
	Next int64 `json:"next"`

	ModRevision int64 `json:"-"` // 0: the key does not exist
}

// Encode gives a value as it is stored.
func Encode(v any) ([]byte, error) { return json.Marshal(v) }

// decode reads a value and checks that it makes sense.
func decode[T any](data []byte, check func(*T) error) (v T, err error) {
	if len(data) > maxValue {
		return v, fmt.Errorf("%d bytes are too many", len(data))
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, err
	}
	return v, check(&v)
}

func (m *Meta) check() error {
	switch {
	case m.ClusterID == "":
		return errors.New("no cluster_id")
	case m.Epoch < 1:
		return fmt.Errorf("epoch %d", m.Epoch)
	case m.Format > FormatVersion:
		return fmt.Errorf("format %d is newer than this program understands (%d)", m.Format, FormatVersion)
	}
	return nil
}

func (n *Node) check(id int32) error {
	switch {
	case n.Node != id:
		return fmt.Errorf("node %d in the key of node %d", n.Node, id)
	case n.Incarnation == "":
		return errors.New("no incarnation")
	}
	return nil
}

func (s *NodeStatus) check(id int32) error {
	if s.Node != id {
		return fmt.Errorf("node %d in the key of node %d", s.Node, id)
	}
	return nil
}

func (t *Topic) check() error {
	switch {
	case t.ID == "":
		return errors.New("no topic_id")
	case t.Partitions < 1 || t.Partitions > MaxPartitions:
		return fmt.Errorf("%d partitions", t.Partitions)
	case t.ReplicationFactor < 1 || t.ReplicationFactor > MaxReplicas:
		return fmt.Errorf("replication factor %d", t.ReplicationFactor)
	}
	for p, nodes := range t.Replicas {
		if p < 0 || p >= t.Partitions {
			return fmt.Errorf("replicas of partition %d of %d", p, t.Partitions)
		}
		if err := checkNodes(nodes); err != nil {
			return fmt.Errorf("replicas of partition %d: %w", p, err)
		}
	}
	return nil
}

// checkNodes allows distinct nodes, at least one.
func checkNodes(nodes []int32) error {
	if len(nodes) == 0 || len(nodes) > MaxReplicas {
		return fmt.Errorf("%d nodes", len(nodes))
	}
	for i, n := range nodes {
		if n < 1 || slices.Contains(nodes[:i], n) {
			return fmt.Errorf("%v: each has to be another node", nodes)
		}
	}
	return nil
}

// BrokerConfig is what was set for a node, or for all of them, while they run.
type BrokerConfig struct {
	Config map[string]string `json:"config"`

	ModRevision int64 `json:"-"`
}

func (a *Assignment) check() error {
	if a.TopicID == "" {
		return errors.New("no topic_id")
	}
	if a.Epoch < 1 || a.Generation < 1 {
		return fmt.Errorf("epoch %d, generation %d", a.Epoch, a.Generation)
	}
	if len(a.Replicas) == 0 {
		return errors.New("no replicas")
	}
	if err := checkReplicas(a.Replicas); err != nil {
		return fmt.Errorf("replicas: %w", err)
	}
	if err := checkReplicas(a.Initial); err != nil {
		return fmt.Errorf("initial: %w", err)
	}
	if err := checkReplicas(a.Former); err != nil {
		return fmt.Errorf("former: %w", err)
	}
	if a.Recovered != nil {
		if err := a.Recovered.check(a.Replicas); err != nil {
			return fmt.Errorf("recovered: %w", err)
		}
	}
	return nil
}

func checkReplicas(rs []Replica) error {
	if len(rs) > MaxReplicas {
		return fmt.Errorf("%d are too many", len(rs))
	}
	nodes, ids := make(map[int32]bool, len(rs)), make(map[uint64]bool, len(rs))
	for _, r := range rs {
		switch {
		case r.Node < 1 || r.ID < 1 || r.Incarnation == "":
			return fmt.Errorf("incomplete replica %+v", r)
		case nodes[r.Node]:
			return fmt.Errorf("node %d twice", r.Node)
		case ids[r.ID]:
			return fmt.Errorf("id %d twice", r.ID)
		}
		nodes[r.Node], ids[r.ID] = true, true
	}
	return nil
}

func (t *Tombstone) check() error {
	if t.Topic == "" || t.Deleted.IsZero() {
		return errors.New("no topic or time")
	}
	return nil
}

func (c *Counter) check() error {
	if c.Next < 1 {
		return fmt.Errorf("next is %d", c.Next)
	}
	return nil
}
