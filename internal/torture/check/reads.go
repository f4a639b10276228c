package check

import (
	"github.com/raftsman/raftsman/internal/torture/history"
)

// endRead judges what a read returned.
func (c *Checker) endRead(op *pending, e history.Event) {
	p := c.part(op.Topic, op.Partition)
	if e.Out {
		if op.Via != history.Follower && op.Offset >= p.startCeil && op.Offset <= op.known {
			p.suspect(op.Offset-1, op.Term, "out-of-range", op, e.T, op.Offset, "offset %d was refused as out of range, though log start is at most %d and %d was known to be there", op.Offset, p.startCeil, op.known)
		}
		return
	}
	if op.Via != history.Group {
		c.seen(p, op, e)
	}
	next := op.Offset
	for i, run := range e.Runs {
		switch {
		case len(run.Records) == 0:
			c.odd(e, "a run without records")
			return
		case i == 0 && next == history.FromStart:
			c.first(p, op, e.T, run.At, p.startCeil, "log start was never higher than")
		case i == 0 && next == history.FromCommitted:
			c.first(p, op, e.T, run.At, max(p.startCeil, c.group(op).ceil), "the group had committed at most")
		case run.At < next:
			c.violate("went-back", op, e.T, run.At, "offset %d was read where %d was to come", run.At, next)
		case run.At > next && run.At > p.startCeil:
			c.violate("gap", op, e.T, next, "offset %d was read where %d was to come: the records between are missing", run.At, next)
		}
		if run.At < op.startFloor && op.Via == history.Final {
			c.violate("start-went-back", op, e.T, run.At, "offset %d was read, after everything below %d had been deleted", run.At, op.startFloor)
		}
		for j, rec := range run.Records {
			c.place(p, op, e.T, run.At+int64(j), rec, run.Epoch)
		}
		next = run.At + int64(len(run.Records))
	}
	if next >= 0 && next <= p.begun {
		p.known = max(p.known, next)
	}
	if op.Via == history.Final {
		c.covered(p, op, e, next)
	}
}

// first judges where a read began that was not told where.
func (c *Checker) first(p *part, op *pending, t, at, limit int64, why string) {
	if at > limit {
		c.violate("gap", op, t, limit, "the first offset that was read is %d, but %s %d", at, why, limit)
	}
}

// seen judges log start and high watermark as a replica told them.
func (c *Checker) seen(p *part, op *pending, e history.Event) {
	if e.High > p.begun {
		c.violate("impossible-offset", op, e.T, e.High, "the high watermark is %d after %d appends", e.High, p.begun)
		return
	}
	if e.Start > p.startCeil {
		c.violate("start-too-high", op, e.T, e.Start, "log start is %d, but nobody has deleted records above %d", e.Start, p.startCeil)
	}
	if op.Via == history.Follower {
		p.known = max(p.known, e.High)
		return
	}
	const stale = "the leader's high watermark is %d; before it was asked, everything below %d was known to be committed"
	switch {
	case e.High >= op.known:
	case op.Via == history.Final:
		c.violate("lost", op, e.T, e.High, stale, e.High, op.known)
	default:
		p.suspect(e.High, op.Term, "stale-read", op, e.T, e.High, stale, e.High, op.known)
	}
	if floor := op.lowest(); e.Start < floor {
		c.violate("start-went-back", op, e.T, e.Start, "log start is %d; before it was asked, everything below %d had been deleted", e.Start, floor)
	}
	if op.Term > 0 {
		p.starts[op.Term] = max(p.starts[op.Term], e.Start)
	}
	p.known, p.startFloor = max(p.known, e.High), max(p.startFloor, min(e.Start, p.startCeil))
}

// lowest is the log start that a leader of the operation's term can't be below. A
// deletion does not say in which term it was done.
func (op *pending) lowest() int64 {
	if op.Via == history.Final {
		return op.startFloor
	}
	return op.toldStart
}

// suspect notes an answer that only a former leader may give.
func (p *part) suspect(lacks, term int64, kind string, op *pending, t, offset int64, format string, args ...any) {
	p.suspicions = append(p.suspicions, suspicion{violation(kind, op, t, offset, format, args...), max(lacks, 0), term})
}

// told is the highest log start that leaders up to a term have told.
func (p *part) told(term int64) (start int64) {
	for t, s := range p.starts {
		if t <= term {
			start = max(start, s)
		}
	}
	return start
}

// covered notes how far the final reads have come.
func (c *Checker) covered(p *part, op *pending, e history.Event, next int64) {
	if op.Offset == history.FromStart {
		p.finalFrom, p.finalTo = e.Start, e.Start
		if len(e.Runs) > 0 {
			p.finalFrom = e.Runs[0].At
		} else if e.High > e.Start {
			p.finalFrom = -1
			return
		}
	}
	p.finalTo, p.finalHigh = max(p.finalTo, next), max(p.finalHigh, e.High)
}

func (c *Checker) endTruncate(op *pending, e history.Event) {
	p := c.part(op.Topic, op.Partition)
	switch {
	case e.Start < op.Offset:
		c.violate("not-deleted", op, e.T, e.Start, "records below %d were to be deleted, log start is %d", op.Offset, e.Start)
	case e.Start > p.startCeil:
		c.violate("start-too-high", op, e.T, e.Start, "log start is %d, but nobody has deleted records above %d", e.Start, p.startCeil)
	default:
		p.startFloor = max(p.startFloor, e.Start)
	}
}

// endForTime keeps the answer until all records' times are known.
func (c *Checker) endForTime(op *pending, e history.Event) {
	p := c.part(op.Topic, op.Partition)
	p.queries = append(p.queries, query{op: op, offset: e.Offset, start: p.startCeil})
}

// judgeTimes judges what was answered to questions for a time: no record before the
// answer, and after log start, is as new; the record at the answer is.
func (c *Checker) judgeTimes(p *part, newest []int64) {
	for _, q := range p.queries {
		at, want := q.offset, q.op.Millis
		if at < 0 { // no record is as new
			at = min(q.op.known, int64(len(p.slots)))
			for at > 0 && (p.slots[at-1].epoch < 0 || int64(p.slots[at-1].epoch) > q.op.Term) {
				at-- // written after the term of the leader that was asked, maybe
			}
		} else if at < int64(len(p.slots)) && p.slots[at].client != nil {
			if s := p.slots[at]; s.client.records[s.n].millis < want {
				c.violate("time", q.op, q.op.T, at, "asked for the time %d, got offset %d with %d", want, at, s.client.records[s.n].millis)
			}
		}
		// Times of the log before its start do not count, and it may have been anywhere up to q.start.
		if last := min(at, int64(len(newest))) - 1; last >= q.start && newest[last] >= want && (q.start == 0 || newest[q.start-1] < want) {
			c.violate("time", q.op, q.op.T, at, "asked for the time %d, got offset %d, though an earlier record has %d", want, q.offset, newest[last])
		}
	}
}
