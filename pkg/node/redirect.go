package node

import (
	"sync"
	"time"
)

// redirectPatience is how long an answer waits for a leader to name.
const redirectPatience = 500 * time.Millisecond

// redirects keeps the answers back that send a client away, until there is a
// leader to send it to. One that is told NOT_LEADER without the leader's name
// asks for metadata, and many clients do that every few seconds at most; an
// election takes some milliseconds. What came too early, before this replica knew
// that it had been elected, is taken then. All of a partition goes in the order in
// which it came.
type redirects struct {
	// known says whether this node leads a partition, and whether another one has
	// said that it does.
	known   func(id partitionID) (here, elsewhere bool)
	changed func() <-chan struct{}

	wg      sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	waiting map[partitionID][]func(here bool)
}

// join has fn called behind what waits for the partition; false if nothing does.
func (r *redirects) join(id partitionID, fn func(here bool)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	fns, others := r.waiting[id]
	if others {
		r.waiting[id] = append(fns, fn)
	}
	return others
}

// answer calls fn once this node leads (here), there is another leader to name,
// or none came up.
func (r *redirects) answer(id partitionID, fn func(here bool)) {
	if r.join(id, fn) {
		return
	}
	here, elsewhere := r.known(id)
	r.mu.Lock()
	if _, others := r.waiting[id]; !others && (r.closed || here || elsewhere) {
		r.mu.Unlock()
		fn(false)
		return
	} else if !others {
		if r.waiting == nil {
			r.waiting = make(map[partitionID][]func(bool))
		}
		r.wg.Go(func() { r.await(id) })
	}
	r.waiting[id] = append(r.waiting[id], fn)
	r.mu.Unlock()
}

func (r *redirects) await(id partitionID) {
	limit := time.NewTimer(redirectPatience)
	defer limit.Stop()
	here := false
	for waits := true; waits; {
		changed := r.changed()
		var elsewhere bool
		if here, elsewhere = r.known(id); here || elsewhere {
			break
		}
		select {
		case <-changed:
		case <-limit.C:
			waits = false
		}
	}
	for {
		r.mu.Lock()
		fns := r.waiting[id]
		if len(fns) == 0 {
			delete(r.waiting, id)
			r.mu.Unlock()
			return
		}
		r.waiting[id] = nil
		r.mu.Unlock()
		for _, fn := range fns {
			fn(here)
		}
	}
}

// close lets nothing wait any more, and returns when all was answered.
func (r *redirects) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wg.Wait()
}
