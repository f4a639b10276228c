package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A follower learns that an entry is committed from what comes after it; when
// nothing does, its leader tells it within some scans (tend.go). That is soon
// enough for all but those who read from it. While somebody does, the follower
// asks its leader to be told at once.

const (
	// readersAsk is how often a follower repeats that it is read from, and
	// readersStay how long its leader remembers.
	readersAsk  = time.Second
	readersStay = time.Minute
	// readersPause is how long a leader waits whether an entry follows that says
	// what is committed; it is doubled while the follower has not got all yet.
	readersPause = 2 * time.Millisecond
	readersTries = 5
)

// readers are, on a leader, the followers that are read from; on a follower,
// when and whom it told of it last.
type readers struct {
	some  atomic.Bool // there may be followers in until
	asked atomic.Pointer[leadershipAt]

	mu    sync.Mutex
	until map[uint64]time.Time
	armed bool
}

type leadershipAt struct {
	leadership
	at time.Time
}

// FollowCommits has the leader tell this follower at once of what is committed,
// for some seconds. It never blocks, and may be called often.
func (g *Group) FollowCommits() {
	now, s := time.Now(), g.Status()
	if s.Leading || s.Leader == 0 {
		return
	}
	last := g.readers.asked.Load()
	if last != nil && last.leadership == (leadership{s.Leader, s.Term}) && now.Sub(last.at) < readersAsk {
		return
	}
	node, ok := g.host.cfg.Resolver.NodeOf(s.Leader)
	if !ok || !g.readers.asked.CompareAndSwap(last, &leadershipAt{leadership{s.Leader, s.Term}, now}) {
		return
	}
	msg := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.Leader), g.replica)
	g.host.net.Send(node, byte(kindReaders), msg)
}

// handleReaders notes a follower that is read from.
func (h *Host) handleReaders(from int32, msg []byte) ([]byte, error) {
	if len(msg) != 16 {
		return nil, errors.New("readers: message has the wrong length")
	}
	leader, follower := binary.BigEndian.Uint64(msg), binary.BigEndian.Uint64(msg[8:])
	g, ok := h.Group(leader)
	if !ok {
		return nil, fmt.Errorf("readers: replica %d is not here", leader)
	}
	if node, known := h.cfg.Resolver.NodeOf(follower); !known || node != from {
		return nil, fmt.Errorf("readers: replica %d is not on node %d", follower, from)
	}
	r := &g.readers
	r.mu.Lock()
	if r.until == nil {
		r.until = make(map[uint64]time.Time)
	}
	r.until[follower] = time.Now().Add(readersStay)
	r.some.Store(true)
	r.mu.Unlock()
	g.tellReaders()
	return nil, nil
}

// tellReaders is called when something was committed.
func (g *Group) tellReaders() {
	r := &g.readers
	if !r.some.Load() {
		return
	}
	r.mu.Lock()
	armed := r.armed
	r.armed = true
	r.mu.Unlock()
	if !armed {
		g.tellReadersIn(readersPause, readersTries)
	}
}

func (g *Group) tellReadersIn(pause time.Duration, tries int) {
	time.AfterFunc(pause, func() {
		g.readers.mu.Lock()
		g.readers.armed = false
		g.readers.mu.Unlock()
		if g.life.Err() != nil || g.tellCommitToReaders(time.Now()) || tries == 1 {
			return
		}
		g.readers.mu.Lock()
		armed := g.readers.armed
		g.readers.armed = true
		g.readers.mu.Unlock()
		if !armed {
			g.tellReadersIn(2*pause, tries-1)
		}
	})
}

// tellCommitToReaders tells those that do not know. It returns true when all that
// are read from were told.
func (g *Group) tellCommitToReaders(now time.Time) (all bool) {
	s := g.Status()
	if !s.Leading {
		return true
	}
	commit, term := g.raft.CommitIndex(), uint64(0)
	all = true
	for _, id := range g.readers.current(now) {
		f, _ := g.trans.Follower(id)
		if f.Commit >= commit {
			continue
		}
		if f.Match < commit {
			all = false
			continue
		}
		if term == 0 {
			term = g.termOf(commit)
		}
		if node, ok := g.host.cfg.Resolver.NodeOf(id); ok && term != 0 {
			g.trans.TellCommit(id, s.Term, commit, term)
			g.host.net.FlushBeats(node)
		}
	}
	return all
}

// current are the followers that are read from.
func (r *readers) current(now time.Time) (ids []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, until := range r.until {
		if now.After(until) {
			delete(r.until, id)
			continue
		}
		ids = append(ids, id)
	}
	r.some.Store(len(r.until) > 0)
	return ids
}
