package cluster

import (
	"fmt"
	"strings"
)

// ChangeKind is what a Change does.
type ChangeKind int

const (
	// Place writes a partition's first assignment.
	Place ChangeKind = iota + 1
	// Replace writes another assignment of a partition that has one.
	Replace
	// Remove deletes the assignment of a deleted topic.
	Remove
	// Forget deletes an old tombstone.
	Forget
	// WriteOp writes the progress of an operation back.
	WriteOp
	// ForgetOp deletes an operation that ended long ago.
	ForgetOp
	// WriteWish writes what is wanted of a node.
	WriteWish
	// DropWish deletes it: the node shall serve.
	DropWish
	// Enlarge raises a topic's replication factor.
	Enlarge
	// Blocked changes nothing: it says what can't be done and why.
	Blocked
)

func (k ChangeKind) String() string {
	return [...]string{"?", "place", "replace", "remove", "forget", "op", "forget op", "wish", "drop wish", "enlarge", "blocked"}[k]
}

// Change is one decision of the winner, with what it was based on: a
// transaction is refused when that is no longer so.
type Change struct {
	Kind       ChangeKind
	TP         TopicPartition // Partition -1: the topic as a whole (Blocked)
	Assignment Assignment     // Place, Replace; Fence is filled in when it is written
	TopicID    string         // Forget
	OpID       string         // WriteOp, ForgetOp
	Op         Op             // WriteOp
	Node       int32          // WriteWish, DropWish
	Wish       NodeWish       // WriteWish
	Reason     string         // why: for people

	Revision        int64 // the key's mod revision; 0: there is none
	Topic           Topic // Place: the topic, in whose key Placed is raised; Enlarge: with its new factor
	CounterRevision int64 // mod revision of replica-ids; used when NewIDs > 0
	NewIDs          int   // how many new replica ids the assignment takes
}

// String is the line that tests and people read.
func (c Change) String() string {
	var b strings.Builder
	switch {
	case c.Kind == Forget:
		fmt.Fprintf(&b, "forget %s", c.TopicID)
	case c.Kind == WriteOp:
		fmt.Fprintf(&b, "op %s %s %s", c.OpID, c.Op.Kind, c.Op.State)
		if p := c.Op.Progress; p != nil {
			fmt.Fprintf(&b, " %d/%d", p.Done, p.Total)
			if p.BytesTotal > 0 {
				fmt.Fprintf(&b, " %d/%d bytes", p.BytesDone, p.BytesTotal)
			}
			if p.EstimateSeconds > 0 {
				fmt.Fprintf(&b, " %ds left", p.EstimateSeconds)
			}
		}
	case c.Kind == ForgetOp:
		fmt.Fprintf(&b, "forget op %s", c.OpID)
	case c.Kind == WriteWish:
		fmt.Fprintf(&b, "wish node %d %s", c.Node, c.Wish.State)
	case c.Kind == DropWish:
		fmt.Fprintf(&b, "drop wish node %d", c.Node)
	case c.TP.Topic == "":
		b.WriteString(c.Kind.String())
	case c.TP.Partition < 0:
		fmt.Fprintf(&b, "%s %s", c.Kind, c.TP.Topic)
	default:
		fmt.Fprintf(&b, "%s %s", c.Kind, c.TP)
	}
	if c.Kind == Place || c.Kind == Replace {
		a := c.Assignment
		fmt.Fprintf(&b, " %d.%d %s", a.Epoch, a.Generation, FormatReplicas(a.Replicas))
		if len(a.Initial) > 0 {
			fmt.Fprintf(&b, " initial %s", FormatReplicas(a.Initial))
		}
	}
	if c.Kind == Enlarge {
		fmt.Fprintf(&b, " to %d replicas", c.Topic.ReplicationFactor)
	}
	if c.Reason != "" {
		fmt.Fprintf(&b, ": %s", c.Reason)
	}
	return b.String()
}

// FormatReplicas writes replicas as node:id, preferred leader first.
func FormatReplicas(rs []Replica) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = fmt.Sprintf("%d:%d", r.Node, r.ID)
	}
	return strings.Join(parts, " ")
}

// maxID is the highest replica id of the assignment.
func (a Assignment) maxID() uint64 {
	var m uint64
	for _, r := range a.Replicas {
		m = max(m, r.ID)
	}
	return m
}
