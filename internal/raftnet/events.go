package raftnet

import "sync"

// PeerEvent is a change of what is known about a peer.
type PeerEvent struct {
	Node   int32
	Up     bool
	Reason string // why it is down
	// Restarted says with Up that another process answers than before, so that
	// whatever the node led it leads no longer.
	Restarted bool
}

// events hands peer events to watchers, one at a time and in order.
type events struct {
	mu       sync.Mutex
	wake     sync.Cond
	queue    []PeerEvent
	watchers []func(PeerEvent)
	closed   bool
}

func newEvents() *events {
	e := &events{}
	e.wake.L = &e.mu
	return e
}

func (e *events) watch(f func(PeerEvent)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers = append(e.watchers[:len(e.watchers):len(e.watchers)], f)
}

func (e *events) publish(ev PeerEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.watchers) == 0 {
		return
	}
	e.queue = append(e.queue, ev)
	e.wake.Signal()
}

// run hands out events until close.
func (e *events) run() {
	for {
		e.mu.Lock()
		for len(e.queue) == 0 && !e.closed {
			e.wake.Wait()
		}
		if e.closed {
			e.mu.Unlock()
			return
		}
		queue, watchers := e.queue, e.watchers
		e.queue = nil
		e.mu.Unlock()
		for _, ev := range queue {
			for _, f := range watchers {
				f(ev)
			}
		}
	}
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.wake.Broadcast()
}
