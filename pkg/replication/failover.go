package replication

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/raftnet"
)

// failover finds a leader for each group that has none, without waiting for
// raft's timers: those are slow, since each tick of theirs costs as often as
// there are groups.
//
// A replica is an orphan while its raft knows no leader (it was just opened, or
// its leader stepped down), while the leader's node is lost (its connection
// broke and can't be made again, its pings stopped, or another process answers
// in its place), and once the leader itself has said that it leads no more. An
// orphan reports the end of its log to the group's other replicas, again and
// again. A leader that gets such a report makes itself heard at once.
//
// Raft's TimeoutNow skips pre-vote and the check for a known leader, so nobody
// acts alone: once as many voters as an election needs are orphans, the one with
// the longest log (ties by order in the configuration) lets itself time out. All
// choose the same one, since two that stand at once would split the votes and
// wait out an election timeout each. A candidate that got stuck is first made a
// follower by a vote request of a higher term with an empty log, which nobody
// grants.
type failover struct {
	host  *Host
	wake  chan struct{}
	scans atomic.Uint64 // regular ones that were made
	rises atomic.Uint64 // how often a peer came up
	lost  atomic.Int64  // orphans here

	orphans map[uint64]*orphan // by replica; belongs to run

	mu        sync.Mutex
	restarted map[int32]bool               // nodes whose process is another one than before
	reports   map[uint64]map[uint64]report // replica here -> reporting replica -> its newest
}

// orphan is a replica here whose group has no leader, as far as is known here.
type orphan struct {
	g      *Group
	lost   leadership // the last that was known; zero after a start
	since  time.Time
	told   time.Time // when it last reported
	term   uint64    // raft's current one at the last scan
	voted  time.Time // when that was seen to rise
	raised time.Time // when it last took over a higher term
	tried  time.Time // when it last stood
	again  time.Time // when it may stand again
	tries  int
}

const (
	scanInterval = 150 * time.Millisecond
	scanSpacing  = 5 * time.Millisecond // between scans that something asked for
	// scanTurns is how many regular scans take turns at looking closely at
	// followers for which nothing seems wrong.
	scanTurns = 8
	// fullCount is how long a group that never had a leader waits for all its
	// voters, so that the preferred one is elected.
	fullCount = 2 * time.Second
	minRetry  = 400 * time.Millisecond // of a candidate that was not elected
	maxRetry  = 5 * time.Second
	// canvass is how long an election that others have begun is left alone.
	canvass = 300 * time.Millisecond
	// substitute is how long the next best waits for the chosen one to be elected.
	substitute = 3 * time.Second
)

func newFailover(h *Host) *failover {
	return &failover{
		host: h, wake: make(chan struct{}, 1), restarted: make(map[int32]bool),
		orphans: make(map[uint64]*orphan), reports: make(map[uint64]map[uint64]report),
	}
}

func (f *failover) register() {
	f.host.net.Handle(byte(kindOrphans), f.receive)
	f.host.net.Watch(func(ev raftnet.PeerEvent) {
		if ev.Up {
			f.rises.Add(1)
		}
		if ev.Restarted {
			f.mu.Lock()
			f.restarted[ev.Node] = true
			f.mu.Unlock()
		}
		f.poke()
	})
}

// poke asks for a scan now.
func (f *failover) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run looks after all groups until ctx ends.
func (f *failover) run(ctx context.Context) {
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	var last time.Time
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		regular := false
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-tick.C:
			regular = true
		}
		if wait := scanSpacing - time.Since(last); wait > 0 {
			pause.Reset(wait)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return
			}
		}
		f.disown()
		f.scan(regular)
		if regular {
			f.prune(time.Now())
			f.scans.Add(1)
		}
		last = time.Now()
	}
}

// disown notes that what nodes led they lead no more: their process was restarted.
func (f *failover) disown() {
	f.mu.Lock()
	if len(f.restarted) == 0 {
		f.mu.Unlock()
		return
	}
	restarted := f.restarted
	f.restarted = make(map[int32]bool)
	f.mu.Unlock()
	for _, g := range f.host.Groups() {
		lead := *g.leadership.Load()
		if at, ok := f.host.cfg.Resolver.NodeOf(lead.leader); ok && restarted[at] && lead.leader != g.replica {
			g.disowned.Store(&disowned{of: lead, at: time.Now()})
		}
	}
}

// orphaned says whether the group has no leader as far as is known here.
func (f *failover) orphaned(g *Group, now time.Time, alive func(int32) bool) bool {
	status := g.status.Load()
	if status.Leading || g.raft.State() == raft.Leader {
		return false
	}
	if status.Leader == 0 {
		return true
	}
	heard := g.raft.LastContact()
	if d := g.disowned.Load(); d != nil && d.of == *g.leadership.Load() && now.Sub(d.at) > d.pause && heard.Before(d.at) {
		return true
	}
	if now.Sub(heard) > f.host.cfg.HeartbeatTimeout*3/10 {
		return true // raft's heartbeats come each tenth or two: it may lead no more, though its node is up
	}
	node, ok := f.host.cfg.Resolver.NodeOf(status.Leader)
	return ok && !alive(node)
}

