package seglog

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// CompactRequest says what a compaction does. But for Memory and Wait, which may
// differ, replicas that run the same ones in the same order end with the same
// files.
type CompactRequest struct {
	// Seq numbers the compactions of a log. One that was finished before, or one
	// after it, does nothing; one that was cut off goes on where it was.
	Seq int64
	// UpTo is where it ends. It is where a sealed segment ends.
	UpTo int64
	// SegmentBytes bounds the segments that are made of several small ones.
	SegmentBytes int64
	// Tombstones whose delete horizon is not behind Now go. Those that no
	// compaction has met before get Horizon. Both in ms.
	Now, Horizon int64
	// Memory bounds the map of keys, in bytes. If they do not fit, the segments are
	// read several times, and a bit is kept for each record.
	Memory int64
	// Wait is called before so many bytes are read or written (nil: nobody is).
	Wait func(ctx context.Context, bytes int) error
}

// CompactStats are what a compaction has done so far.
type CompactStats struct {
	Read, Written  int64 // bytes
	Before, After  int64 // bytes of the segments that were replaced, and of those in their place
	Records, Kept  int64
	Passes         int // over the keys
	Segments, Made int // that were replaced, and those in their place
}

// Compact removes from the sealed segments below UpTo the records that have a
// later one with their key below UpTo, and tombstones whose time has come
// (cleanup.policy=compact). Offsets stay, so there are gaps. The last batch below
// UpTo stays in any case, without records if need be: a reader always gets there.
//
// It makes new files and puts them, durable, in the place of the old ones, a
// group of segments at a time; readers go on. The old files go with a
// RemoveObsolete of a State that was taken later. It ends with an error when ctx
// does, or the log; what was replaced by then stays replaced.
func (l *Log) Compact(ctx context.Context, r CompactRequest) (stats CompactStats, err error) {
	defer l.tell()
	l.compactMu.Lock()
	defer l.compactMu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	defer close(watched)
	go func() {
		select {
		case <-l.ended:
			cancel(ErrClosed)
		case <-watched:
		}
	}()
	if r.Wait == nil {
		r.Wait = func(ctx context.Context, _ int) error { return context.Cause(ctx) }
	}
	pin := l.Pin()
	c := compaction{log: l, ctx: ctx, req: r, pin: pin, st: pin.st.Compacted, buf: make([]byte, scanBytes)}
	if r.Seq > c.st.Seq {
		err = c.run()
	}
	err = errors.Join(err, pin.Close())
	if err != nil {
		err = fmt.Errorf("compact %s up to offset %d: %w", l.dir, r.UpTo, err)
	}
	return c.stats, err
}

// compaction is one call of Compact.
type compaction struct {
	log *Log
	ctx context.Context
	req CompactRequest
	pin *Pin
	st  Compacted // of the log

	segs  []extent // sealed, below UpTo, oldest first
	keys  *keyMap
	part  uint64 // of parts: the keys that are in the map
	parts uint64
	dead  bits // by number of record, if there are several parts
	seen  int64

	buf   []byte
	stats CompactStats
}

// done is the offset below which this compaction has replaced everything.
func (c *compaction) done() int64 {
	if c.st.Pass == c.req.Seq {
		return c.st.Done
	}
	return 0
}

