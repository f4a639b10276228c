package replication

import (
	"sync"
	"time"
)

// wantedEvery is how often a group takes a snapshot because it was wanted.
const wantedEvery = 10 * time.Second

// wanted is a snapshot that the state machine would like to have taken soon.
type wanted struct {
	mu   sync.Mutex
	want bool
	took bool      // one is being taken because it was wanted
	last time.Time // when one was due
}

// WantSnapshot has a snapshot taken soon, because there are files that only the
// last one still needs. It does not block, and may be called often.
func (g *Group) WantSnapshot() {
	g.wanted.mu.Lock()
	defer g.wanted.mu.Unlock()
	g.wanted.want = true
}

// due says whether a snapshot that was wanted is to be taken now. That counts as
// taken.
func (w *wanted) due(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.want || now.Sub(w.last) < wantedEvery {
		return false
	}
	w.want, w.took, w.last = false, true, now
	return true
}

// taken notes that one was taken. If nothing came of it, because raft has applied
// nothing since the start, it is wanted still.
func (w *wanted) taken(nothing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want = w.want || w.took && nothing
	w.took = false
}
