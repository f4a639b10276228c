package replication

import (
	"sync"
	"time"
)

// roundLimit is how long a round may last that says that a follower has caught up.
const roundLimit = time.Second

// rounds say which followers keep up with a leader that is written to: what the log
// holds when a round begins must have arrived within roundLimit (Raft thesis,
// section 4.2.1). The number of entries that one lacks says little: a few can be
// all that there is.
type rounds struct {
	mu   sync.Mutex
	term uint64
	of   map[uint64]*chase
}

// chase is a follower's round.
type chase struct {
	goal  uint64 // what it is to have
	begun time.Time
	ok    bool // the round before was soon over
}

// isCaughtUp says whether a replica answers and keeps up with what is written.
func (g *Group) isCaughtUp(replica uint64) bool {
	match, ok := g.answers(replica)
	return replica == g.replica || ok && g.rounds.judge(g.raft.CurrentTerm(), replica, match, g.raft.LastIndex(), time.Now())
}

// isNear says whether a replica answers and lacks so little that it can be waited
// for, while nothing is proposed.
func (g *Group) isNear(replica uint64) bool {
	if replica == g.replica {
		return true
	}
	match, ok := g.answers(replica)
	return ok && g.lacksLittle(match)
}

// answers says whether a replica does, and up to where it has the log.
func (g *Group) answers(replica uint64) (match uint64, ok bool) {
	node, known := g.host.cfg.Resolver.NodeOf(replica)
	match, contact, ok := g.trans.Progress(replica)
	return match, ok && known && g.host.net.Alive(node) && time.Since(contact) < g.host.silent()
}

// judge says whether a follower has all, or has had it within the last round. It
// is to be asked more often than roundLimit.
func (r *rounds) judge(term, replica, match, last uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.term != term || r.of == nil {
		r.term, r.of = term, make(map[uint64]*chase)
	}
	f := r.of[replica]
	if f == nil {
		f = &chase{goal: last, begun: now}
		r.of[replica] = f
	}
	soon := now.Sub(f.begun) <= roundLimit
	switch {
	case match >= last:
		*f = chase{goal: last, begun: now, ok: true}
	case match >= f.goal:
		*f = chase{goal: last, begun: now, ok: soon}
	case !soon:
		f.ok = false
	}
	return f.ok
}

func (r *rounds) forget(replica uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, replica)
}
