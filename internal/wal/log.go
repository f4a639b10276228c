package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Log is a node's write-ahead log. It is safe for concurrent use.
type Log struct {
	opts    Options
	metrics *metrics

	wg        sync.WaitGroup // committer and preparer
	closeOnce sync.Once
	closeErr  error
	failOnce  sync.Once
	failed    atomic.Bool

	mu     sync.Mutex
	groups map[uint64]*Group
	tail   tail

	queue  []*request
	lazies int       // of the queue
	work   sync.Cond // the committer waits: requests, a next file, closing
	err    error     // why nothing more is accepted
	fatal  error     // err, when the disk failed

	files     []*logFile    // oldest first; the last is written to
	next      *logFile      // prepared, named as the successor
	reserve   *spare        // small, for a full disk
	spares    []*spare      // to be used again
	handed    int64         // bytes of files that the preparer has in its hands
	freed     chan struct{} // closed when a file was released; nil when nobody waits
	boundsMu  sync.Mutex    // held while bounds is written
	bounds    *bounds       // nil until Open has them
	lastSpare uint64        // number in the newest spare's name; not guarded
	prepare   sync.Cond     // the preparer waits: a next file is wanted, one can go, end
	noSpace   error         // why there is no next file: ENOSPC; nil: one is being made
	noSince   time.Time     // when that was
	warned    time.Time     // when it was said last that the limit is too small
	stopping  bool          // the committer has ended, the preparer must
	closed    bool
	down      bool // closeFiles has run

	commits commits // has a lock of its own, beneath mu

	syncing     bool // the committer is at work on the disk
	syncStarted time.Time
	fsyncs      uint64
	written     uint64
	copied      uint64
}

// Open opens the log in a directory, or begins it. It reads the whole log and
// checks every frame. Errors: *DamageError for damage other than a torn tail,
// *identity.MismatchError for the log of another node.
func Open(opts Options) (*Log, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	l := &Log{opts: opts, groups: make(map[uint64]*Group), tail: tail{budget: opts.TailBytes}}
	l.work.L, l.prepare.L = &l.mu, &l.mu
	l.metrics = newMetrics(l, opts.Registerer)
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	if err := l.metrics.register(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	c := &committer{log: l, file: l.files[len(l.files)-1], forward: true, credit: opts.SizeLimit / 2}
	l.wg.Add(2)
	go func() { defer l.wg.Done(); c.run() }()
	go func() { defer l.wg.Done(); l.runPreparer() }()
	return l, nil
}

// Group returns the part of one group; it is the same handle each time.
func (l *Log) Group(id uint64) *Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groupLocked(id)
}

func (l *Log) groupLocked(id uint64) *Group {
	g := l.groups[id]
	if g == nil {
		g = &Group{id: id, log: l}
		l.groups[id] = g
	}
	return g
}

// Groups returns the ids of the groups with anything stored, in order.
func (l *Log) Groups() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []uint64
	for id, g := range l.groups {
		if !g.emptyLocked() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Drop forgets entries, values and vote of a group; it is durable on return.
func (l *Log) Drop(id uint64) error {
	g := l.Group(id)
	g.write.Lock()
	defer g.write.Unlock()
	g.values.Lock()
	defer g.values.Unlock()
	g.hasPending = false
	l.mu.Lock()
	empty, err := g.emptyLocked() && g.queued == 0, l.usableLocked()
	l.mu.Unlock()
	if empty || err != nil {
		return err
	}
	r := newRequest(g, opDrop)
	r.add(frameHeader{kind: KindDrop}, nil, nil)
	if err := l.do(r); err != nil {
		return fmt.Errorf("drop group %d from the write-ahead log: %w", id, err)
	}
	return nil
}

// LastSync says when the committer last began to write and sync, and whether it
// is still at it: a disk that is stuck shows as running and started long ago.
func (l *Log) LastSync() (started time.Time, running bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.syncStarted, l.syncing
}

// Stats describes the log. It looks at every group.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Files: len(l.files), SizeBytes: l.sizeLocked(), Fsyncs: l.fsyncs, WrittenBytes: l.written,
		CopiedBytes: l.copied, CacheBytes: l.tail.bytes, Full: l.noSpace != nil,
	}
	if len(l.files) == 0 {
		return s
	}
	s.OldestFile, s.CurrentFile = l.files[0].seq, l.files[len(l.files)-1].seq
	for _, f := range l.files {
		s.LiveBytes += f.liveBytes
	}
	for id, g := range l.groups {
		if !g.emptyLocked() {
			s.Groups++
		}
		if n := g.liveLocked(); n > s.PinnedBytes && g.pinsLocked(s.OldestFile) {
			s.PinnedBy, s.PinnedBytes = id, n
		}
	}
	return s
}

