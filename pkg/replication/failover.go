package replication

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/raftnet"
)

// failover finds a new leader for each group whose leader's node is lost,
// without waiting for raft's timers.
//
// A node that has lost another one (its connection broke and can't be made
// again, its pings stopped, or another process answers in its place) reports to the other survivors, for each group
// that the lost node led, the end of its own log. Raft's TimeoutNow skips
// pre-vote and the check for a known leader, so nobody acts alone: once a
// majority of the group's voters other than the leader have lost it, the one
// with the longest log (ties by order in the configuration) lets itself time
// out now. All survivors choose the same one, since two that stand at once
// would split the votes and wait out an election timeout.
//
// Reports are sent again while a group stays leaderless: a candidate that got
// stuck is first made a follower by a vote request of a higher term with an
// empty log, which nobody grants.
type failover struct {
	host   *Host
	events chan raftnet.PeerEvent
	wake   chan struct{}

	mu      sync.Mutex
	reports map[reportKey]map[uint64]report // by reporting replica
}

// reportKey is a leadership that was lost, as a replica here sees it. The term
// keeps apart two losses of one replica.
type reportKey struct {
	replica uint64
	lost    leadership
}

// report is the end of a replica's log.
type report struct {
	term, index uint64 // of the last entry
	at          time.Time
}

// loss is a node that was lost, and what it led then. What it may have won
// since, after a restart, is none of it.
type loss struct {
	node    int32
	rounds  int // left
	orphans []*orphan
}

// orphan is a group whose leader is lost.
type orphan struct {
	g      *Group
	lost   leadership
	voters []uint64  // other than the leader
	tried  time.Time // when this replica last stood
}

// left says whether the group still has no other leader than the lost one.
func (o *orphan) left() bool { return *o.g.leadership.Load() == o.lost }

const (
	reportTTL   = 2 * time.Second        // older reports do not count
	retryReport = 150 * time.Millisecond // while groups stay leaderless
	maxRounds   = 8                      // then raft's own timers are in charge
)

func newFailover(h *Host) *failover {
	return &failover{
		host: h, events: make(chan raftnet.PeerEvent, 64), wake: make(chan struct{}, 1),
		reports: make(map[reportKey]map[uint64]report),
	}
}

func (f *failover) register() {
	f.host.net.Handle(byte(kindLost), func(_ int32, msg []byte) ([]byte, error) {
		if err := f.receive(msg); err != nil {
			return nil, err
		}
		select {
		case f.wake <- struct{}{}:
		default:
		}
		return nil, nil
	})
	f.host.net.Watch(func(ev raftnet.PeerEvent) {
		select {
		case f.events <- ev:
		default: // so many at once that the retries will see to it
		}
	})
}

// run reacts to lost nodes until ctx ends.
func (f *failover) run(ctx context.Context) {
	losses := make(map[int32]*loss)
	retry := time.NewTicker(retryReport)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-f.events:
			switch l := losses[ev.Node]; {
			case !ev.Up:
				losses[ev.Node] = &loss{node: ev.Node, rounds: maxRounds, orphans: f.ledBy(ev.Node)}
				f.round(losses[ev.Node])
			case ev.Restarted && l == nil:
				losses[ev.Node] = &loss{node: ev.Node, rounds: maxRounds, orphans: f.ledBy(ev.Node)}
				f.round(losses[ev.Node])
			case !ev.Restarted:
				delete(losses, ev.Node) // it was away, and may lead as before
			}
		case <-f.wake:
			for _, l := range losses {
				f.consider(l)
			}
		case <-retry.C:
			for node, l := range losses {
				f.round(l)
				if l.rounds--; l.rounds <= 0 || len(l.orphans) == 0 {
					delete(losses, node)
				}
			}
			if len(losses) == 0 {
				f.forget()
			}
		}
	}
}

// ledBy returns the groups whose leader is on a node, as far as known here.
func (f *failover) ledBy(node int32) []*orphan {
	var orphans []*orphan
	for _, g := range f.host.Groups() {
		lost := *g.leadership.Load()
		if lost.leader == 0 || lost.leader == g.replica {
			continue
		}
		if at, ok := f.host.cfg.Resolver.NodeOf(lost.leader); !ok || at != node {
			continue
		}
		all, _ := g.Members()
		voters := slices.DeleteFunc(all, func(id uint64) bool { return id == lost.leader })
		if slices.Contains(voters, g.replica) {
			orphans = append(orphans, &orphan{g: g, lost: lost, voters: voters})
		}
	}
	return orphans
}

