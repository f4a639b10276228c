package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// Violation is something that must not happen.
type Violation struct {
	Kind      string  `json:"kind"`
	Topic     string  `json:"topic,omitempty"`
	Partition int32   `json:"partition"`
	Group     string  `json:"group,omitempty"`
	Offset    int64   `json:"offset"`
	T         int64   `json:"t"`   // when it was seen, nanoseconds since the run's begin
	Ops       []int64 `json:"ops"` // operations that show it
	Text      string  `json:"text"`
}

// Report is the verdict.
type Report struct {
	Events     int64          `json:"events"`
	Operations map[string]int `json:"operations"` // by kind and outcome: "produce ok"
	Records    int64          `json:"records"`    // acknowledged
	Observed   int64          `json:"observed"`   // record by record, by all readers
	Partitions int            `json:"partitions"`
	Unread     []string       `json:"unread,omitempty"` // partitions that no final read has covered
	Faults     int            `json:"faults"`
	Former     int            `json:"former_leaders_answers"` // that did not show what was known by then
	Seconds    float64        `json:"seconds"`                // of the history
	Violations []Violation    `json:"violations"`
	NotListed  int            `json:"violations_not_listed,omitempty"`
}

// Valid says that there is no violation.
func (r *Report) Valid() bool { return len(r.Violations) == 0 }

// maxListed bounds the violations that are kept; the others are counted.
const maxListed = 100

// Checker takes a history, event by event, in order. It is for one goroutine.
type Checker struct {
	report  Report
	clients map[string]*client
	parts   map[key]*part
	dropped map[string]bool // topics whose deletion has begun
	groups  map[groupKey]*committed
	open    map[int64]*pending
}

type key struct {
	topic     string
	partition int32
}

// pending is an operation that has begun, with what was known then.
type pending struct {
	history.Event
	known      int64 // the partition's, then
	startFloor int64
	toldStart  int64 // log start, by leaders up to the operation's term
	floor      int64 // the group's
}

// New makes one for a new history.
func New() *Checker {
	return &Checker{
		report:  Report{Operations: make(map[string]int), Violations: []Violation{}},
		clients: make(map[string]*client), parts: make(map[key]*part), dropped: make(map[string]bool),
		groups: make(map[groupKey]*committed), open: make(map[int64]*pending),
	}
}

// File checks a history on disk.
func File(path string) (history.Header, *Report, error) {
	c := New()
	h, err := history.ScanFile(path, c.Add)
	if err != nil {
		return h, nil, err
	}
	return h, c.Finish(), nil
}

// Found is the number of violations so far.
func (c *Checker) Found() int { return len(c.report.Violations) + c.report.NotListed }

// Add takes the next event.
func (c *Checker) Add(e history.Event) {
	c.report.Events++
	c.report.Seconds = float64(e.T) / 1e9
	if e.Is == "" {
		c.begin(e)
		return
	}
	op := c.open[e.ID]
	if op == nil {
		c.odd(e, "an operation ends that has not begun, or has ended")
		return
	}
	delete(c.open, e.ID)
	c.report.Operations[string(op.Op)+" "+string(e.Is)]++
	c.end(op, e)
}

func (c *Checker) begin(e history.Event) {
	if c.open[e.ID] != nil {
		c.odd(e, "an operation begins twice")
		return
	}
	op := &pending{Event: e}
	if e.Topic != "" {
		p := c.part(e.Topic, e.Partition)
		op.known, op.startFloor = p.known, p.startFloor
		op.toldStart = p.told(op.Term)
		switch e.Op {
		case history.Produce:
			c.beginProduce(p, op)
		case history.Truncate:
			p.startCeil = max(p.startCeil, e.Offset)
		case history.Drop:
			c.dropped[e.Topic] = true
		}
	}
	if e.Op == history.Commit || e.Op == history.Committed {
		c.beginGroup(op)
	}
	if e.Op == history.Fault {
		c.report.Faults++
	}
	c.open[e.ID] = op
}

func (c *Checker) end(op *pending, e history.Event) {
	switch op.Op {
	case history.Produce:
		c.endProduce(op, e)
	case history.Commit:
		c.endCommit(op, e)
	case history.Recover:
		if e.Is != history.OK {
			c.violate("not-recovered", op, e.T, -1, "the cluster does not work again after the last fault: %s", e.Text)
		}
	case history.Verify:
		if e.Is == history.Failed {
			c.violate("not-recovered", op, e.T, -1, "the replicas can't be compared: %s", e.Text)
		}
		if e.Is == history.OK && e.Differences > 0 {
			c.violate("divergence", op, e.T, -1, "%d differences between replicas: %s", e.Differences, e.Text)
		}
	}
	if e.Is != history.OK {
		return
	}
	switch op.Op {
	case history.Read:
		c.endRead(op, e)
	case history.Bounds:
		c.seen(c.part(op.Topic, op.Partition), op, e)
	case history.Truncate:
		c.endTruncate(op, e)
	case history.ForTime:
		c.endForTime(op, e)
	case history.Committed:
		c.endCommitted(op, e)
	case history.Lead:
		c.lead(op)
	}
}

// violate notes a violation that an operation shows.
func (c *Checker) violate(kind string, op *pending, t, offset int64, format string, args ...any) {
	c.note(violation(kind, op, t, offset, format, args...))
}

func violation(kind string, op *pending, t, offset int64, format string, args ...any) Violation {
	return Violation{Kind: kind, Topic: op.Topic, Partition: op.Partition, Group: op.Group, Offset: offset, T: t, Ops: []int64{op.ID},
		Text: fmt.Sprintf("%s %d by %s: ", op.Op, op.ID, cmp.Or(op.Client, "-")) + fmt.Sprintf(format, args...)}
}

func (c *Checker) note(v Violation) {
	if len(c.report.Violations) == maxListed {
		c.report.NotListed++
		return
	}
	c.report.Violations = append(c.report.Violations, v)
}

// odd is about a history that is none.
func (c *Checker) odd(e history.Event, text string) {
	c.note(Violation{Kind: "malformed", Offset: -1, T: e.T, Ops: []int64{e.ID}, Text: text})
}

// Finish judges what can be judged only now, and returns the verdict.
func (c *Checker) Finish() *Report {
	for _, op := range c.open {
		c.report.Operations[string(op.Op)+" unknown"]++
	}
	c.open = make(map[int64]*pending)
	keys := make([]key, 0, len(c.parts))
	for k, p := range c.parts {
		if p.begun > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	c.report.Partitions = len(keys)
	for _, k := range keys {
		c.finishPart(c.parts[k])
	}
	slices.SortStableFunc(c.report.Violations, func(a, b Violation) int { return cmp.Compare(a.T, b.T) })
	return &c.report
}
