package seglog

import (
	"container/list"
	"sync"
	"sync/atomic"
	"unsafe"
)

// pageSize is what direct I/O wants addresses, offsets and lengths to be
// multiples of.
const pageSize = 4096

// chunk is a piece of a segment in memory: of its tail, or a block read from
// its file. Memory position i is file position off+i.
type chunk struct {
	home *buffers // takes buf back
	buf  []byte
	log  *Log // whose tail it is part of; nil for a block
	off  int64
	size int64        // of buf, which is nil once refs is 0
	refs atomic.Int32 // one for the tail or cache while it is found there

	start int64 // first valid file position; fixed
	end   int64 // behind the last valid one; grows under Log.mu

	// The first batch that begins in this chunk; first is -1 until there is
	// one. Guarded by Log.mu.
	first, firstOffset int64

	elem  *list.Element // in tails.filling or tails.clean; guarded by tails.mu
	clean bool          // which of them; guarded by tails.mu
	due   bool          // counted in tails.due; guarded by tails.mu
}

func (c *chunk) full() bool { return c.end == c.off+c.size }

// bytes are those of file positions [from, to), which must be valid.
func (c *chunk) bytes(from, to int64) []byte { return c.buf[from-c.off : to-c.off : to-c.off] }

// tryRetain fails when the chunk was evicted and nobody holds it any more.
func (c *chunk) tryRetain() bool {
	for {
		n := c.refs.Load()
		if n == 0 {
			return false
		}
		if c.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (c *chunk) release() {
	if n := c.refs.Add(-1); n == 0 {
		buf := c.buf
		c.buf = nil
		c.home.put(buf)
	} else if n < 0 {
		panic("BUG: chunk released twice")
	}
}

// arena is what several free lists may take from the heap. Free buffers stay
// within it, of whatever size; buffers in use may exceed it.
type arena struct {
	limit int64
	taken atomic.Int64 // in use or free
}

// buffers is a free list of page-aligned memory of one size. Memory that was
// used before is much cheaper than fresh one, on a virtual machine above all.
type buffers struct {
	size  int
	arena *arena
	other *buffers // gives way when the arena is full; may be nil
	mu    sync.Mutex
	free  [][]byte
}

func (b *buffers) get() []byte {
	if buf := b.pop(); buf != nil {
		return buf
	}
	if b.arena.taken.Add(int64(b.size)) > b.arena.limit && b.other != nil {
		for n := b.size; n > 0 && b.other.pop() != nil; n -= b.other.size {
			b.arena.taken.Add(-int64(b.other.size))
		}
	}
	return alignedBuffer(b.size)
}

// alignedBuffer is fresh memory that begins at a page.
func alignedBuffer(size int) []byte {
	// The runtime aligns objects of this size to pages, but promises nothing.
	raw := make([]byte, size+pageSize)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (pageSize - 1))
	return raw[skip : skip+size : skip+size]
}

func (b *buffers) pop() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.free)
	if n == 0 {
		return nil
	}
	buf := b.free[n-1]
	b.free[n-1] = nil
	b.free = b.free[:n-1]
	return buf
}

func (b *buffers) put(buf []byte) {
	if buf == nil {
		return
	}
	if b.arena.taken.Load() > b.arena.limit {
		b.arena.taken.Add(-int64(b.size))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, buf)
}

// tails is the memory of all tails of a node.
type tails struct {
	small, large buffers
	kick         func() // asks the writer to free memory; called without mu

	mu      sync.Mutex
	freed   sync.Cond
	budget  int64
	used    int64
	filling *list.List // *chunk, oldest first: not evictable
	clean   *list.List // *chunk, oldest first: evictable
	due     int        // filling chunks that the writer is about to write: full, or sealed
	closed  bool

	waiters atomic.Int32 // Appends that wait for memory
}

func newTails(budget int64, chunkBytes int, kick func()) *tails {
	t := &tails{kick: kick, filling: list.New(), clean: list.New()}
	t.large.size = chunkBytes
	t.small.size = max(pageSize, chunkBytes/16/pageSize*pageSize)
	t.budget = max(budget, 4*int64(chunkBytes))
	a := &arena{limit: t.budget}
	t.large.arena, t.large.other = a, &t.small
	t.small.arena, t.small.other = a, &t.large
	t.freed.L = &t.mu
	return t
}

// get returns an empty chunk for file positions from pos on. It evicts clean
// chunks, and waits for the writer when there are none. stop is asked before
// each wait, with mu held: an error ends the wait. Whoever changes its answer
// calls wake.
func (t *tails) get(l *Log, pos int64, large bool, stop func() error) (*chunk, error) {
	home := &t.small
	if large {
		home = &t.large
	}
	waiting := false
	t.mu.Lock()
	for t.used+int64(home.size) > t.budget && !t.closed {
		if t.evictLocked() {
			continue
		}
		t.mu.Unlock()
		if !waiting {
			waiting = true
			t.waiters.Add(1)
		}
		t.kick()
		t.mu.Lock()
		if err := stop(); err != nil {
			t.waiters.Add(-1)
			t.mu.Unlock()
			return nil, err
		}
		if t.used+int64(home.size) > t.budget && t.clean.Len() == 0 && !t.closed {
			t.freed.Wait()
		}
	}
	if waiting {
		t.waiters.Add(-1)
	}
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	t.used += int64(home.size)
	c := &chunk{home: home, log: l, off: pos &^ (pageSize - 1), size: int64(home.size), start: pos, end: pos, first: -1}
	c.refs.Store(1)
	c.elem = t.filling.PushBack(c)
	t.mu.Unlock()
	c.buf = home.get()
	return c, nil
}

// evictLocked drops the oldest clean chunk.
func (t *tails) evictLocked() bool {
	e := t.clean.Front()
	if e == nil {
		return false
	}
	t.dropLocked(e.Value.(*chunk))
	return true
}

func (t *tails) dropLocked(c *chunk) {
	if c.elem == nil {
		return
	}
	if c.clean {
		t.clean.Remove(c.elem)
	} else {
		t.removeFillingLocked(c)
	}
	c.elem = nil
	t.used -= c.size
	c.release()
}

// retire makes a chunk that is wholly in its file evictable.
func (t *tails) retire(c *chunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.elem == nil || c.clean {
		return
	}
	t.removeFillingLocked(c)
	c.clean = true
	c.elem = t.clean.PushBack(c)
	t.freed.Broadcast()
}

func (t *tails) removeFillingLocked(c *chunk) {
	t.filling.Remove(c.elem)
	if c.due {
		c.due = false
		t.due--
	}
}

// expect counts a chunk that was queued to be written and is freed then.
func (t *tails) expect(c *chunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.elem != nil && !c.clean && !c.due {
		c.due = true
		t.due++
	}
}

// discard drops chunks whatever they are: their log was closed or their
// segment removed.
func (t *tails) discard(chunks []*chunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range chunks {
		t.dropLocked(c)
	}
	t.freed.Broadcast()
}

// wake makes all waiters ask their stop again.
func (t *tails) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.freed.Broadcast()
}

func (t *tails) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.freed.Broadcast()
}

// busy says that memory is about to be freed without more being asked for.
func (t *tails) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.due > 0 || t.clean.Len() > 0
}

// logs calls fn, with mu held, for the logs with filling chunks, oldest first;
// for a log with several perhaps more than once.
func (t *tails) logs(fn func(*Log)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last *Log
	for e := t.filling.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*chunk).log; l != last {
			last = l
			fn(l)
		}
	}
}
