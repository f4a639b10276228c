package replication

import (
	"sync"
	"time"
)

// lag is what a leader knows of when its followers last had all that it had.
// The regular scans (tend.go) look at them.
type lag struct {
	mu    sync.Mutex
	term  uint64
	calm  time.Time // all followers had everything then
	marks map[uint64]*mark
}

// mark waits for a follower to have what the leader's log held at one time.
type mark struct {
	end     uint64 // of the leader's log, at
	at      time.Time
	reached time.Time // the follower had all that there was then
}

// silent is how long a follower may say nothing: raft's heartbeats come each
// tenth of HeartbeatTimeout or two.
func (h *Host) silent() time.Duration { return max(h.cfg.HeartbeatTimeout/2, 5*time.Second) }

// noteCalm notes that all followers know that all there is is committed.
func (l *lag) noteCalm(term uint64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enterLocked(term)
	l.calm = now
}

// note looks at a follower that has what matches up to match, while the own log
// ends at end.
func (l *lag) note(term, follower, match, end uint64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enterLocked(term)
	m := l.marks[follower]
	switch {
	case m == nil:
		m = &mark{end: end, at: now}
		l.marks[follower] = m
	case match >= m.end:
		m.reached, m.end, m.at = m.at, end, now
	}
	if match >= end {
		m.reached = now
	}
}

func (l *lag) enterLocked(term uint64) {
	if l.term != term || l.marks == nil {
		l.term, l.calm, l.marks = term, time.Time{}, make(map[uint64]*mark)
	}
}

// since is how long ago a follower had all that there was.
func (l *lag) since(term, follower uint64, now time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term {
		return 0, false
	}
	last := l.calm
	if m := l.marks[follower]; m != nil && m.reached.After(last) {
		last = m.reached
	}
	return now.Sub(last), !last.IsZero()
}

// InSync returns the voters that lately, not longer ago than lag, had all that
// the leader's log held then, and still answer. Only the leader knows; others
// return nil.
func (g *Group) InSync(lag time.Duration) []uint64 {
	status := g.Status()
	if !status.Leading {
		return nil
	}
	now := time.Now()
	voters, _ := g.members()
	in := make([]uint64, 0, len(voters))
	for _, id := range voters {
		if id == g.replica {
			in = append(in, id)
			continue
		}
		node, known := g.host.cfg.Resolver.NodeOf(id)
		_, contact, answered := g.trans.Progress(id)
		if !known || !g.host.net.Alive(node) || !answered || now.Sub(contact) > g.host.silent() {
			continue
		}
		if behind, ok := g.lag.since(status.Term, id, now); ok && behind <= lag {
			in = append(in, id)
		}
	}
	return in
}
