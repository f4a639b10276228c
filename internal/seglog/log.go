package seglog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/raftsman/raftsman/internal/vfs"
)

// Options of a Log.
type Options struct {
	FS     vfs.FS
	Dir    string // made if missing; other files in it are left alone
	Logger *slog.Logger
	// Writer is shared by all logs of a node; required.
	Writer *Writer
	// SegmentBytes is the length that a segment does not exceed unless one
	// batch does; default 256 MiB, at most 2 GiB. Replicas must agree on it.
	SegmentBytes int64
	// IndexInterval is the number of bytes between index entries; default 4096.
	IndexInterval int
	// OnFatal is called once when a write or fsync failed, with no lock held,
	// on the goroutine of a SyncTo or of the Writer: it may close the log, but
	// not wait for the Writer. The log accepts nothing more.
	OnFatal func(error)
	// OnDamage is told of each segment that a Read found damaged, once until it
	// is mended. It must not block or call the log.
	OnDamage func(segment int64, err *DamageError)
}

// maxSegmentBytes keeps file positions within an index entry.
const maxSegmentBytes = 2 << 30

func (o *Options) setDefaults() error {
	if o.FS == nil || o.Dir == "" || o.Writer == nil {
		return errors.New("options need FS, Dir and Writer")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 256 << 20
	}
	if o.IndexInterval == 0 {
		o.IndexInterval = 4096
	}
	if o.SegmentBytes < 0 || o.SegmentBytes > maxSegmentBytes || o.IndexInterval < 0 || o.IndexInterval > 1<<20 {
		return fmt.Errorf("segment bytes %d or index interval %d out of range", o.SegmentBytes, o.IndexInterval)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.OnDamage == nil {
		o.OnDamage = func(int64, *DamageError) {}
	}
	return nil
}

// Log is the segments of one partition replica. It is safe for concurrent use;
// the order of Append and SetStart is their caller's affair.
type Log struct {
	fs           vfs.FS
	dir          string
	logger       *slog.Logger
	w            *Writer
	segmentBytes int64
	interval     int64
	onFatal      func(error)
	onDamage     func(int64, *DamageError)

	lastTick atomic.Int64          // Writer.tick of the last Append
	dead     atomic.Pointer[error] // why it accepts nothing more: closed or failed
	failure  atomic.Pointer[error] // what failed, until OnFatal was told

	compactMu sync.Mutex // one Compact at a time; Close waits for it
	appendMu  sync.Mutex // one Append, Roll or SetStart at a time

	syncMu sync.Mutex // one SyncTo, removal or Close at a time
	wmu    sync.Mutex // one writer of the files at a time
	job    writeJob   // scratch; guarded by wmu

	indexMu sync.Mutex // one index is loaded at a time

	mu        sync.Mutex
	start     int64
	next      int64
	epoch     int32      // of the last batch, as far as it was seen
	segs      []*segment // not obsolete, oldest first; the last is the active one
	stale     []*segment // obsolete, file not removed yet
	compacted Compacted
	unwritten []*segment // not wholly in their file, oldest first
	cur       *chunk     // of the active segment; where the next batch goes, may be full
	streaming bool       // the last chunk was filled: take large ones
	appending bool       // an Append is under way: cur is its own

	ended chan struct{} // closed by the first Interrupt

	queued, wantAll bool // guarded by Writer.mu
}

// alive returns why the log accepts nothing more.
func (l *Log) alive() error {
	if err := l.dead.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *Log) closed() bool { return errors.Is(l.alive(), ErrClosed) }

// kill makes err the log's end, under wmu: before another writer can try again
// what failed. Its caller calls tell when it holds no lock any more.
func (l *Log) kill(err error) {
	if l.dead.CompareAndSwap(nil, &err) {
		l.failure.Store(&err)
		l.abandon()
	}
}

// tell reports a failure, once.
func (l *Log) tell() {
	if err := l.failure.Swap(nil); err != nil {
		l.onFatal(*err)
	}
}

// abandon gives back the memory of what can't be written any more: it must not
// weigh on the other logs' budget. Under wmu, since a write may be reading it.
func (l *Log) abandon() {
	l.mu.Lock()
	var chunks []*chunk
	for _, s := range l.unwritten {
		for _, c := range s.chunks {
			if c.end > s.written && !(l.appending && c == l.cur) {
				chunks = append(chunks, c)
			}
		}
	}
	l.mu.Unlock()
	l.w.tails.discard(chunks)
}

// State describes the log as of now, including bytes that are not on disk.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked()
}