// round reports the loss to the other survivors, and acts where they agree.
func (f *failover) round(l *loss) {
	l.orphans = slices.DeleteFunc(l.orphans, func(o *orphan) bool { return !o.left() })
	messages := make(map[int32][]byte)
	now := time.Now()
	for _, o := range l.orphans {
		term, index := o.g.logEnd()
		f.store(reportKey{o.g.replica, o.lost}, o.g.replica, report{term, index, now})
		for _, to := range o.voters {
			at, ok := f.host.cfg.Resolver.NodeOf(to)
			if !ok || to == o.g.replica {
				continue
			}
			msg := messages[at]
			for _, v := range [...]uint64{to, o.lost.leader, o.lost.term, o.g.replica, term, index} {
				msg = binary.BigEndian.AppendUint64(msg, v)
			}
			messages[at] = msg
		}
	}
	for at, msg := range messages {
		f.host.net.Send(at, byte(kindLost), msg)
	}
	f.consider(l)
}

const reportSize = 6 * 8

func (f *failover) receive(msg []byte) error {
	if len(msg)%reportSize != 0 {
		return errors.New("lost: message has the wrong length")
	}
	now := time.Now()
	for ; len(msg) > 0; msg = msg[reportSize:] {
		var v [6]uint64
		for i := range v {
			v[i] = binary.BigEndian.Uint64(msg[8*i:])
		}
		if _, here := f.host.Group(v[0]); here {
			f.store(reportKey{v[0], leadership{v[1], v[2]}}, v[3], report{v[4], v[5], now})
		}
	}
	return nil
}

func (f *failover) store(key reportKey, from uint64, r report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.reports[key]
	if m == nil {
		m = make(map[uint64]report)
		f.reports[key] = m
	}
	m[from] = r
}

// forget drops what is too old to count.
func (f *failover) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, m := range f.reports {
		for from, r := range m {
			if time.Since(r.at) > reportTTL {
				delete(m, from)
			}
		}
		if len(m) == 0 {
			delete(f.reports, key)
		}
	}
}

// consider lets this replica stand in each group where it is the chosen one.
func (f *failover) consider(l *loss) {
	for _, o := range l.orphans {
		f.mu.Lock()
		chosen := choose(o.voters, f.reports[reportKey{o.g.replica, o.lost}], time.Now())
		f.mu.Unlock()
		if chosen != o.g.replica || !o.left() || time.Since(o.tried) < 2*retryReport {
			continue
		}
		again := !o.tried.IsZero()
		o.tried = time.Now()
		f.host.wg.Go(func() { o.g.stand(again) })
	}
}

// choose returns the voter that shall stand, or 0 while too few have reported.
func choose(voters []uint64, reports map[uint64]report, now time.Time) uint64 {
	var best uint64
	var bestReport report
	n := 0
	for _, id := range voters {
		r, ok := reports[id]
		if !ok || now.Sub(r.at) > reportTTL {
			continue
		}
		n++
		if best == 0 || cmp.Or(cmp.Compare(r.term, bestReport.term), cmp.Compare(r.index, bestReport.index)) > 0 {
			best, bestReport = id, r
		}
	}
	if n < len(voters)/2+1 {
		return 0
	}
	return best
}

// stand makes this replica a candidate now.
func (g *Group) stand(again bool) {
	if again && g.raft.State() == raft.Candidate {
		// It is stuck in a lost election. A vote request of a higher term makes
		// it a follower; its empty log wins no vote.
		_, err := g.trans.Deliver(&raft.RequestVoteRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(g.replica)), Addr: []byte(serverAddr(g.replica))},
			Term:      g.raft.CurrentTerm() + 1, LeadershipTransfer: true,
		})
		if err != nil {
			g.log.Debug("could not unstick a candidate", "err", err)
		}
	}
	if g.raft.State() != raft.Follower {
		return
	}
	if lost := g.leadership.Load(); lost.leader != 0 {
		g.log.Info("the leader's node is lost: standing for election", "leader", lost.leader, "term", lost.term)
	}
	_, err := g.trans.Deliver(&raft.TimeoutNowRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(g.replica)), Addr: []byte(serverAddr(g.replica))},
	})
	if err != nil {
		g.log.Debug("could not stand for election", "err", err)
	}
}

// logEnd is the term and index of the last entry.
func (g *Group) logEnd() (term, index uint64) {
	index = g.raft.LastIndex()
	var l raft.Log
	if err := g.store.GetLog(index, &l); err == nil {
		return l.Term, index
	}
	// It was released behind a snapshot.
	if list, err := g.snapshots.List(); err == nil && len(list) > 0 && list[0].Index >= index {
		return list[0].Term, index
	}
	return 0, index
}
