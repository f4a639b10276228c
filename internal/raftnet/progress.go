package raftnet

import (
	"sync"
	"time"
)

// progress is what the responses of a group's followers have told about them,
// in the newest term in which this replica sent appends.
type progress struct {
	mu    sync.Mutex
	term  uint64
	peers map[uint64]follower
}

type follower struct {
	match   uint64    // the follower's log agrees with ours up to here
	contact time.Time // of the last response
}

// note records a response to a request of a term; match is 0 if it says nothing.
func (p *progress) note(peer, term, match uint64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if term < p.term {
		return
	}
	if term > p.term || p.peers == nil {
		p.term, p.peers = term, make(map[uint64]follower)
	}
	f := p.peers[peer]
	p.peers[peer] = follower{match: max(f.match, match), contact: now}
}

func (p *progress) of(peer uint64) (match uint64, contact time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.peers[peer]
	return f.match, f.contact, ok
}
