package check

import "github.com/raftsman/raftsman/internal/torture/history"

type groupKey struct {
	key
	group string
}

// committed is a group's offset of a partition.
type committed struct {
	floor int64         // the highest one that was acknowledged, or a later reset; -1: none
	ceil  int64         // the highest that anybody wanted
	maybe map[int64]int // commits under way, or of which nobody will ever know: by offset, how many
}

func (c *Checker) group(op *pending) *committed {
	k := groupKey{key{op.Topic, op.Partition}, op.Group}
	g := c.groups[k]
	if g == nil {
		g = &committed{floor: -1, ceil: -1, maybe: make(map[int64]int)}
		c.groups[k] = g
	}
	return g
}

func (c *Checker) beginGroup(op *pending) {
	g := c.group(op)
	op.floor = g.floor
	if op.Op == history.Commit {
		g.ceil = max(g.ceil, op.Offset)
		g.maybe[op.Offset]++
		if op.Reset { // it may come true, whatever is told of it
			g.floor = min(g.floor, op.Offset)
		}
	}
}

func (c *Checker) endCommit(op *pending, e history.Event) {
	g := c.group(op)
	if e.Is == history.Unknown {
		return // it may come true at any time
	}
	if g.maybe[op.Offset]--; g.maybe[op.Offset] <= 0 {
		delete(g.maybe, op.Offset)
	}
	switch {
	case e.Is == history.Failed:
	case op.Reset:
		g.floor = op.Offset
	case op.Offset < op.floor && !g.mayBe(op.Offset):
		c.violate("commit-went-back", op, e.T, op.Offset, "%d was committed after %d had been", op.Offset, op.floor)
	default:
		g.floor = max(g.floor, op.Offset)
	}
}

// mayBe says whether a commit of an offset up to this one may still come true.
func (g *committed) mayBe(limit int64) bool {
	for o := range g.maybe {
		if o <= limit {
			return true
		}
	}
	return false
}

func (c *Checker) endCommitted(op *pending, e history.Event) {
	g := c.group(op)
	switch {
	case e.Offset > g.ceil:
		c.violate("commit-made-up", op, e.T, e.Offset, "%d is committed, but nobody has committed more than %d", e.Offset, g.ceil)
	case e.Offset < op.floor && g.floor >= op.floor && g.maybe[e.Offset] == 0:
		c.violate("commit-lost", op, e.T, e.Offset, "%d is committed, but %d had been before it was asked", e.Offset, op.floor)
	}
}
