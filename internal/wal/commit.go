package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"syscall"
	"time"
)

// committer is the goroutine that writes: it alone changes the current file.
type committer struct {
	log     *Log
	file    *logFile
	durable link  // everything before it is
	forward bool  // look for groups to copy forward
	credit  int64 // bytes that may be copied; see gather
	pace    pace

	batch []*request
	bytes int64 // of the batch's frames
	count int   // of the batch's frames
	spare []*request
	bufs  [][]byte
	head  [batchHead]byte
	zeros [pageSize]byte
	sum   summer
}

// run writes what is queued until Close. After a failure of the disk it only
// answers.
//
// What arrives during one sync makes the next batch. While many groups are
// active it also waits a moment for more of them (pace).
func (c *committer) run() {
	l := c.log
	c.durable = link{seq: c.file.seq, end: c.file.end}
	for {
		l.mu.Lock()
		for !l.closed && !l.workLocked() {
			l.work.Wait()
		}
		if c.pace.worth(len(l.queue)) && !l.closed && l.fatal == nil {
			l.mu.Unlock()
			time.Sleep(c.pace.gather())
			l.mu.Lock()
		}
		c.pace.note(l.queue, time.Now())
		reqs, closing, fatal := l.queue, l.closed, l.fatal
		l.queue, l.lazies = c.spare[:0], 0
		began := time.Now()
		l.syncing, l.syncStarted = fatal == nil, began
		l.mu.Unlock()

		if fatal != nil {
			answer(reqs, fatal)
		} else {
			_ = c.commit(reqs) // has answered
			c.pace.wrote(time.Since(began))
			if c.forward && !closing {
				c.copyForward()
			}
			if closing {
				c.end()
			}
		}
		clear(reqs)
		c.spare = reqs[:0]

		l.mu.Lock()
		l.syncing = false
		if closing {
			l.stopping = true
			l.prepare.Signal()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// workLocked says whether somebody waits, or enough has gathered.
func (l *Log) workLocked() bool {
	return len(l.queue) > l.lazies || l.lazies >= flushLazy && l.noSpace == nil
}

// commit writes requests in their order, in as few batches as the files allow,
// and answers them. The error is that of the last one that failed.
func (c *committer) commit(reqs []*request) (failed error) {
	for i, r := range reqs {
		if c.room() < r.size {
			err := c.flush()
			if err == nil {
				err = c.advance(r)
			}
			if err == nil && c.room() < r.size {
				err = fmt.Errorf("write of %d bytes does not fit a log file: %w", r.size, syscall.ENOSPC)
			}
			if err != nil {
				failed = err
			}
			switch {
			case err == nil:
			case !errors.Is(err, syscall.ENOSPC) || c.failed():
				answer(reqs[i:], err)
				return err
			case r.lazy():
				c.postpone(reqs[i:], err)
				return err
			default:
				answer(reqs[i:i+1], err)
				continue
			}
		}
		c.batch = append(c.batch, r)
		c.bytes += r.size
		c.count += len(r.parts)
	}
	if err := c.flush(); err != nil {
		failed = err
	}
	return failed
}

func (c *committer) failed() bool {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.log.fatal != nil
}

// postpone puts removals for which there was no room back into the queue and
// answers the rest: what a group writes must not overtake its removals.
func (c *committer) postpone(reqs []*request, err error) {
	var lazy []*request
	for _, r := range reqs {
		if r.lazy() {
			lazy = append(lazy, r)
		} else {
			answer([]*request{r}, err)
		}
	}
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(lazy, l.queue...)
	l.lazies += len(lazy)
}

// room is what the frames of one more request may take in the batch.
func (c *committer) room() int64 {
	return c.file.size - c.file.end - batchHead - c.bytes
}

// flush writes and syncs the batch, applies it and answers its requests.
func (c *committer) flush() error {
	if len(c.batch) == 0 {
		return nil
	}
	l, f := c.log, c.file
	base := f.end
	end, err := c.write(base)
	if err == nil {
		l.mu.Lock()
		at := base + batchHead
		for _, r := range c.batch {
			at = l.applyLocked(r, f.seq, at)
			c.forward = c.forward || len(r.unpins) > 0
		}
		f.end = end
		l.fsyncs++
		l.written += uint64(end - base)
		if c.batch[0].op != opForward { // a copy has a batch of its own
			c.earn(end - base)
		}
		l.mu.Unlock()
		c.durable = link{seq: f.seq, end: end}
	}
	answer(c.batch, err)
	clear(c.batch)
	c.batch, c.bytes, c.count = c.batch[:0], 0, 0
	return err
}

// write puts the batch on the disk.
func (c *committer) write(base int64) (end int64, err error) {
	l, f := c.log, c.file
	at, body := base+batchHead, uint32(0)
	c.bufs = append(c.bufs[:0], c.head[:])
	for _, r := range c.batch {
		for i, p := range r.parts {
			head := r.headers[i*frameHead : (i+1)*frameHead]
			le.PutUint32(head, c.sum.sum(f.life, at, head[4:]))
			body = crc32.Update(body, castagnoli, head[:4])
			c.bufs = append(c.bufs, head)
			if len(p.data) > 0 {
				c.bufs = append(c.bufs, p.data)
			}
			if len(p.ext) > 0 {
				c.bufs = append(c.bufs, p.ext)
			}
			at += frameHead + int64(len(p.data)+len(p.ext))
		}
	}
	h := batchHeader{length: uint32(at - base), count: uint32(c.count), body: body, durable: c.durable}
	h.encode(c.head[:], &c.sum, f.life, base)
	if pad := min(-at&(pageSize-1), f.size-at); pad > 0 {
		c.bufs = append(c.bufs, c.zeros[:pad])
	}
	began := time.Now()
	_, err = f.file.WriteVAt(c.bufs, base)
	clear(c.bufs)
	if err != nil {
		return 0, l.fail("write", err)
	}
	started := time.Now()
	if err := f.file.Sync(); err != nil {
		return 0, l.fail("fsync", err)
	}
	ended := time.Now()
	l.commits.note(ended, ended.Sub(began))
	l.metrics.fsyncSeconds.Observe(ended.Sub(started).Seconds())
	l.metrics.fsyncs.Inc()
	l.metrics.bytes.Add(float64(at - base))
	l.metrics.batchEntries.Observe(float64(c.count))
	return at, nil
}

// answer tells callers, and recycles what has no caller.
func answer(reqs []*request, err error) {
	for _, r := range reqs {
		switch r.op {
		case opAppend, opValue, opDrop:
			r.done <- err
		default:
			r.recycle()
		}
	}
}

// applyLocked brings a durable request into memory; its first frame is at off.
func (l *Log) applyLocked(r *request, seq uint64, off int64) (next int64) {
	g := r.group
	switch r.op {
	case opDrop:
		l.dropLocked(g)
	case opRemove:
		g.queued--
	}
	for _, u := range r.unpins {
		l.unpinLocked(u)
	}
	for i, part := range r.parts {
		p := place{seq: seq, off: uint32(off), size: uint32(frameHead + len(part.data) + len(part.ext))}
		off += int64(p.size)
		switch r.op {
		case opAppend:
			log := *r.logs[i]
			trimEmpty(&log)
			g.appendLocked(log.Index, log.Term, p)
			l.pinLocked(p)
			l.tail.push(g, &log)
			g.pass = false
		case opValue:
			head := r.headers[i*frameHead:]
			l.pinLocked(p)
			l.unpinPlaceLocked(g.setLocked(Kind(head[4]), le.Uint64(head[40:]), part.data, part.ext, p))
		case opForward:
			l.movedLocked(r.copies[i], part, p)
		}
	}
	return off
}

// dropLocked forgets all of a group.
func (l *Log) dropLocked(g *Group) {
	l.tail.dropFirst(g, len(g.slots))
	for _, s := range g.slots {
		l.unpinPlaceLocked(place{seq: s.seq, off: s.off, size: s.size})
	}
	for _, v := range g.stable {
		l.unpinPlaceLocked(v.place)
	}
	l.unpinPlaceLocked(g.vote.place)
	g.first, g.slots, g.recent, g.stable, g.vote, g.term = 0, nil, nil, nil, value{}, 0
}

// end closes the log in an orderly way with an empty batch, so that the batch
// before it can't be taken for a torn one.
func (c *committer) end() {
	if c.failed() || c.room() < 0 {
		return
	}
	c.batch = append(c.batch, newRequest(nil, opEnd))
	_ = c.flush() // fail has reported it
}

// advance moves on to the next file, waiting for it if need be. An error that
// wraps ENOSPC says that there is none and that r may not use the reserve.
func (c *committer) advance(r *request) error {
	l := c.log
	l.mu.Lock()
	for l.next == nil && l.fatal == nil {
		if l.noSpace == nil {
			l.work.Wait()
			continue
		}
		if time.Since(l.noSince) >= retryAfter {
			l.noSpace = nil
			l.prepare.Signal()
			continue
		}
		if l.reserve != nil && (r.op != opAppend || r.pass) && r.size <= l.opts.reserveSize()-dataOffset-batchHead {
			break
		}
		defer l.mu.Unlock()
		return l.noSpace
	}
	if l.fatal != nil {
		defer l.mu.Unlock()
		return l.fatal
	}
	f, reserve := l.next, l.reserve
	if f != nil {
		l.next, l.noSpace, reserve = nil, nil, nil
	} else {
		l.reserve = nil
		f = &logFile{file: reserve.file, size: l.opts.reserveSize(), path: l.path(c.file.seq + 1)}
		f.seq = c.file.seq + 1
	}
	f.end = dataOffset
	l.files = append(l.files, f)
	l.syncStarted = time.Now()
	l.mu.Unlock()

	if reserve != nil {
		l.opts.Logger.Warn("disk is full: the write-ahead log goes on in its reserve", "file", f.path)
		born, err := l.name(reserve, f.seq)
		if err == nil {
			err = l.mustEnd(f.seq)
		}
		if err != nil {
			return l.fail("begin the reserve file", err)
		}
		f.salt = born.salt
	}
	_, err := f.file.WriteAt(encodeLink(f.life, c.durable), linkOffset)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return l.fail("begin the next file", err)
	}
	l.mu.Lock()
	f.begun = true
	l.prepare.Signal()
	half := l.usedLocked() > l.opts.SizeLimit/2
	l.mu.Unlock()
	if half {
		l.pressure()
	}
	c.file, c.forward = f, true
	return nil
}

// roomLocked says whether a truncation may go ahead: the append that follows it
// must not fail for want of space.
func (l *Log) roomLocked() error {
	f := l.files[len(l.files)-1]
	if l.next != nil || l.noSpace == nil || f.size-f.end >= min(lowRoom, l.opts.maxRequest()) {
		return nil
	}
	return l.noSpace
}
