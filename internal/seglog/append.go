package seglog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Append adds one complete, valid batch with the given base offset, which is
// at least the next offset, and leader epoch, which never falls. The batch is
// copied and not changed. Readers see it when Append returns; it is durable after SyncTo only.
//
// Append touches no file. It waits only while the node's tail memory is full
// of bytes that the Writer has not written yet.
func (l *Log) Append(batch []byte, baseOffset int64, leaderEpoch int32) error {
	b := Batch(batch)
	if err := b.checkFrame(); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	last := baseOffset + int64(b.LastOffsetDelta())
	l.appendMu.Lock()
	defer l.appendMu.Unlock()

	l.mu.Lock()
	if err := l.alive(); err != nil {
		l.mu.Unlock()
		return err
	}
	if baseOffset < l.next || last < baseOffset {
		next := l.next
		l.mu.Unlock()
		return fmt.Errorf("append at offset %d: %w: the next one is %d", baseOffset, ErrOutOfRange, next)
	}
	if leaderEpoch < l.epoch {
		epoch := l.epoch
		l.mu.Unlock()
		return fmt.Errorf("append at offset %d: leader epoch %d after %d", baseOffset, leaderEpoch, epoch)
	}
	seg := l.activeLocked(baseOffset, last, int64(len(batch)))
	l.appending = true
	a := appender{log: l, seg: seg, chunk: l.cur, crc: seg.crc}
	pos := seg.bytes
	l.mu.Unlock()

	// The fields that differ from what was produced lie in the first 16 bytes.
	var head [posMagic]byte
	copy(head[:], batch[:posMagic])
	binary.BigEndian.PutUint64(head[:], uint64(baseOffset))
	binary.BigEndian.PutUint32(head[posEpoch:], uint32(leaderEpoch))
	err := a.put(head[:])
	first := a.begin
	if err == nil {
		err = a.put(batch[posMagic:])
	}

	l.mu.Lock()
	a.placeLocked()
	l.appending = false
	if err == nil {
		seg.indexLocked(pos, baseOffset, l.interval)
		seg.bytes += int64(len(batch))
		seg.crc = a.crc
		seg.maxTime = max(seg.maxTime, b.maxTime())
		seg.last = last
		l.next, l.epoch = last+1, leaderEpoch
		if first.first < 0 {
			first.first, first.firstOffset = pos, baseOffset
		}
	}
	l.mu.Unlock()
	if l.alive() != nil && !l.closed() {
		l.wmu.Lock()
		l.abandon() // our chunk was spared while this call used it
		l.wmu.Unlock()
	}
	l.lastTick.Store(l.w.tick.Load())
	if l.w.tails.waiters.Load() > 0 {
		l.w.relieve() // the last round may have passed our chunk by
	}
	return err
}

// activeLocked returns the segment that the batch goes to: deterministic, from
// sizes and offsets alone.
func (l *Log) activeLocked(baseOffset, last, size int64) *segment {
	if n := len(l.segs); n > 0 {
		active := l.segs[n-1]
		if !active.sealed && active.fits(size, last, l.segmentBytes) {
			return active
		}
		l.sealLocked(active)
	}
	seg := l.newSegment(segmentKey{base: baseOffset})
	l.segs = append(l.segs, seg)
	l.unwritten = append(l.unwritten, seg)
	return seg
}

func (l *Log) sealLocked(s *segment) {
	if s.sealed {
		return
	}
	s.sealed = true
	if l.cur != nil {
		l.w.tails.expect(l.cur)
		l.cur = nil
	}
	l.w.enqueue(l, false)
}

// appender copies one batch into chunks. Chunks are the appender's own beyond
// their end, which it moves under Log.mu.
type appender struct {
	log   *Log
	seg   *segment
	chunk *chunk
	fill  int64  // bytes copied into chunk behind its end
	begin *chunk // where the batch begins
	crc   uint32 // of the segment
}

func (a *appender) put(p []byte) error {
	for len(p) > 0 {
		c := a.chunk
		if c == nil || c.end+a.fill == c.off+c.size {
			if err := a.nextChunk(); err != nil {
				return err
			}
			c = a.chunk
		}
		if a.begin == nil {
			a.begin = c
		}
		room := c.buf[c.end+a.fill-c.off:]
		n := copy(room, p)
		a.crc = crc32.Update(a.crc, castagnoli, room[:n])
		a.fill += int64(n)
		p = p[n:]
	}
	return nil
}

// placeLocked makes the copied bytes the writer's to write.
func (a *appender) placeLocked() {
	if a.chunk == nil || a.fill == 0 {
		return
	}
	a.chunk.end += a.fill
	a.fill = 0
	if a.chunk.full() {
		a.log.streaming = true
		a.log.w.tails.expect(a.chunk)
		a.log.w.enqueue(a.log, false)
	}
}

// nextChunk gets a chunk; it may wait, with no lock held.
func (a *appender) nextChunk() error {
	l := a.log
	l.mu.Lock()
	a.placeLocked()
	pos, large := a.seg.tailLocked(), l.streaming
	l.mu.Unlock()
	c, err := l.w.tails.get(l, pos, large, l.alive)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.alive(); err != nil {
		l.w.tails.discard([]*chunk{c})
		return err
	}
	a.seg.pruneLocked()
	a.seg.chunks = append(a.seg.chunks, c)
	a.chunk, l.cur = c, c
	return nil
}
