package raftnet

import (
	"sync"
	"sync/atomic"
	"time"
)

// progress is what the responses of a group's followers have told about them,
// in the newest term in which this replica sent appends.
type progress struct {
	fellBack atomic.Bool // a follower said that less is committed than it had before

	mu    sync.Mutex
	term  uint64
	peers map[uint64]Follower
}

// Follower is what is known of a follower.
type Follower struct {
	Match   uint64    // its log agrees with ours up to here
	Commit  uint64    // it knows that all up to here is committed
	Contact time.Time // of the last response
}

// note records a response to a request of a term; what is 0 says nothing.
func (p *progress) note(peer, term, match, commit uint64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.enterLocked(term) {
		return
	}
	f := p.peers[peer]
	p.peers[peer] = Follower{Match: max(f.Match, match), Commit: max(f.Commit, commit), Contact: now}
}

// noteBeat records the reply to a beat: the follower's commit index as it is.
// One that was restarted has forgotten it.
func (p *progress) noteBeat(peer, term, commit uint64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.enterLocked(term) {
		return
	}
	f := p.peers[peer]
	if commit < f.Commit {
		p.fellBack.Store(true)
	}
	f.Commit, f.Contact = commit, now
	p.peers[peer] = f
}

func (p *progress) enterLocked(term uint64) bool {
	if term < p.term {
		return false
	}
	if term > p.term || p.peers == nil {
		p.term, p.peers = term, make(map[uint64]Follower)
	}
	return true
}

func (p *progress) of(peer uint64) (Follower, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.peers[peer]
	return f, ok
}
