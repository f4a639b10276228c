package seglog

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

// WriterOptions are the memory and goroutines that the logs of a node share.
// The zero value is good.
type WriterOptions struct {
	Logger *slog.Logger
	// TailBytes bounds the memory of all tails; default 256 MiB. Append waits
	// when it is full of bytes that are not in their files yet.
	TailBytes int64
	// ChunkBytes is the size of a large chunk, and of a write; default 1 MiB.
	ChunkBytes int
	// ReadCacheBytes bounds the cache of blocks read from files; default 64 MiB.
	ReadCacheBytes int64
	// IndexCacheBytes bounds the indexes of sealed segments in memory; default
	// 32 MiB.
	IndexCacheBytes int64
	// OpenFiles bounds the files open for reading; default 512.
	OpenFiles int
	// Workers is the number of goroutines that write; default 2.
	Workers int
	// IdleAfter is how long a log has to be idle for its tail to be written and
	// its chunk given up; default 5 s, at least 10 ms.
	IdleAfter time.Duration
	// FS and Dir name the file system on which the logs are; with them, syncs of
	// many logs at once become one of the whole file system, where it can do that.
	FS  vfs.FS
	Dir string
	// Buffered keeps writes in the page cache instead of going around it.
	Buffered bool
}

func (o *WriterOptions) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TailBytes <= 0 {
		o.TailBytes = 256 << 20
	}
	if o.ChunkBytes <= 0 {
		o.ChunkBytes = 1 << 20
	}
	o.ChunkBytes = (o.ChunkBytes + pageSize - 1) / pageSize * pageSize
	if o.ReadCacheBytes <= 0 {
		o.ReadCacheBytes = 64 << 20
	}
	if o.IndexCacheBytes <= 0 {
		o.IndexCacheBytes = 32 << 20
	}
	if o.OpenFiles <= 0 {
		o.OpenFiles = 512
	}
	if o.Workers <= 0 {
		o.Workers = 2
	}
	if o.IdleAfter <= 0 {
		o.IdleAfter = 5 * time.Second
	}
	o.IdleAfter = max(o.IdleAfter, 10*time.Millisecond)
}

// Writer is what all logs of a node share: the memory of their tails, the
// goroutines that write them to disk, and the caches of readers. It is safe
// for concurrent use.
type Writer struct {
	buffered bool
	tails    *tails
	blocks   *blocks
	handles  *cache[*segment, *handle]
	indexes  *cache[*segment, []indexEntry]
	tick     atomic.Int64 // counts halves of IdleAfter
	written  atomic.Int64 // bytes handed to files
	full     atomic.Bool  // the last write found no space
	logger   *slog.Logger

	mu       sync.Mutex
	work     sync.Cond
	queue    []*Log // each once, see Log.queued
	pressure bool   // an Append waits for memory: write everything
	closed   bool

	syncing chan struct{} // holds a token per SyncTo that writes
	batch   *syncBatch    // nil: each log syncs by itself

	stop chan struct{}
	wg   sync.WaitGroup
}

// syncWriters bounds the SyncTo that write at a time.
const syncWriters = 4

// NewWriter starts a Writer. Close it after the logs that use it.
func NewWriter(opts WriterOptions) *Writer {
	opts.setDefaults()
	w := &Writer{buffered: opts.Buffered, logger: opts.Logger, stop: make(chan struct{}), syncing: make(chan struct{}, syncWriters)}
	w.openVolume(opts)
	w.work.L = &w.mu
	w.tails = newTails(opts.TailBytes, opts.ChunkBytes, w.relieve)
	w.blocks = newBlocks(opts.ReadCacheBytes)
	w.handles = newHandles(opts.OpenFiles)
	w.indexes = newCache[*segment, []indexEntry](opts.IndexCacheBytes, nil, nil)
	for range opts.Workers {
		w.wg.Go(w.run)
	}
	w.wg.Go(func() { w.watchIdle(opts.IdleAfter / 2) })
	return w
}