func (c *compaction) run() error {
	done := c.done()
	end := min(c.req.UpTo, c.pin.st.Next)
	for _, info := range c.pin.st.Segments {
		x := c.pin.segs[info.key()]
		if info.LastOffset >= end || !c.sealed(x) {
			end = min(end, info.Base)
			break
		}
		c.segs = append(c.segs, x)
	}
	if len(c.segs) > 0 && c.segs[len(c.segs)-1].last >= done {
		if err := c.learn(); err != nil {
			return err
		}
		if err := c.replaceAll(); err != nil {
			return err
		}
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	c.log.compacted = Compacted{
		Seq: c.req.Seq, UpTo: max(c.st.UpTo, end), Generation: c.st.Generation,
	}
	return nil
}

func (c *compaction) sealed(x extent) bool {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return x.seg.sealed
}

// learn finds out the last offset of each key of the records that were never
// compacted. If there are too many keys, it takes a part of them at a time, and
// notes which records they make superfluous.
func (c *compaction) learn() error {
	dirty := c.st.UpTo
	c.keys = newKeyMap(c.req.UpTo-max(dirty, c.segs[0].seg.base), c.req.Memory)
	for c.parts = 1; ; c.parts *= 2 {
		err := c.learnParts(dirty)
		if err == nil || !errors.Is(err, errManyKeys) || c.parts == 1<<20 {
			return err
		}
	}
}

func (c *compaction) learnParts(dirty int64) error {
	c.dead = nil
	for c.part = 0; c.part < c.parts; c.part++ {
		c.stats.Passes++
		c.keys.reset()
		for _, x := range c.segs {
			if x.last < dirty {
				continue
			}
			if err := c.scan(x, func(b Batch) error { return c.collect(b, dirty) }); err != nil {
				return err
			}
		}
		if c.parts == 1 {
			return nil
		}
		if err := c.mark(); err != nil {
			return err
		}
	}
	return nil
}

func (c *compaction) mine(h keyHash) bool { return c.parts == 1 || h.hi%c.parts == c.part }

// collect takes in the keys of a batch.
func (c *compaction) collect(b Batch, dirty int64) error {
	if b.Control() {
		return nil
	}
	var full error
	decode(b, func(r record) bool {
		offset := b.BaseOffset() + r.offsetDelta
		if r.key == nil || offset < dirty {
			return true
		}
		if h := hashKey(r.key); c.mine(h) {
			full = c.keys.put(h, offset)
		}
		return full == nil
	})
	return full
}

// mark notes the records that the keys in the map make superfluous.
func (c *compaction) mark() error {
	n := int64(0)
	for _, x := range c.rest() {
		err := c.scan(x, func(b Batch) error {
			if b.Control() {
				return nil
			}
			decode(b, func(r record) bool {
				if r.key != nil {
					if h := hashKey(r.key); c.mine(h) && c.keys.superseded(h, b.BaseOffset()+r.offsetDelta) {
						c.dead.set(n)
					}
				}
				n++
				return true
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// decode calls fn with the records of a batch. One that does not decode ends
// early, each time at the same record: replace keeps it as it is.
func decode(b Batch, fn func(r record) bool) {
	_ = b.decoded(func(p []byte) error { return b.each(p, fn) })
}

// superfluous is asked for each record that is left to be replaced, in order.
func (c *compaction) superfluous(offset int64, key []byte) bool {
	n := c.seen
	c.seen++
	if c.parts > 1 {
		return c.dead.has(n)
	}
	return key != nil && c.keys.superseded(hashKey(key), offset)
}

// rest are the segments that were not replaced yet.
func (c *compaction) rest() []extent {
	for i, x := range c.segs {
		if x.last >= c.done() {
			return c.segs[i:]
		}
	}
	return nil
}

// group is how many of the first segments become one: as many as fit into it as
// they are.
func (c *compaction) group(segs []extent) int {
	bytes := int64(0)
	for i, x := range segs {
		bytes += x.end
		if i > 0 && (bytes > c.req.SegmentBytes || x.last-segs[0].seg.base > math.MaxInt32) {
			return i
		}
	}
	return len(segs)
}

func (c *compaction) replaceAll() error {
	for segs := c.rest(); len(segs) > 0; {
		n := c.group(segs)
		if err := c.replace(segs[:n], n == len(segs)); err != nil {
			return err
		}
		segs = segs[n:]
	}
	return nil
}

// bits is a set of small numbers.
type bits []uint64

func (b *bits) set(n int64) {
	for int64(len(*b)) <= n/64 {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b bits) has(n int64) bool { return n/64 < int64(len(b)) && b[n/64]&(1<<(n%64)) != 0 }
