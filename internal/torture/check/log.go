package check

import (
	"fmt"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// client is one that writes. Its records are numbered from 0.
type client struct {
	name    string
	once    bool
	records []record
}

// record is an append and what is known of it.
type record struct {
	part   *part
	id     int64 // of the operation
	known  int64 // the part's when the append began
	offset int64 // where it was seen; -1: not yet
	millis int64
	is     history.Outcome // "": under way, or nobody will ever know
}

// part is a partition.
type part struct {
	key
	begun      int64 // appends
	known      int64 // all offsets below are committed, somebody knows
	startFloor int64 // log start is at least that, somebody knows
	startCeil  int64 // and at most that: nobody asked for more
	slots      []slot
	leaders    map[int64]int32 // by term
	finalFrom  int64           // what the final reads have covered
	finalTo    int64
	finalHigh  int64
	queries    []query
	suspicions []suspicion
	starts     map[int64]int64 // log start as leaders told it, by term
}

// slot is an offset.
type slot struct {
	client *client // nil: nobody was told yet
	n      int64
	epoch  int32 // -1: not known yet
	id     int64 // of the operation that showed it first
}

func (s slot) record() history.Record { return history.Record{Client: s.client.name, N: s.n} }

// suspicion is an answer of a leader that does not show what was known. It may have
// been a former leader, which did not know yet that there was another one; not if
// what it lacks was written in its own term, or before.
type suspicion struct {
	Violation
	offset int64 // the first that it lacks
	term   int64
}

// query is a question for a time, judged when all records are known.
type query struct {
	op     *pending
	offset int64
	start  int64 // log start was at most that
}

func (c *Checker) part(topic string, partition int32) *part {
	k := key{topic, partition}
	p := c.parts[k]
	if p == nil {
		p = &part{key: k, leaders: make(map[int64]int32), starts: make(map[int64]int64), finalFrom: -1}
		c.parts[k] = p
	}
	return p
}

func (c *Checker) beginProduce(p *part, op *pending) {
	cl := c.clients[op.Client]
	if cl == nil {
		cl = &client{name: op.Client, once: op.Once}
		c.clients[op.Client] = cl
	}
	if op.N != int64(len(cl.records)) {
		c.odd(op.Event, fmt.Sprintf("record %d of %s begins, it is the %dth", op.N, op.Client, len(cl.records)))
		return
	}
	p.begun++
	cl.records = append(cl.records, record{part: p, id: op.ID, known: op.known, offset: -1, millis: op.Millis})
}

func (c *Checker) endProduce(op *pending, e history.Event) {
	cl := c.clients[op.Client]
	if op.N < 0 || op.N >= int64(len(cl.records)) || cl.records[op.N].id != op.ID {
		return // malformed, and noted
	}
	r, p := &cl.records[op.N], c.part(op.Topic, op.Partition)
	r.is = e.Is
	if e.Out {
		c.violate("producer-forgotten", op, e.T, -1, "an idempotent producer with one append under way was refused: %s", e.Text)
	}
	switch e.Is {
	case history.OK:
		c.report.Records++
		if c.place(p, op, e.T, e.Offset, history.Record{Client: op.Client, N: op.N}, -1) {
			p.known = max(p.known, e.Offset+1)
		}
	case history.Failed:
		if r.offset >= 0 {
			c.violate("refused-record", op, e.T, r.offset, "%s/%d was refused, and had been seen at offset %d", op.Client, op.N, r.offset)
		}
	}
}

// place notes that somebody was told of a record at an offset, and says whether
// that makes sense.
func (c *Checker) place(p *part, op *pending, t, offset int64, rec history.Record, epoch int32) bool {
	c.report.Observed++
	if offset < 0 || offset >= p.begun {
		c.violate("impossible-offset", op, t, offset, "offset %d, after %d appends", offset, p.begun)
		return false
	}
	cl := c.clients[rec.Client]
	if cl == nil || rec.N >= int64(len(cl.records)) {
		c.violate("fabricated", op, t, offset, "offset %d holds %s, which nobody has written", offset, rec)
		return false
	}
	r := &cl.records[rec.N]
	for int64(len(p.slots)) <= offset {
		p.slots = append(p.slots, slot{epoch: -1})
	}
	s := &p.slots[offset]
	fine := true
	bad := func(kind, format string, args ...any) {
		fine = false
		c.violate(kind, op, t, offset, format, args...)
		v := &c.report.Violations[len(c.report.Violations)-1]
		if s.client != nil && c.report.NotListed == 0 {
			v.Ops = append(v.Ops, s.id)
		}
	}
	switch {
	case r.part != p:
		bad("misplaced", "offset %d holds %s, which was written to %s/%d", offset, rec, r.part.topic, r.part.partition)
		return false
	case s.client != nil && (s.client != cl || s.n != rec.N):
		bad("changed", "offset %d holds %s, and held %s before (operation %d)", offset, rec, s.record(), s.id)
		return false
	case r.offset >= 0 && r.offset != offset:
		bad("duplicate", "%s is at offset %d and at %d", rec, offset, r.offset)
		return false
	case r.is == history.Failed:
		bad("refused-record", "offset %d holds %s, which was refused", offset, rec)
	case offset < r.known && r.offset < 0:
		bad("order", "%s is at offset %d, but everything below %d was known when it was sent", rec, offset, r.known)
	case epoch >= 0 && s.epoch >= 0 && s.epoch != epoch:
		bad("epoch-changed", "offset %d has leader epoch %d, and had %d before", offset, epoch, s.epoch)
	}
	r.offset = offset
	if s.client == nil {
		s.client, s.n, s.id = cl, rec.N, op.ID
	}
	if epoch >= 0 {
		s.epoch = epoch
	}
	return fine
}

// lead notes who leads a partition in a term.
func (c *Checker) lead(op *pending) {
	p := c.part(op.Topic, op.Partition)
	if node, ok := p.leaders[op.Term]; ok && node != op.Node {
		c.violate("two-leaders", op, op.T, -1, "nodes %d and %d both lead in term %d", node, op.Node, op.Term)
		return
	}
	p.leaders[op.Term] = op.Node
}

// finishPart judges the order of what was placed.
func (c *Checker) finishPart(p *part) {
	op := &pending{Event: history.Event{Op: "the whole log", Topic: p.topic, Partition: p.partition}}
	t := int64(c.report.Seconds * 1e9)
	last, epoch := make(map[*client]int64), int32(-1)
	newest := make([]int64, 0, len(p.slots)) // the highest time up to and with each offset
	for o, s := range p.slots {
		top := int64(-1)
		if o > 0 {
			top = newest[o-1]
		}
		if s.client == nil {
			newest = append(newest, top)
			continue
		}
		r := s.client.records[s.n]
		newest = append(newest, max(top, r.millis))
		if before, ok := last[s.client]; ok && s.client.once && r.is == history.OK && s.n < before {
			op.ID = r.id
			c.violate("producer-order", op, t, int64(o), "%s, of an idempotent producer, lies behind its record %d", s.record(), before)
		}
		if r.is == history.OK {
			last[s.client] = max(last[s.client], s.n)
		}
		if s.epoch >= 0 && s.epoch < epoch {
			op.ID = s.id
			c.violate("epoch-order", op, t, int64(o), "leader epoch %d lies behind %d", s.epoch, epoch)
		}
		epoch = max(epoch, s.epoch)
	}
	c.judgeTimes(p, newest)
	for _, s := range p.suspicions {
		if s.offset < int64(len(p.slots)) && p.slots[s.offset].epoch >= 0 && int64(p.slots[s.offset].epoch) <= s.term {
			s.Ops = append(s.Ops, p.slots[s.offset].id)
			c.note(s.Violation)
		} else {
			c.report.Former++
		}
	}
	if c.dropped[p.topic] {
		return
	}
	if p.finalFrom < 0 || p.finalTo < p.finalHigh {
		c.report.Unread = append(c.report.Unread, fmt.Sprintf("%s/%d", p.topic, p.partition))
	}
}
