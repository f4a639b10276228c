package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/raftsman/raftsman/internal/vfs"
)

// logFile is an open log file that has been begun or prepared.
type logFile struct {
	life
	file vfs.File
	path string
	size int64

	// Guarded by Log.mu.
	begun     bool  // its link is durable
	end       int64 // where the next batch goes; the committer's alone to change
	live      int   // frames that still count
	liveBytes int64
	readers   int
}

func (l *Log) fileLocked(seq uint64) *logFile {
	f := l.files[seq-l.files[0].seq]
	if f.seq != seq {
		panic(fmt.Sprintf("BUG: file %016x of the write-ahead log is not in its place", seq))
	}
	return f
}

// pinLocked counts a frame as live.
func (l *Log) pinLocked(p place) {
	f := l.fileLocked(p.seq)
	f.live++
	f.liveBytes += int64(p.size)
}

// unpinLocked takes frames back that were counted.
func (l *Log) unpinLocked(u unpin) {
	f := l.fileLocked(u.seq)
	f.live -= u.count
	f.liveBytes -= u.bytes
	if f.live < 0 || f.liveBytes < 0 {
		panic(fmt.Sprintf("BUG: file %016x of the write-ahead log has %d live frames", f.seq, f.live))
	}
	if l.oldestFreeLocked() {
		l.prepare.Signal()
	}
}

func (l *Log) unpinPlaceLocked(p place) {
	if p.size > 0 {
		l.unpinLocked(unpin{seq: p.seq, bytes: int64(p.size), count: 1})
	}
}

// oldestFreeLocked says whether the oldest file can go: nothing in it counts,
// and the next one is known durably to follow it.
func (l *Log) oldestFreeLocked() bool {
	return len(l.files) > 1 && l.files[0].live == 0 && l.files[0].readers == 0 && l.files[1].begun
}

// unpin ends a read.
func (l *Log) unpin(f *logFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.readers--
	switch {
	case f.readers > 0:
	case l.down:
		f.file.Close()
	case l.oldestFreeLocked():
		l.prepare.Signal()
	}
}

// read reads and checks one frame, into memory of its own.
func (f *logFile) read(off, size int64) (Frame, error) {
	b := make([]byte, size)
	if n, err := f.file.ReadAt(b, off); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return Frame{}, fmt.Errorf("%s at byte %d: %w", f.path, off, err)
	}
	var s summer
	frame, n, reason := checkFrame(b, &s, f.life, off)
	if reason == "" && int64(n) != size {
		reason = "length of the frame is wrong"
	}
	if reason != "" {
		return Frame{}, &DamageError{File: f.path, Offset: off, Reason: reason}
	}
	frame.File = f.path
	return frame, nil
}
