package wal

import (
	"time"

	"github.com/hashicorp/raft"
)

// tail keeps the newest entries of all groups in memory, within one budget.
// Log.mu guards it. The entries of each group in it are the last ones that the
// group has, so the list's front is always the first in its group.
type tail struct {
	budget, bytes int64
	front, back   *cached
	free          *cached // chained by next
}

// cached is one entry. Its slices belong to whoever stored the entry and are
// never changed.
type cached struct {
	prev, next *cached
	group      *Group
	typ        raft.LogType
	at         time.Time
	data, ext  []byte
}

const cachedOverhead = 160 // bytes of one cached, about

func (c *cached) cost() int64 { return cachedOverhead + int64(len(c.data)+len(c.ext)) }

// push adds g's newest entry and evicts the oldest ones above the budget.
func (t *tail) push(g *Group, log *raft.Log) {
	c := t.free
	if c == nil {
		c = new(cached)
	} else {
		t.free = c.next
	}
	*c = cached{prev: t.back, group: g, typ: log.Type, at: log.AppendedAt, data: log.Data, ext: log.Extensions}
	if t.back == nil {
		t.front = c
	} else {
		t.back.next = c
	}
	t.back = c
	t.bytes += c.cost()
	g.recent = append(g.recent, c)
	for t.front != nil && t.bytes > t.budget {
		g := t.front.group
		t.remove(t.front)
		g.recent[0] = nil
		g.recent = g.recent[1:]
	}
}

// remove takes c out of the list; the caller takes it out of its group.
func (t *tail) remove(c *cached) {
	if c.prev == nil {
		t.front = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		t.back = c.prev
	} else {
		c.next.prev = c.prev
	}
	t.bytes -= c.cost()
	*c = cached{next: t.free}
	t.free = c
}

// dropFirst forgets what g has in memory of its first n entries.
func (t *tail) dropFirst(g *Group, n int) {
	n -= len(g.slots) - len(g.recent)
	if n <= 0 {
		return
	}
	for i, c := range g.recent[:n] {
		t.remove(c)
		g.recent[i] = nil
	}
	g.recent = g.recent[n:]
}

// dropLast forgets what g has in memory of its last n entries.
func (t *tail) dropLast(g *Group, n int) {
	keep := max(0, len(g.recent)-n)
	for i, c := range g.recent[keep:] {
		t.remove(c)
		g.recent[keep+i] = nil
	}
	g.recent = g.recent[:keep]
}
