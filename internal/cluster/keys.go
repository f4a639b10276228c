package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultPrefix is where clusters live in etcd.
const DefaultPrefix = "/raftsman"

// Keys names the keys of one cluster.
type Keys struct{ base string } // ends in a slash

// NewKeys returns the keys of a cluster below a prefix; "" is DefaultPrefix.
func NewKeys(prefix, cluster string) (Keys, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if cluster == "" || len(cluster) > 249 || strings.Trim(cluster, legalNameBytes) != "" || cluster == "." || cluster == ".." {
		return Keys{}, fmt.Errorf("invalid cluster name %q: letters, digits, '.', '_' and '-' make one", cluster)
	}
	return Keys{strings.TrimSuffix(prefix, "/") + "/" + cluster + "/"}, nil
}

// Base is what all keys of the cluster begin with.
func (k Keys) Base() string { return k.base }

// Meta is the key of Meta.
func (k Keys) Meta() string { return k.base + "meta" }

// Node is the key of a live node.
func (k Keys) Node(id int32) string { return fmt.Sprintf("%snodes/%d", k.base, id) }

// Election is the election's name; candidates are below it.
func (k Keys) Election() string { return k.base + "leader" }

// Topic is the key of a topic.
func (k Keys) Topic(name string) string { return k.base + "topics/" + name }

// Assignment is the key of a partition's assignment.
func (k Keys) Assignment(tp TopicPartition) string {
	return fmt.Sprintf("%sassignments/%s/%d", k.base, tp.Topic, tp.Partition)
}

// Status is the key of a node's status.
func (k Keys) Status(id int32) string { return fmt.Sprintf("%sstatus/%d", k.base, id) }

// Deleted is the key of a tombstone.
func (k Keys) Deleted(topicID string) string { return k.base + "deleted/" + topicID }

// ProducerIDs is the key of the producer ids' counter.
func (k Keys) ProducerIDs() string { return k.base + "producer-ids" }

// ReplicaIDs is the key of the replica ids' counter.
func (k Keys) ReplicaIDs() string { return k.base + "replica-ids" }

// NodeIDs is the key of the node ids' counter.
func (k Keys) NodeIDs() string { return k.base + "node-ids" }

// Op is the key of an operation.
func (k Keys) Op(id string) string { return k.base + "ops/" + id }

// Wish is the key of what is wanted of a node.
func (k Keys) Wish(id int32) string { return fmt.Sprintf("%sconfig/nodes/%d", k.base, id) }

// Rebalance is the key of the balancer's switch.
func (k Keys) Rebalance() string { return k.base + "config/rebalance" }

// BrokerConfig is the key of a node's dynamic configuration; of all nodes' for
// node 0.
func (k Keys) BrokerConfig(node int32) string {
	if node == 0 {
		return k.base + "config/brokers/default"
	}
	return fmt.Sprintf("%sconfig/brokers/%d", k.base, node)
}

// Frozen is the key that stops every change while it exists.
func (k Keys) Frozen() string { return k.base + "frozen" }

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

type keyKind int

const (
	kindOther keyKind = iota
	kindMeta
	kindNode
	kindCandidate
	kindTopic
	kindAssignment
	kindStatus
	kindDeleted
	kindProducerIDs
	kindReplicaIDs
	kindNodeIDs
	kindFrozen
	kindOp
	kindWish
	kindRebalance
	kindBrokerConfig
)

// parsed is a key below the base, taken apart.
type parsed struct {
	kind keyKind
	node int32
	name string // topic, topic id, operation id, or the candidate's lease
	tp   TopicPartition
}

// parseKey takes a key below the base apart. A key it does not know, or one
// with a malformed part, is kindOther.
func parseKey(rel string) parsed {
	switch rel {
	case "meta":
		return parsed{kind: kindMeta}
	case "producer-ids":
		return parsed{kind: kindProducerIDs}
	case "replica-ids":
		return parsed{kind: kindReplicaIDs}
	case "node-ids":
		return parsed{kind: kindNodeIDs}
	case "frozen":
		return parsed{kind: kindFrozen}
	case "config/rebalance":
		return parsed{kind: kindRebalance}
	}
	dir, rest, _ := strings.Cut(rel, "/")
	switch dir {
	case "nodes", "status":
		if id, ok := parseInt32(rest); ok && id > 0 {
			if dir == "nodes" {
				return parsed{kind: kindNode, node: id}
			}
			return parsed{kind: kindStatus, node: id}
		}
	case "leader":
		if rest != "" {
			return parsed{kind: kindCandidate, name: rest}
		}
	case "topics":
		if ValidateTopicName(rest) == nil {
			return parsed{kind: kindTopic, name: rest}
		}
	case "assignments":
		topic, part, _ := strings.Cut(rest, "/")
		if p, ok := parseInt32(part); ok && p >= 0 && p < MaxPartitions && ValidateTopicName(topic) == nil {
			return parsed{kind: kindAssignment, tp: TopicPartition{topic, p}}
		}
	case "ops":
		if ValidateOpID(rest) == nil {
			return parsed{kind: kindOp, name: rest}
		}
	case "config":
		node, isNode := strings.CutPrefix(rest, "nodes/")
		if id, ok := parseInt32(node); isNode && ok && id > 0 {
			return parsed{kind: kindWish, node: id}
		}
		if rest == "brokers/default" {
			return parsed{kind: kindBrokerConfig}
		}
		node, isBroker := strings.CutPrefix(rest, "brokers/")
		if id, ok := parseInt32(node); isBroker && ok && id > 0 {
			return parsed{kind: kindBrokerConfig, node: id}
		}
	case "deleted":
		if rest != "" {
			return parsed{kind: kindDeleted, name: rest}
		}
	}
	return parsed{}
}

// parseInt32 reads a number as the keys have it: no sign, no leading zero.
func parseInt32(s string) (int32, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	return int32(n), err == nil && strconv.FormatInt(n, 10) == s
}

const legalNameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// ValidateTopicName allows what Kafka allows; the error is an ErrInvalidTopic.
func ValidateTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidTopic)
	case len(name) > 249:
		return fmt.Errorf("%w: %d characters, at most 249 are allowed", ErrInvalidTopic, len(name))
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q", ErrInvalidTopic, name)
	}
	for i := range len(name) {
		if strings.IndexByte(legalNameBytes, name[i]) < 0 {
			return fmt.Errorf("%w: %q: letters, digits, '.', '_' and '-' are allowed", ErrInvalidTopic, name)
		}
	}
	return nil
}

// collisionKey is equal for names that would be one metric's name in Kafka.
func collisionKey(name string) string { return strings.ReplaceAll(name, ".", "_") }
