package cluster

import (
	"maps"
	"slices"
)

// Where a view came from.
const (
	SourceNone = ""     // nothing is known yet
	SourceDisk = "disk" // this node's copy, etcd was not reached since the start
	SourceEtcd = "etcd"
)

// View is the cluster at one revision. It is immutable: nobody changes it or
// anything it holds. Maps may be nil.
type View struct {
	Source        string
	EtcdClusterID uint64
	Revision      int64  // of the newest change it contains
	Frozen        string // why changes are refused; empty when they are not

	Meta        *Meta // nil before the cluster was made
	Nodes       map[int32]Node
	Candidates  map[string]Candidate // by lease in hex
	Winner      *Candidate
	Topics      map[string]Topic
	Assignments map[TopicPartition]Assignment
	Status      map[int32]NodeStatus
	Deleted     map[string]Tombstone // by topic id
	ProducerIDs Counter
	ReplicaIDs  Counter
	NodeIDs     Counter
	Ops         map[string]Op      // by id
	Wishes      map[int32]NodeWish // by node
	Rebalance   Rebalance
	Configs     map[int32]BrokerConfig // by node; 0: of all nodes
	Halt        *Freeze                // the key frozen; nil when there is none

	// Broken maps keys (below the base) whose value makes no sense to the
	// reason. The view holds their last good value, or none.
	Broken map[string]string
}

// TopicByID finds a topic by its id.
func (v *View) TopicByID(id string) (name string, t Topic, ok bool) {
	for name, t := range v.Topics {
		if t.ID == id {
			return name, t, true
		}
	}
	return "", Topic{}, false
}

// Moving says whether a partition's members are not those of its assignment yet, by
// what its leader has told last.
func (v *View) Moving(tp TopicPartition) bool {
	var leader *NodeStatus
	var term uint64
	for _, s := range v.Status {
		if t := s.Leads[tp.Topic][tp.Partition]; t > term {
			leader, term = &s, t
		}
	}
	return leader != nil && (leader.Assignments < v.Assignments[tp].ModRevision || slices.Contains(leader.Moving[tp.Topic], tp.Partition))
}

// TopicNames returns the names of all topics, sorted.
func (v *View) TopicNames() []string { return slices.Sorted(maps.Keys(v.Topics)) }

// NodeIDList returns the ids of the registered nodes, sorted.
func (v *View) NodeIDList() []int32 { return slices.Sorted(maps.Keys(v.Nodes)) }

// IsBroken says whether a partition's assignment, or its topic, is unreadable.
func (v *View) IsBroken(tp TopicPartition) bool {
	if len(v.Broken) == 0 {
		return false
	}
	_, a := v.Broken["assignments/"+tp.String()]
	_, t := v.Broken["topics/"+tp.Topic]
	return a || t
}
