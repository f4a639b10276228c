package seglog

import (
	"sync"
	"sync/atomic"
)

// blockBytes is the unit in which files are read and cached.
const blockBytes = 256 << 10

// readAhead is how many blocks beyond a sequential read are fetched early.
const readAhead = 8

type blockKey struct {
	seg *segment
	n   int64
}

// block is a chunk that is, or is being, read from a file.
type block struct {
	chunk
	seg     *segment
	claimed atomic.Bool   // somebody reads it
	ready   chan struct{} // closed when end or err is set
	err     error
}

// blocks caches pieces of segment files that were read lately, and reads ahead
// for sequential readers. All readers of a segment share it.
type blocks struct {
	mem   buffers
	cache *cache[blockKey, *block]

	mu     sync.Mutex // guards closed and sends on queue
	closed bool
	queue  chan *block
	wg     sync.WaitGroup
}

func newBlocks(budget int64) *blocks {
	b := &blocks{queue: make(chan *block, 64)}
	b.mem.size = blockBytes
	budget = max(budget, 4*blockBytes)
	b.mem.arena = &arena{limit: budget + 2*readAhead*blockBytes} // some are always in readers' hands
	b.cache = newCache[blockKey](budget,
		func(b *block) { b.refs.Add(1) }, func(b *block) { b.release() })
	for range 2 {
		b.wg.Go(func() {
			for blk := range b.queue {
				b.load(blk)
				blk.release()
			}
		})
	}
	return b
}

// close stops reading ahead and waits until that has ended.
func (b *blocks) close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.queue)
	}
	b.mu.Unlock()
	b.wg.Wait()
	b.cache.removeIf(func(blockKey) bool { return true })
}

func (b *blocks) forget(seg *segment) {
	b.cache.removeIf(func(k blockKey) bool { return k.seg == seg })
}

// entry returns the retained block n of seg, of which the file holds written
// bytes; unless it was cached it has yet to be loaded.
func (b *blocks) entry(seg *segment, n, written int64) (blk *block, added bool) {
	if blk, ok := b.cache.get(blockKey{seg, n}); ok {
		return blk, false
	}
	blk = &block{seg: seg, ready: make(chan struct{})}
	blk.home = &b.mem
	blk.off, blk.start = n*blockBytes, n*blockBytes
	blk.end = min(blk.off+blockBytes, written)
	blk.refs.Store(1) // the cache's; add retains it for us
	stored, added := b.cache.add(blockKey{seg, n}, blk, blockBytes)
	return stored, added
}

// get returns block n of seg, retained, with all its bytes below need.
func (b *blocks) get(seg *segment, n, written, need int64) (blk *block, hit bool, err error) {
	for {
		blk, added := b.entry(seg, n, written)
		b.load(blk)
		switch {
		case blk.err != nil:
			err := blk.err
			b.drop(blk)
			if !added {
				continue // somebody else's failure: try ourselves
			}
			return nil, false, err
		case blk.end >= need:
			return blk, !added, nil
		}
		b.drop(blk) // it was read when the file was shorter
	}
}

// drop removes blk from the cache, unless another took its place, and lets go.
func (b *blocks) drop(blk *block) {
	key := blockKey{blk.seg, blk.off / blockBytes}
	b.cache.mu.Lock()
	if e := b.cache.byKey[key]; e != nil && e.Value.(*cached[blockKey, *block]).value == blk {
		b.cache.removeLocked(e)
	}
	b.cache.mu.Unlock()
	blk.release()
}

// load reads a block, or waits for whoever does.
func (b *blocks) load(blk *block) {
	if !blk.claimed.CompareAndSwap(false, true) {
		<-blk.ready
		return
	}
	defer close(blk.ready)
	buf := b.mem.get()
	blk.buf = buf
	blk.err = blk.seg.readFile(buf[:blk.end-blk.off], blk.off)
}

// ahead begins to read the blocks [from, to) of seg that are not cached.
// It never blocks: what does not fit into the queue is not read early.
func (b *blocks) ahead(seg *segment, from, to, written int64) {
	for n := from; n < to && n*blockBytes < written; n++ {
		if b.cache.has(blockKey{seg, n}) {
			continue
		}
		blk, added := b.entry(seg, n, written)
		if !added || !b.enqueue(blk) {
			blk.release()
		}
	}
}

func (b *blocks) enqueue(blk *block) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	select {
	case b.queue <- blk:
		return true
	default:
		return false
	}
}
