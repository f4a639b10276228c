// Package history is what a torture run did and saw, on disk: JSON lines, the
// first a Header, then an Event for each operation's begin and one for its end.
// The order of lines is the order in which things happened: an operation whose end
// is above another one's begin had ended before that one began. An operation
// without an end is one of which nobody knows what became of it.
package history

import (
	"encoding/json"
	"fmt"
	"time"
)

// Version of the format.
const Version = 1

// Header says what ran.
type Header struct {
	Version int       `json:"version"`
	Began   time.Time `json:"began"`
	Seed    uint64    `json:"seed"`
	Command string    `json:"command"` // that does the same again
	Program string    `json:"program"` // its version
}

// Kind is what an operation does.
type Kind string

// Kinds of operations, with the fields that count.
const (
	// Produce appends record N of its client to a partition; at the end, Offset.
	// Once: by an idempotent producer, whose records keep their order; Out: it was told
	// that it is not known any more.
	Produce Kind = "produce"
	// Read reads a partition from Offset, or from FromStart or FromCommitted; Via
	// says how, Term is the leader epoch that the client asked for. At the end, Runs,
	// and from replicas Start and High, or Out if the offset was refused as out of
	// range.
	Read Kind = "read"
	// Bounds asks the leader of Term for the log start and the high watermark: Start, High.
	Bounds Kind = "bounds"
	// ForTime asks for the first offset whose record is not older than Millis.
	ForTime Kind = "for-time"
	// Truncate deletes the records below Offset; at the end, Start.
	Truncate Kind = "delete-records"
	// Commit commits Offset for Group. Reset: it may be lower than before.
	Commit Kind = "commit"
	// Committed asks for the committed offset: Offset, -1 for none.
	Committed Kind = "committed"
	// Create and Drop make and delete a topic.
	Create Kind = "create-topic"
	Drop   Kind = "delete-topic"
	// Lead is an observation: Node leads the partition in Term.
	Lead Kind = "lead"
	// Fault is something that the nemesis does, from its begin to its end; Text says what.
	Fault Kind = "fault"
	// Recover waits until everything works again after the last fault.
	Recover Kind = "recover"
	// Verify compares the replicas: Differences.
	Verify Kind = "verify"
)

// Where a Read begins that has no offset.
const (
	FromStart     = -2
	FromCommitted = -3
)

// Via says by which way a Read went.
type Via string

// Ways of reading.
const (
	Leader   Via = "leader"
	Follower Via = "follower"
	Group    Via = "group" // as a member of a consumer group: what was fetched some time before
	Final    Via = "final" // from the leader when all is over: everything
)

// Outcome is how an operation ended.
type Outcome string

// Outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"  // for sure: it had and will have no effect
	Unknown Outcome = "unknown" // it may have had an effect, or have it later
)

// Event is the begin of an operation, with Op, or its end, with Is.
type Event struct {
	T  int64 `json:"t"` // nanoseconds since the run's begin, monotonic
	ID int64 `json:"id"`

	Op        Kind   `json:"op,omitempty"`
	Client    string `json:"client,omitempty"`
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition,omitempty"`
	Group     string `json:"group,omitempty"`
	Via       Via    `json:"via,omitempty"`
	N         int64  `json:"n,omitempty"`
	Once      bool   `json:"once,omitempty"`
	Reset     bool   `json:"reset,omitempty"`
	Millis    int64  `json:"millis,omitempty"`

	Is          Outcome `json:"is,omitempty"`
	Offset      int64   `json:"offset,omitempty"` // at the begin or at the end
	Runs        []Run   `json:"runs,omitempty"`
	Start       int64   `json:"start,omitempty"`
	High        int64   `json:"high,omitempty"`
	Out         bool    `json:"out,omitempty"`
	Node        int32   `json:"node,omitempty"`
	Term        int64   `json:"term,omitempty"`
	Differences int     `json:"differences,omitempty"`
	Text        string  `json:"text,omitempty"` // for people: an error, a fault
}

// Run is records at consecutive offsets of one leader epoch.
type Run struct {
	At      int64    `json:"at"`
	Epoch   int32    `json:"epoch"`
	Records []Record `json:"records"`
}

// Record names a record by who wrote it. What was read and is none of the
// workload's has Client "" and N 0.
type Record struct {
	Client string
	N      int64
}

// MarshalJSON writes ["p3",12] more shortly, as "p3/12".
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(r.String())
}

func (r Record) String() string { return fmt.Sprintf("%s/%d", r.Client, r.N) }

// UnmarshalJSON is the reverse.
func (r *Record) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	rec, ok := ParseRecord(text)
	if !ok {
		return fmt.Errorf("record %.60q is not CLIENT/NUMBER", text)
	}
	*r = rec
	return nil
}
