package seglog

import (
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	// syncQuiet is how long a sync waits for others to join it, after the last
	// that came; syncPatience bounds that.
	syncQuiet    = 10 * time.Millisecond
	syncPatience = 100 * time.Millisecond
	// fewSyncs is how many files and directories are synced one by one: one sync
	// of the volume writes what other programs have in the cache too.
	fewSyncs = 4
)

// syncBatch has many logs synced at once: what it costs does not grow with
// their number. Nobody but a snapshot in the background waits for it.
type syncBatch struct {
	fs     vfs.FS
	volume vfs.Volume

	mu      sync.Mutex
	waiting []*syncRequest
	running bool
	joined  chan struct{} // capacity 1: waiting has grown
}

// syncRequest is what one log wants durable: its dir only if it is named.
type syncRequest struct {
	files []vfs.File
	dir   string
	err   chan error // capacity 1
}

// sync returns when all of r is durable. Who runs the batch is started by start.
func (b *syncBatch) sync(r *syncRequest, start func(func())) error {
	r.err = make(chan error, 1)
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	first := !b.running
	b.running = true
	b.mu.Unlock()
	if first {
		start(b.run)
	} else {
		select {
		case b.joined <- struct{}{}:
		default:
		}
	}
	return <-r.err
}

// run syncs until nobody waits.
func (b *syncBatch) run() {
	for {
		b.gather()
		b.mu.Lock()
		batch := b.waiting
		b.waiting = nil
		b.mu.Unlock()
		err := b.syncAll(batch)
		for i, r := range batch {
			r.err <- err[i]
		}
		b.mu.Lock()
		b.running = len(b.waiting) > 0
		running := b.running
		b.mu.Unlock()
		if !running {
			return
		}
	}
}

// gather waits until nobody has joined for a while.
func (b *syncBatch) gather() {
	end := time.NewTimer(syncPatience)
	defer end.Stop()
	quiet := time.NewTimer(syncQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-b.joined:
			quiet.Reset(syncQuiet)
		case <-quiet.C:
			return
		case <-end.C:
			return
		}
	}
}

// syncAll returns an error, or nil, for each request.
func (b *syncBatch) syncAll(batch []*syncRequest) []error {
	errs := make([]error, len(batch))
	calls := 0
	for _, r := range batch {
		calls += len(r.files)
		if r.dir != "" {
			calls++
		}
	}
	var whole error
	together := calls > fewSyncs
	if together {
		whole = b.volume.Sync()
	}
	for i, r := range batch {
		switch {
		case !together || !b.holds(r):
			errs[i] = r.syncEach(b.fs)
		default:
			errs[i] = whole
		}
	}
	return errs
}

// holds says whether all of a request is on the volume. A directory is where its
// files are.
func (b *syncBatch) holds(r *syncRequest) bool {
	for _, f := range r.files {
		if !b.volume.Holds(f) {
			return false
		}
	}
	return len(r.files) > 0
}

func (r *syncRequest) syncEach(fsys vfs.FS) error {
	for _, f := range r.files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if r.dir != "" {
		return fsys.SyncDir(r.dir)
	}
	return nil
}