// Close ends the goroutines and waits for them. What was not written by then
// stays unwritten, as after a crash.
func (w *Writer) Close() error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.stop)
	}
	w.work.Broadcast()
	w.mu.Unlock()
	w.tails.close()
	w.wg.Wait()
	w.blocks.close()
	w.handles.removeIf(func(*segment) bool { return true })
	w.indexes.removeIf(func(*segment) bool { return true })
	if w.batch != nil {
		return w.batch.volume.Close()
	}
	return nil
}

// openVolume comes before the first write: of errors before it, a sync of the
// volume would not tell.
func (w *Writer) openVolume(opts WriterOptions) {
	if opts.FS == nil || opts.Dir == "" {
		return
	}
	v, err := opts.FS.Volume(opts.Dir)
	if err != nil {
		w.logger.Info("segments are synced one by one", "dir", opts.Dir, "err", err)
		return
	}
	w.batch = &syncBatch{fs: opts.FS, volume: v, joined: make(chan struct{}, 1)}
}

func (w *Writer) sync(fsys vfs.FS, r *syncRequest) error {
	if w.batch == nil {
		return r.syncEach(fsys)
	}
	return w.batch.sync(r, func(run func()) { w.wg.Go(run) })
}

// WriterStats are counters of a Writer.
type WriterStats struct {
	TailBytes    int64 // memory of tails now
	WrittenBytes int64 // written to segment files so far
	Waiting      int   // Appends that wait for memory now
}

// Stats reads the counters.
func (w *Writer) Stats() WriterStats {
	w.tails.mu.Lock()
	used := w.tails.used
	w.tails.mu.Unlock()
	return WriterStats{TailBytes: used, WrittenBytes: w.written.Load(), Waiting: int(w.tails.waiters.Load())}
}

// enqueue has a log written soon: its full chunks, or all it has.
func (w *Writer) enqueue(l *Log, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.wantAll = l.wantAll || all
	if l.queued || w.closed {
		return
	}
	l.queued = true
	w.queue = append(w.queue, l)
	w.work.Signal()
}

// relieve has everything written, because memory is short.
func (w *Writer) relieve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pressure = true
	w.work.Signal()
}

func (w *Writer) run() {
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.pressure && !w.closed {
			w.work.Wait()
		}
		if w.closed {
			w.mu.Unlock()
			return
		}
		if w.pressure {
			w.pressure = false
			w.mu.Unlock()
			// While full chunks are on their way to disk, wait for those: writing
			// what is half full makes many small writes of few large ones.
			if !w.tails.busy() {
				w.tails.logs(func(l *Log) { w.enqueue(l, true) })
			}
			continue
		}
		l := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		all := l.wantAll
		l.queued, l.wantAll = false, false
		w.mu.Unlock()
		more, err := l.flush(all, all)
		if errors.Is(err, syscall.ENOSPC) {
			if !w.outOfSpace(l, err) {
				return
			}
			w.enqueue(l, all)
			continue
		}
		if err != nil {
			l.tell()
		} else if w.full.CompareAndSwap(true, false) {
			w.logger.Info("segments are written again")
		}
		if more {
			w.enqueue(l, false) // others first
		}
	}
}

// fullPause is how long a writer waits for space.
const fullPause = 200 * time.Millisecond

// outOfSpace waits a moment; false is the Writer's end. What can't be written
// fills the memory of the tails, and then Appends wait.
func (w *Writer) outOfSpace(l *Log, err error) bool {
	if w.full.CompareAndSwap(false, true) {
		w.logger.Error("disk is full: segments wait in memory and in the write-ahead log until there is space", "dir", l.dir, "err", err)
	}
	t := time.NewTimer(fullPause)
	defer t.Stop()
	select {
	case <-w.stop:
		return false
	case <-t.C:
		return true
	}
}

// watchIdle has the tails of idle logs written and their chunks given up.
func (w *Writer) watchIdle(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
		}
		now := w.tick.Add(1)
		w.tails.logs(func(l *Log) {
			if l.lastTick.Load() <= now-3 {
				w.enqueue(l, true)
			}
		})
	}
}