func (l *Log) stateLocked() State {
	st := State{Start: l.start, Next: l.next, Segments: l.infosLocked(), Compacted: l.compacted}
	for i := len(l.segs) - 1; i >= 0; i-- {
		if l.segs[i].bytes > 0 {
			st.Sealed = l.segs[i].sealed
			break
		}
	}
	return st
}

func (l *Log) infosLocked() []SegmentInfo {
	infos := make([]SegmentInfo, 0, len(l.segs))
	for _, s := range l.segs {
		if s.bytes > 0 {
			infos = append(infos, s.infoLocked())
		}
	}
	return infos
}

// OldestSegments lists what is stored above the log start, oldest first; the
// last is the active segment. It is what retention decides from.
func (l *Log) OldestSegments() []SegmentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.infosLocked()
}

// Offsets returns the log start and the next offset.
func (l *Log) Offsets() (start, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start, l.next
}

// Segments is how many segments there are.
func (l *Log) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segs)
}

// Size returns the bytes of all segments above the log start.
func (l *Log) Size() (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		bytes += s.bytes
	}
	return bytes
}

// Obsolete returns the bytes of the files that wait for RemoveObsolete.
func (l *Log) Obsolete() (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.stale {
		if !s.doomed {
			bytes += s.bytes
		}
	}
	return bytes
}

// Interrupt ends the Append that waits for memory, and those that come, and a
// Compact: the log
// is about to be closed, and the disk may not take what memory holds.
func (l *Log) Interrupt() {
	closed := ErrClosed
	if l.dead.CompareAndSwap(nil, &closed) {
		l.w.tails.wake()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ended:
	default:
		close(l.ended)
	}
}

// Close gives everything back. It writes nothing: what SyncTo did not make
// durable comes back by replay. Data that is still held stays readable. It
// waits for calls under way; an Append that waits for memory ends.
func (l *Log) Close() error {
	closed := ErrClosed
	l.Interrupt()
	l.compactMu.Lock()
	defer l.compactMu.Unlock()
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.mu.Lock()
	l.dead.Store(&closed)
	all := append(append([]*segment(nil), l.stale...), l.segs...)
	l.segs, l.stale, l.unwritten, l.cur = nil, nil, nil, nil
	var chunks []*chunk
	for _, s := range all {
		chunks = append(chunks, s.chunks...)
		s.chunks = nil
	}
	l.mu.Unlock()
	l.w.tails.discard(chunks)
	var err error
	for _, s := range all {
		err = errors.Join(err, s.closeFiles())
		l.forget(s)
	}
	return err
}

// forget drops what the node's caches hold of a segment.
func (l *Log) forget(s *segment) {
	l.w.blocks.forget(s)
	l.w.handles.remove(s)
	l.w.indexes.remove(s)
}

// Start returns the log start offset.
func (l *Log) Start() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start
}

// SetSegmentBytes changes Options.SegmentBytes for the appends that follow. All
// replicas must change it between the same two batches. Out of range is an
// error and changes nothing.
func (l *Log) SetSegmentBytes(n int64) error {
	if n <= 0 || n > maxSegmentBytes {
		return fmt.Errorf("segment bytes %d out of range", n)
	}
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segmentBytes = n
	return nil
}
