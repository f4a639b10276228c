package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/raftsman/raftsman/pkg/replication"
)

// leaders is who leads what, as the nodes tell each other: with each change of
// a leadership, and whole when a connection comes up. The highest term wins.
// No etcd is needed for it, so a node without a replica answers Metadata truly
// while etcd is away.
type leaders struct {
	self   int32
	send   func(node int32, msg []byte)
	log    *slog.Logger
	notify func() // something changed

	mu    sync.Mutex
	known map[partitionID]leader
	own   map[partitionID]leader // what this node leads
}

// partitionID is a partition of one life of a topic.
type partitionID struct {
	topicID string
	index   int32
}

// leader of a partition. Node is 0 when the last known one stepped down.
type leader struct {
	node   int32
	term   uint64
	inSync []int32 // nodes
	// replica is the own one that leads; known in own only.
	replica uint64
}

// leaderMessage goes from node to node.
type leaderMessage struct {
	From  int32          `json:"from"`
	Leads []leaderRecord `json:"leads"`
}

type leaderRecord struct {
	TopicID string  `json:"topic_id"`
	Index   int32   `json:"partition"`
	Term    uint64  `json:"term"`
	Leading bool    `json:"leading"` // false: the sender stepped down
	InSync  []int32 `json:"in_sync,omitempty"`
}

const (
	kindLeaders = replication.KindUser
	// maxLeaderRecords in one message, so that it stays far below a frame's bound.
	maxLeaderRecords = 2000
)

func newLeaders(self int32, send func(int32, []byte), notify func(), log *slog.Logger) *leaders {
	return &leaders{self: self, send: send, notify: notify, log: log,
		known: make(map[partitionID]leader), own: make(map[partitionID]leader)}
}

// of returns the last known leader of a partition.
func (l *leaders) of(id partitionID) (leader, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.known[id]
	return k, ok && k.node != 0
}

// count is the number of partitions that this node leads.
func (l *leaders) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.own)
}

// led returns what this node leads.
func (l *leaders) led() map[partitionID]leader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.own)
}

// set notes whether a replica here leads, and tells the peers.
func (l *leaders) set(id partitionID, replica, term uint64, leading bool, inSync []int32, peers []int32) {
	l.mu.Lock()
	before, led := l.own[id]
	if !leading && (!led || before.replica != replica) {
		l.mu.Unlock()
		return
	}
	rec := leaderRecord{TopicID: id.topicID, Index: id.index, Term: term, Leading: leading, InSync: inSync}
	if leading {
		l.own[id] = leader{l.self, term, inSync, replica}
	} else {
		delete(l.own, id)
		rec.Term = before.term
	}
	changed := l.mergeLocked(l.self, rec)
	l.mu.Unlock()
	if !changed {
		return
	}
	l.notify()
	msg := l.encode([]leaderRecord{rec})
	for _, peer := range peers {
		l.send(peer, msg)
	}
}

// tellAll sends everything that this node leads to a peer that came up.
func (l *leaders) tellAll(peer int32) {
	l.mu.Lock()
	records := make([]leaderRecord, 0, len(l.own))
	for id, k := range l.own {
		records = append(records, leaderRecord{TopicID: id.topicID, Index: id.index, Term: k.term, Leading: true, InSync: k.inSync})
	}
	l.mu.Unlock()
	for len(records) > 0 {
		n := min(len(records), maxLeaderRecords)
		l.send(peer, l.encode(records[:n]))
		records = records[n:]
	}
}

func (l *leaders) encode(records []leaderRecord) []byte {
	msg, err := json.Marshal(leaderMessage{From: l.self, Leads: records})
	if err != nil {
		panic(fmt.Sprintf("BUG: encode leaders: %v", err)) // plain numbers and strings
	}
	return msg
}

// receive merges what a peer tells.
func (l *leaders) receive(from int32, msg []byte) ([]byte, error) {
	var m leaderMessage
	if err := json.Unmarshal(msg, &m); err != nil {
		return nil, fmt.Errorf("leaders from node %d: %w", from, err)
	}
	l.mu.Lock()
	changed := false
	for _, rec := range m.Leads {
		changed = l.mergeLocked(from, rec) || changed
	}
	l.mu.Unlock()
	if changed {
		l.notify()
	}
	return nil, nil
}

func (l *leaders) mergeLocked(from int32, rec leaderRecord) (changed bool) {
	id := partitionID{rec.TopicID, rec.Index}
	old := l.known[id]
	if rec.Term < old.term {
		return false
	}
	if !rec.Leading {
		if old.node != from {
			return false
		}
		l.known[id] = leader{term: rec.Term}
		return true
	}
	if old.node == from && old.term == rec.Term && slices.Equal(old.inSync, rec.InSync) {
		return false
	}
	l.known[id] = leader{node: from, term: rec.Term, inSync: rec.InSync}
	return true
}

// forget drops partitions that no longer exist.
func (l *leaders) forget(exists func(partitionID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.known {
		if !exists(id) {
			delete(l.known, id)
		}
	}
	for id := range l.own {
		if !exists(id) {
			delete(l.own, id)
		}
	}
}
