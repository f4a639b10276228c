package group

import (
	"container/heap"
	"time"
)

// timer is something that is due at a time. It belongs to one machine.
type timer struct {
	at   time.Time // when fire is due
	wake time.Time // by which the heap sorts it: never after at
	seq  uint64    // among timers of one wake, the order in which they were set
	pos  int       // in the heap, from 1 on; 0: not set
	fire func()
}

// timers is a heap of timers. To put a timer off, as each heartbeat does, costs
// nothing: it stays where it is, and is sorted again when its old time has come.
type timers struct {
	heap []*timer
	seq  uint64
}

// set makes t due at a time, wherever it was before.
func (q *timers) set(t *timer, at time.Time) {
	t.at = at
	switch {
	case t.pos == 0:
		q.key(t)
		heap.Push(q, t)
	case at.Before(t.wake):
		q.key(t)
		heap.Fix(q, t.pos-1)
	}
}

// stop makes t never due.
func (q *timers) stop(t *timer) {
	if t.pos != 0 {
		heap.Remove(q, t.pos-1)
	}
}

// due takes out the next timer that is due by now, or returns nil.
func (q *timers) due(now time.Time) *timer {
	for len(q.heap) > 0 && !q.heap[0].wake.After(now) {
		t := q.heap[0]
		if t.wake.Equal(t.at) {
			heap.Pop(q)
			return t
		}
		q.key(t)
		heap.Fix(q, 0)
	}
	return nil
}

// next is when due has to be called at the latest; zero for never.
func (q *timers) next() time.Time {
	if len(q.heap) == 0 {
		return time.Time{}
	}
	return q.heap[0].wake
}

func (q *timers) key(t *timer) {
	q.seq++
	t.wake, t.seq = t.at, q.seq
}

// The heap.Interface, for container/heap alone.

func (q *timers) Len() int { return len(q.heap) }

func (q *timers) Less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	if a.wake.Equal(b.wake) {
		return a.seq < b.seq
	}
	return a.wake.Before(b.wake)
}

func (q *timers) Swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].pos, q.heap[j].pos = i+1, j+1
}

func (q *timers) Push(x any) {
	t := x.(*timer)
	q.heap = append(q.heap, t)
	t.pos = len(q.heap)
}

func (q *timers) Pop() any {
	last := len(q.heap) - 1
	t := q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	t.pos = 0
	return t
}