// aliveNow looks up each node once.
func (f *failover) aliveNow() func(int32) bool {
	seen := make(map[int32]bool)
	return func(node int32) bool {
		up, ok := seen[node]
		if !ok {
			up = f.host.net.Alive(node)
			seen[node] = up
		}
		return up
	}
}

// scan looks at all groups: orphans report and stand, and leaders do what they
// owe their followers, the latter only at the regular ones.
func (f *failover) scan(regular bool) {
	groups := f.host.Groups()
	now := time.Now()
	allUp, alive := f.host.net.AllAlive(), f.aliveNow()
	var reporting []*orphan
	turn := f.scans.Load() % scanTurns
	for _, g := range groups {
		o := f.orphans[g.replica]
		if regular && g.replica%scanTurns == turn {
			g.checkStatus()
		} else if s := g.status.Load(); allUp && o == nil && !s.Leading && s.Leader != 0 && g.disowned.Load() == nil {
			continue // a follower of a leader whose node is up: it may wait for its turn
		}
		switch {
		case !f.orphaned(g, now, alive):
			if o != nil {
				delete(f.orphans, g.replica)
				f.forget(g.replica)
				g.endOrphan()
			}
			if regular && g.status.Load().Leading {
				f.host.tend(g, now, allUp)
			}
			continue
		case o == nil || o.g != g || o.lost != *g.leadership.Load():
			o = &orphan{g: g, lost: *g.leadership.Load(), since: now}
			f.orphans[g.replica] = o
			g.noteOrphan(o)
			if o.lost.leader != 0 {
				o.term = o.lost.term
			} else {
				o.term = g.raft.CurrentTerm()
			}
		}
		if term := g.raft.CurrentTerm(); term != o.term {
			o.term, o.voted = term, now
		}
		every := scanInterval - scanSpacing
		if now.Sub(o.since) > patientAfter {
			every = patientReport
		}
		if now.Sub(o.told) >= every {
			o.told = now
			reporting = append(reporting, o)
		}
	}
	if regular && len(f.orphans) > 0 {
		f.dropClosed(groups)
	}
	f.lost.Store(int64(len(f.orphans)))
	if !f.host.Healthy() {
		return // it could not be elected, and must not be chosen
	}
	f.report(reporting, now)
	for _, o := range f.orphans {
		f.consider(o, now)
	}
}

// dropClosed forgets orphans that were closed meanwhile.
func (f *failover) dropClosed(groups []*Group) {
	open := make(map[uint64]bool, len(groups))
	for _, g := range groups {
		open[g.replica] = true
	}
	for replica := range f.orphans {
		if !open[replica] {
			delete(f.orphans, replica)
			f.forget(replica)
		}
	}
}

// handedOver says whether the leadership may just be on its way to another
// replica: the last leader's process is up and led until a moment ago. In raft a
// replica forgets its leader some milliseconds before it takes the term of the
// one that stands, and who stands in between ends that election.
func (f *failover) handedOver(o *orphan, now time.Time) bool {
	if o.lost.leader == 0 || now.Sub(o.since) >= canvass {
		return false
	}
	if d := o.g.disowned.Load(); d != nil && d.of == o.lost && d.pause == 0 {
		return false // another process is there
	}
	node, ok := f.host.cfg.Resolver.NodeOf(o.lost.leader)
	return o.lost.leader == o.g.replica || ok && f.host.net.Alive(node)
}

// consider lets this replica stand where it is the chosen one.
func (f *failover) consider(o *orphan, now time.Time) {
	if now.Before(o.again) || now.Sub(o.voted) < canvass || o.g.standing.Load() || f.handedOver(o, now) {
		return
	}
	voters, _ := o.g.members()
	f.mu.Lock()
	reports := f.reports[o.g.replica]
	highest := highestTerm(reports, now)
	c := choose(voters, reports, o.lost.term, now)
	if c.replica != 0 && c.replica != o.g.replica {
		// The chosen one may not manage, for whatever reason.
		waited := min(now.Sub(o.since), now.Sub(o.voted), now.Sub(o.tried))
		if n := better(voters, reports, o.g.replica, o.lost.term, now); n > 0 && waited > substitute*time.Duration(n) {
			c.replica, c.newest = o.g.replica, reports[o.g.replica]
		}
	}
	f.mu.Unlock()
	// A group that never had a leader is a new one, whose logs are all the same.
	early := o.lost.leader == 0 && c.newest.logLast <= 1 && c.count < len(voters) && now.Sub(o.since) < fullCount
	// Who reported may not be connected in the other direction yet.
	early = early || f.host.reachable(voters, o.g.replica) < len(voters)/2+1 && now.Sub(o.since) < fullCount
	if c.replica == o.g.replica && !early {
		o.tried = now
		retry := min(minRetry<<min(o.tries, 10), maxRetry)
		o.again = now.Add(retry + rand.N(retry/2)) // two that see different reports may stand at once: not again
		o.tries++
		o.g.alter(func() { o.g.stand(c.term) })
		return
	}
	if highest > o.g.raft.CurrentTerm() && now.Sub(o.raised) > minRetry {
		// Its reports count for nothing with those that know a later term.
		o.raised = now
		o.g.alter(func() { _ = o.g.becomeFollower(highest) }) // if it did not work it is tried again
	}
}
