package replication

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"time"
)

// report is what an orphan says of itself.
type report struct {
	term             uint64 // its raft's current one
	logTerm, logLast uint64 // of the last entry of its log
	at               time.Time
}

const (
	// An orphan reports each scanInterval at first, and less often later on.
	patientAfter  = 5 * time.Second
	patientReport = 500 * time.Millisecond
	// reportTTL: older reports do not count.
	reportTTL = 1500 * time.Millisecond

	reportSize = 5 * 8
	// reportBatch is how many share a message: votes go the same way.
	reportBatch = 4096
)

// report tells the other replicas of each group, in few messages for each node.
func (f *failover) report(orphans []*orphan, now time.Time) {
	messages := make(map[int32][]byte)
	for _, o := range orphans {
		r := report{term: o.g.raft.CurrentTerm(), at: now}
		r.logTerm, r.logLast = o.g.logEnd()
		f.store(o.g.replica, o.g.replica, r)
		voters, learners := o.g.members()
		for to := range both(voters, learners) {
			at, ok := f.host.cfg.Resolver.NodeOf(to)
			if !ok || to == o.g.replica {
				continue
			}
			msg := messages[at]
			for _, v := range [...]uint64{to, o.g.replica, r.term, r.logTerm, r.logLast} {
				msg = binary.BigEndian.AppendUint64(msg, v)
			}
			if len(msg) >= reportBatch*reportSize {
				f.host.net.Send(at, byte(kindOrphans), msg)
				msg = nil
			}
			messages[at] = msg
		}
	}
	for at, msg := range messages {
		if len(msg) > 0 {
			f.host.net.Send(at, byte(kindOrphans), msg) // if it gets lost there will be another
		}
	}
}

func (f *failover) receive(node int32, msg []byte) ([]byte, error) {
	if len(msg)%reportSize != 0 {
		return nil, errors.New("orphans: message has the wrong length")
	}
	now := time.Now()
	scan, answered := false, false
	for ; len(msg) > 0; msg = msg[reportSize:] {
		var v [5]uint64
		for i := range v {
			v[i] = binary.BigEndian.Uint64(msg[8*i:])
		}
		g, here := f.host.Group(v[0])
		if !here {
			continue
		}
		if g.Status().Leading {
			g.answerOrphan(v[1], v[2])
			answered = true
			continue
		}
		if lead := *g.leadership.Load(); lead.leader == v[1] && v[2] >= lead.term {
			// It says so itself. It may have said so just before it was elected.
			if d := g.disowned.Load(); d == nil || d.of != lead || d.at.Before(g.raft.LastContact()) {
				g.disowned.Store(&disowned{of: lead, at: now, pause: doubt})
			}
		}
		f.store(v[0], v[1], report{v[2], v[3], v[4], now})
		scan = true
	}
	if answered {
		f.host.net.FlushBeats(node)
	}
	if scan {
		f.poke()
	}
	return nil, nil
}

func (f *failover) store(replica, from uint64, r report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.reports[replica]
	if m == nil {
		m = make(map[uint64]report)
		f.reports[replica] = m
	}
	m[from] = r
}

func (f *failover) forget(replica uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.reports, replica)
}

// prune drops reports that no longer count.
func (f *failover) prune(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for replica, m := range f.reports {
		maps.DeleteFunc(m, func(_ uint64, r report) bool { return now.Sub(r.at) > reportTTL })
		if len(m) == 0 {
			delete(f.reports, replica)
		}
	}
}

// choice is who shall stand.
type choice struct {
	replica uint64 // 0 while too few have reported
	newest  report // the chosen one's
	term    uint64 // the highest of those that reported
	count   int    // of voters that have reported
}

// choose returns the voter that shall stand once as many voters are orphans as
// an election needs votes. Reports of a term before the lost leader's are from
// before it led.
func choose(voters []uint64, reports map[uint64]report, lostTerm uint64, now time.Time) (c choice) {
	for _, id := range voters {
		r, ok := reports[id]
		if !ok || !r.counts(lostTerm, now) {
			continue
		}
		c.count++
		c.term = max(c.term, r.term)
		if c.replica == 0 || r.compare(c.newest) > 0 {
			c.replica, c.newest = id, r
		}
	}
	if c.count < len(voters)/2+1 {
		c.replica = 0
	}
	return c
}

// better counts the voters that come before one of them in the choice; 0 if that
// one has not reported itself.
func better(voters []uint64, reports map[uint64]report, own, lostTerm uint64, now time.Time) (n int) {
	mine, ok := reports[own]
	if !ok || !mine.counts(lostTerm, now) {
		return 0
	}
	passed, votes := false, false
	for _, id := range voters {
		if id == own {
			passed, votes = true, true
			continue
		}
		if r, ok := reports[id]; ok && r.counts(lostTerm, now) {
			if order := r.compare(mine); order > 0 || order == 0 && !passed {
				n++
			}
		}
	}
	if !votes {
		return 0
	}
	return n
}

// counts says whether a report is fresh, and not from before the lost leader's term.
func (r report) counts(lostTerm uint64, now time.Time) bool {
	return now.Sub(r.at) <= reportTTL && r.term >= lostTerm
}

// compare is above 0 if the log is longer than another's.
func (r report) compare(other report) int {
	return cmp.Or(cmp.Compare(r.logTerm, other.logTerm), cmp.Compare(r.logLast, other.logLast))
}

func highestTerm(reports map[uint64]report, now time.Time) (term uint64) {
	for _, r := range reports {
		if now.Sub(r.at) <= reportTTL {
			term = max(term, r.term)
		}
	}
	return term
}
