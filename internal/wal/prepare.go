package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

// spare is an allocated file without a number; what it holds means nothing.
type spare struct {
	file vfs.File
	path string
}

const (
	sparePrefix = "spare-"
	reserveName = "reserve" + tmpSuffix
)

func (l *Log) path(seq uint64) string { return vfs.Join(l.opts.Dir, fileName(seq)) }

// sparePath returns a name that no other spare has. Open and the preparer call it.
func (l *Log) sparePath() string {
	l.lastSpare++
	return vfs.Join(l.opts.Dir, fmt.Sprintf("%s%016x%s", sparePrefix, l.lastSpare, tmpSuffix))
}

// runPreparer keeps a next file and a reserve ready and releases old files,
// until the committer has ended.
func (l *Log) runPreparer() {
	for {
		job := l.nextJob()
		if job == nil {
			return
		}
		if err := job(); err != nil {
			l.fail("prepare or release a file", err)
		}
	}
}

// nextJob waits for something to do; nil is the end.
func (l *Log) nextJob() func() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; !l.stopping; l.prepare.Wait() {
		if l.fatal != nil {
			continue
		}
		if l.oldestFreeLocked() {
			f := l.files[0]
			l.files[0] = nil
			l.files = l.files[1:]
			l.handed += f.size
			return func() error { return l.release(f) }
		}
		last := l.files[len(l.files)-1]
		if l.noSpace != nil || !last.begun {
			continue
		}
		if l.next == nil {
			return func() error { return l.prepareNext(last.seq + 1) }
		}
		if l.reserve == nil {
			return l.prepareReserve
		}
	}
	return nil
}

// release takes the number away from a file that nothing needs and keeps it as
// a spare. The directory is synced before the bytes may change, and before the
// next file can go.
func (l *Log) release(f *logFile) error {
	if err := l.mustBegin(f.seq + 1); err != nil {
		return err
	}
	s := &spare{file: f.file, path: l.sparePath()}
	if err := l.opts.FS.Rename(f.path, s.path); err != nil {
		return err
	}
	if err := l.opts.FS.SyncDir(l.opts.Dir); err != nil {
		return err
	}
	l.mu.Lock()
	keep := f.size == l.opts.FileSize && len(l.spares) < maxSpares && l.sizeLocked() <= l.opts.SizeLimit-l.opts.FileSize
	keep = keep || f.size == l.opts.FileSize && len(l.spares) == 0 && l.next == nil
	if keep {
		l.spares = append(l.spares, s)
		l.handed -= f.size
	}
	l.mu.Unlock()
	if !keep {
		if err := l.discard(s); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !keep {
		l.handed -= f.size
	}
	l.noSpace = nil // there may be some now
	if l.freed != nil {
		close(l.freed)
		l.freed = nil
	}
	return nil
}

func (l *Log) discard(s *spare) error {
	return errors.Join(s.file.Close(), l.opts.FS.Remove(s.path))
}

// hand counts what the preparer takes into its hands, or gives back.
func (l *Log) hand(bytes int64) {
	l.mu.Lock()
	l.handed += bytes
	l.mu.Unlock()
}

// prepareNext makes the file that will follow the current one.
func (l *Log) prepareNext(seq uint64) error {
	l.mu.Lock()
	var s *spare
	if n := len(l.spares); n > 0 {
		s = l.spares[n-1]
		l.spares = l.spares[:n-1]
	}
	l.handed += l.opts.FileSize
	l.mu.Unlock()
	var err error
	if s == nil {
		if s, err = l.allocate(l.sparePath(), l.opts.FileSize); err != nil {
			l.hand(-l.opts.FileSize)
			return l.full(err)
		}
	}
	f := &logFile{file: s.file, size: l.opts.FileSize, path: l.path(seq)}
	if f.life, err = l.name(s, seq); err != nil {
		return errors.Join(err, s.file.Close())
	}
	if err := l.mustEnd(seq); err != nil {
		return errors.Join(err, s.file.Close())
	}
	l.mu.Lock()
	l.next = f
	l.handed -= l.opts.FileSize
	l.work.Signal()
	l.mu.Unlock()
	return nil
}

func (l *Log) prepareReserve() error {
	l.hand(l.opts.reserveSize())
	s, err := l.allocate(vfs.Join(l.opts.Dir, reserveName), l.opts.reserveSize())
	if err != nil {
		l.hand(-l.opts.reserveSize())
		return l.full(err)
	}
	l.mu.Lock()
	l.reserve = s
	l.handed -= l.opts.reserveSize()
	l.mu.Unlock()
	return nil
}

// allocate makes a file whose blocks are all written.
func (l *Log) allocate(path string, size int64) (*spare, error) {
	if free, err := l.opts.FS.Free(l.opts.Dir); err == nil && free < uint64(size) {
		return nil, fmt.Errorf("%d bytes are free: %w", free, syscall.ENOSPC)
	}
	if err := l.opts.FS.RemoveAll(path); err != nil {
		return nil, err
	}
	f, err := l.opts.FS.Create(path)
	if err != nil {
		return nil, err
	}
	s := &spare{file: f, path: path}
	if err = f.Preallocate(size); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, l.discard(s))
	}
	return s, nil
}

// full notes that there is no space for a file; other errors it returns.
func (l *Log) full(err error) error {
	if !errors.Is(err, syscall.ENOSPC) {
		if !errors.Is(err, syscall.EDQUOT) {
			return err
		}
		err = fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noSpace = fmt.Errorf("no room for the next file of the write-ahead log: %w", err)
	l.noSince = time.Now()
	l.work.Signal()
	return nil
}

// name gives a spare a birth, makes that durable, and then the file's name.
func (l *Log) name(s *spare, seq uint64) (life, error) {
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return life{}, err
	}
	born := life{seq: seq, salt: le.Uint64(salt[:])}
	b, err := encodeBirth(born, l.opts.Identity)
	if err != nil {
		return life{}, err
	}
	if _, err := s.file.WriteAt(b, 0); err != nil {
		return life{}, err
	}
	if err := s.file.Sync(); err != nil {
		return life{}, err
	}
	if err := l.opts.FS.Rename(s.path, l.path(seq)); err != nil {
		return life{}, err
	}
	return born, l.opts.FS.SyncDir(l.opts.Dir)
}
