package seglog

import (
	"errors"
	"fmt"
	"syscall"
)

const (
	// writeChunks bounds the chunks of one vectored write.
	writeChunks = 8
	// writeTurns bounds the writes of one log while others wait.
	writeTurns = 4
	// directMin is the least that is worth a write around the page cache.
	directMin = 64 << 10
)

// writeJob is a run of bytes of one segment that are in memory only.
type writeJob struct {
	seg      *segment
	from, to int64
	bufs     [][]byte
	chunks   []*chunk
}

// flush writes full chunks and sealed segments or, if all, everything placed
// when it was called; detach gives up the current chunk too. more says that
// it stopped early. An error has ended the log: tell; but for ENOSPC, after
// which it may be called again.
func (l *Log) flush(all, detach bool) (more bool, err error) {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	more, err = l.flushLocked(all, detach)
	if errors.Is(err, syscall.ENOSPC) {
		// Nothing is lost: the bytes stay in memory and are written again, to
		// the same place. SyncTo fails until then, and the write-ahead log
		// keeps the entries.
		return more, fmt.Errorf("write segments in %s: %w", l.dir, err)
	}
	if err != nil {
		err = fmt.Errorf("write segments in %s: %w", l.dir, err)
		l.kill(err)
	}
	return more, err
}

func (l *Log) flushLocked(all, detach bool) (more bool, err error) {
	if err := l.alive(); err != nil {
		return false, nil
	}
	var last *segment // where it ends if all
	var goal int64
	l.mu.Lock()
	if n := len(l.unwritten); all && n > 0 {
		last = l.unwritten[n-1]
		goal = last.tailLocked()
	}
	l.mu.Unlock()
	for turn := 0; ; turn++ {
		if turn == writeTurns && !all {
			more = true
			break
		}
		if l.alive() != nil {
			return false, nil
		}
		l.mu.Lock()
		ok := l.nextJobLocked(all, last, goal)
		l.mu.Unlock()
		if !ok {
			break
		}
		if err := l.write(&l.job); err != nil {
			return false, err
		}
		l.mu.Lock()
		l.wroteLocked()
		l.mu.Unlock()
	}
	if detach {
		l.detach()
	}
	return more, l.finishSealed()
}

// nextJobLocked fills l.job with what is to be written next, oldest first.
func (l *Log) nextJobLocked(all bool, last *segment, goal int64) bool {
	j := &l.job
	j.bufs, j.chunks = j.bufs[:0], j.chunks[:0]
	for _, s := range l.unwritten {
		if s == last && s.written >= goal {
			return false
		}
		j.seg, j.from, j.to = s, s.written, s.written
		for _, c := range s.chunks {
			if c.end <= j.to {
				continue
			}
			if !all && !s.sealed && !c.full() || len(j.chunks) == writeChunks {
				break
			}
			j.bufs = append(j.bufs, c.bytes(j.to, c.end))
			j.chunks = append(j.chunks, c)
			j.to = c.end
		}
		if j.to > j.from {
			return true
		}
		if s == last {
			return false
		}
	}
	return false
}

// wroteLocked takes note that l.job is in its file.
func (l *Log) wroteLocked() {
	j := &l.job
	j.seg.written = j.to
	for _, c := range j.chunks {
		if c.end <= j.to && (c.full() || j.seg.sealed) {
			l.w.tails.retire(c)
		}
	}
	l.w.written.Add(j.to - j.from)
	clear(j.bufs)
	clear(j.chunks)
}

// detach gives up the chunk of a log that appends nothing now.
func (l *Log) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur == nil || l.appending {
		return
	}
	if s := l.segs[len(l.segs)-1]; l.cur.end <= s.written {
		l.w.tails.retire(l.cur)
		l.cur, l.streaming = nil, false
	}
}

// finishSealed gives sealed segments that are wholly in their files an index.
func (l *Log) finishSealed() error {
	for {
		l.mu.Lock()
		if len(l.unwritten) == 0 || !l.unwritten[0].sealed || l.unwritten[0].written < l.unwritten[0].bytes {
			l.mu.Unlock()
			return nil
		}
		s := l.unwritten[0]
		l.unwritten = append([]*segment(nil), l.unwritten[1:]...)
		for _, c := range s.chunks {
			l.w.tails.retire(c)
		}
		info, entries := s.infoLocked(), s.entries
		l.mu.Unlock()

		if s.direct != nil {
			err := s.direct.Close()
			s.direct = nil
			if err != nil {
				return err
			}
		}
		l.storeIndex(s, info, entries)
		l.mu.Lock()
		s.entries = nil
		l.mu.Unlock()
	}
}

// write puts a job's bytes into its file, around the page cache where that is
// possible and pays. Every byte is written once.
func (l *Log) write(j *writeJob) error {
	s := j.seg
	if s.file == nil {
		if err := s.openFiles(); err != nil {
			return err
		}
	}
	if s.direct == nil || j.to-j.from < directMin {
		return writeAll(s, j.bufs, j.from)
	}
	pos := j.from
	for _, buf := range j.bufs {
		if err := l.writeDirect(s, buf, pos); err != nil {
			return err
		}
		pos += int64(len(buf))
	}
	return nil
}

func writeAll(s *segment, bufs [][]byte, pos int64) error {
	_, err := s.file.WriteVAt(bufs, pos)
	return err
}

// writeDirect writes the whole pages of buf directly, the ends through the
// cache. Memory is aligned as the file is: see chunk.off.
func (l *Log) writeDirect(s *segment, buf []byte, pos int64) error {
	end := pos + int64(len(buf))
	from := (pos + pageSize - 1) &^ (pageSize - 1)
	to := end &^ (pageSize - 1)
	if to-from < directMin || s.direct == nil {
		return writeAll(s, [][]byte{buf}, pos)
	}
	if from > pos {
		if err := writeAll(s, [][]byte{buf[:from-pos]}, pos); err != nil {
			return err
		}
	}
	_, err := s.direct.WriteAt(buf[from-pos:to-pos], from)
	if err != nil && notDirect(err) {
		l.logger.Warn("file system refuses direct writes, using the page cache", "dir", l.dir, "err", err)
		err = errors.Join(s.direct.Close(), writeAll(s, [][]byte{buf[from-pos : to-pos]}, from))
		s.direct = nil
	}
	if err == nil && end > to {
		err = writeAll(s, [][]byte{buf[to-pos:]}, to)
	}
	return err
}

// openFiles opens the segment's file for writing; it makes it if the segment
// is new. wmu is held.
func (s *segment) openFiles() (err error) {
	open := s.log.fs.OpenWrite
	if s.written == 0 {
		open = s.log.fs.Create
	}
	f, err := open(s.name)
	if err != nil {
		return err
	}
	s.log.mu.Lock()
	s.file = f
	s.log.mu.Unlock()
	if s.log.w.buffered {
		return nil
	}
	direct, err := s.log.fs.OpenWrite(s.name)
	if err != nil {
		return err
	}
	if makeDirect(direct) {
		s.direct = direct
		return nil
	}
	return direct.Close()
}

// closeFiles needs wmu and syncMu.
func (s *segment) closeFiles() (err error) {
	if s.direct != nil {
		err = s.direct.Close()
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	s.file, s.direct = nil, nil
	return err
}