// Written is the WrittenBytes of Stats, which takes longer.
func (l *Log) Written() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written
}

// usedLocked is the size without spares: what grows the log when it grows.
func (l *Log) usedLocked() int64 { return l.sizeLocked() - int64(len(l.spares))*l.opts.FileSize }

func (l *Log) sizeLocked() (sum int64) {
	sum = l.handed
	for _, f := range l.files {
		sum += f.size
	}
	if l.next != nil {
		sum += l.next.size
	}
	if l.reserve != nil {
		sum += l.opts.reserveSize()
	}
	return sum + int64(len(l.spares))*l.opts.FileSize
}

// Close writes what is queued, ends the log in an orderly way and waits for its
// goroutines. Calls that come later get ErrClosed. It is idempotent and returns
// the failure of the disk, if there was one.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		if l.err == nil {
			l.err = ErrClosed
		}
		l.closed = true
		l.work.Signal()
		l.mu.Unlock()
		l.wg.Wait()
		l.metrics.unregister()
		l.closeErr = errors.Join(l.fatal, l.closeFiles())
	})
	return l.closeErr
}

// closeFiles waits for readers by way of unpin: a file that is being read is
// closed by its last reader.
func (l *Log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	l.closed, l.down = true, true
	for _, f := range append(l.files, l.next) {
		if f != nil && f.readers == 0 {
			errs = append(errs, f.file.Close())
		}
	}
	for _, f := range append(l.spares, l.reserve) {
		if f != nil {
			errs = append(errs, f.file.Close())
		}
	}
	if l.bounds != nil && l.bounds.file != nil {
		errs = append(errs, l.bounds.file.Close())
	}
	l.next, l.spares, l.reserve, l.bounds = nil, nil, nil, nil
	return errors.Join(errs...)
}

func (l *Log) usableLocked() error { return l.err }

// Failed says that a write or fsync has failed; it is true before anybody else
// learns of it.
func (l *Log) Failed() bool { return l.failed.Load() }

// fail makes an error final. It is called by the log's own goroutines. OnFatal
// comes before callers get the error: raft panics when it gets one for a vote.
func (l *Log) fail(what string, err error) error {
	l.failOnce.Do(func() {
		err = fmt.Errorf("write-ahead log in %s failed and accepts nothing more: %s: %w", l.opts.Dir, what, err)
		l.failed.Store(true)
		if l.opts.OnFatal != nil {
			l.opts.OnFatal(err)
		} else {
			l.opts.Logger.Error("write-ahead log failed", "err", err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err, l.fatal = err, err
		l.work.Signal()
		l.prepare.Signal()
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// do queues a request and waits for the disk. It owns the request.
func (l *Log) do(r *request) error {
	l.mu.Lock()
	if err := l.err; err != nil {
		l.mu.Unlock()
		r.recycle()
		return err
	}
	if r.op == opAppend {
		r.pass = r.group.pass
		l.slowDownLocked()
		if err := l.err; err != nil {
			l.mu.Unlock()
			r.recycle()
			return err
		}
	}
	l.enqueueLocked(r)
	l.mu.Unlock()
	err := <-r.done
	r.recycle()
	return err
}

func (l *Log) enqueueLocked(r *request) {
	l.queue = append(l.queue, r)
	if r.lazy() {
		if l.lazies++; l.lazies < flushLazy {
			return
		}
	}
	l.work.Signal()
}
