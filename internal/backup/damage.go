package backup

import (
	"fmt"
	"strings"
)

// DamageError says that a part of a backup is not what it was, and where.
type DamageError struct {
	Object string `json:"object"`
	// From and To are the bytes within which the damage is; both 0 if it is about the
	// whole object.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Topic and what follows say which records are affected, if records are.
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first_offset"`
	Next      int64  `json:"next_offset"` // behind the last
	Reason    string `json:"reason"`
}

func (e *DamageError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the backup is damaged: object %s", e.Object)
	if e.To > 0 {
		fmt.Fprintf(&b, ", bytes %d to %d", e.From, e.To-1)
	}
	if e.Topic != "" {
		fmt.Fprintf(&b, ", topic %s, partition %d, offsets %d to %d", e.Topic, e.Partition, e.First, e.Next-1)
	}
	return b.String() + ": " + e.Reason
}
