package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/pkg/replication"
)

// A coordinator that ends because its partition is led elsewhere tells the next one
// how long each member may still be silent. Without that, a member that died a
// moment before would have its whole session again, and the group would wait for it
// for as long. The log does not say it, and a node that dies can't tell.

const (
	kindSessions = replication.KindUser + 24 // one way: JSON
	// maxSessions in one message, unless one group has more.
	maxSessions = 2000
	// bequestPatience is how long the next leader is waited for, and how long a
	// coordinator that has not begun yet.
	bequestPatience = 5 * time.Second
)

// sessionsMessage goes from the last coordinator of a partition to the next.
type sessionsMessage struct {
	TopicID string          `json:"topic_id"`
	Index   int32           `json:"partition"`
	Term    uint64          `json:"term"` // of the last one
	Groups  []groupSessions `json:"groups"`
}

type groupSessions struct {
	Group  string           `json:"group"`
	LeftMS map[string]int64 `json:"left_ms"` // by member
}

// bequest is a message whose coordinator has not begun yet.
type bequest struct {
	sessionsMessage
	at time.Time
}

// bequeath tells the next leader of a partition what its last coordinator here knew.
func (g *groups) bequeath(ctx context.Context, id partitionID, h *heldGroups) {
	known, ago := h.c.Sessions()
	if len(known) == 0 {
		return
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, bequestPatience)
	defer cancel()
	for {
		changed := g.n.changes.wait()
		if l, ok := g.n.leaders.of(id); ok && l.term > h.term {
			for _, msg := range sessionsMessages(id, h.term, known, ago+time.Since(began)) {
				if l.node == g.n.ID() {
					_, _ = g.inherit(l.node, msg) // led here again
				} else {
					g.n.host.Net().Send(l.node, byte(kindSessions), msg)
				}
			}
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// sessionsMessages encodes what is left of sessions after some time, each group in
// one piece.
func sessionsMessages(id partitionID, term uint64, known []group.Sessions, ago time.Duration) (msgs [][]byte) {
	m := sessionsMessage{TopicID: id.topicID, Index: id.index, Term: term}
	size := 0
	flush := func() {
		if len(m.Groups) == 0 {
			return
		}
		msg, err := json.Marshal(m)
		if err != nil {
			panic(fmt.Sprintf("BUG: encode sessions: %v", err)) // plain numbers and strings
		}
		msgs, m.Groups, size = append(msgs, msg), nil, 0
	}
	for _, s := range known {
		if size += len(s.Members); size > maxSessions {
			flush()
			size = len(s.Members)
		}
		one := groupSessions{Group: s.Group, LeftMS: make(map[string]int64, len(s.Members))}
		for _, x := range s.Members {
			one.LeftMS[x.Member] = max(x.Left-ago, 0).Milliseconds()
		}
		m.Groups = append(m.Groups, one)
	}
	flush()
	return msgs
}

// sessions are the message's, whatever numbers are in it.
func (m *sessionsMessage) sessions() []group.Sessions {
	all := make([]group.Sessions, len(m.Groups))
	for i, one := range m.Groups {
		all[i].Group = one.Group
		for member, ms := range one.LeftMS {
			left := time.Duration(min(max(ms, 0), int64(forEver/time.Millisecond))) * time.Millisecond
			all[i].Members = append(all[i].Members, group.Session{Member: member, Left: left})
		}
	}
	return all
}

// inherit takes in what the last coordinator of a partition knew, or keeps it for
// the one that is about to begin.
func (g *groups) inherit(from int32, msg []byte) ([]byte, error) {
	var m sessionsMessage
	if err := json.Unmarshal(msg, &m); err != nil {
		return nil, fmt.Errorf("sessions from node %d: %w", from, err)
	}
	t := g.n.store.View().Topics[offsetsTopic]
	if t.ID != m.TopicID || m.Index < 0 || m.Index >= t.Partitions {
		return nil, nil // of a topic that is gone
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.held[m.Index]; h != nil && h.term > m.Term {
		// A coordinator that tells late was paused, and its members' time was not.
		if time.Since(h.began) < bequestPatience {
			h.c.Inherit(m.sessions())
		}
		return nil, nil
	}
	if list := g.bequests[m.Index]; !g.closed && len(list) < maxBequests {
		g.bequests[m.Index] = append(list, bequest{m, time.Now()})
	}
	return nil, nil
}

// maxBequests bounds what is kept for a coordinator that has not begun.
const maxBequests = 100

// settleLocked gives a coordinator that begins what was kept for it.
func (g *groups) settleLocked(index int32, h *heldGroups) {
	for _, b := range g.bequests[index] {
		if ago := time.Since(b.at); b.Term < h.term && ago < bequestPatience {
			h.c.Inherit(b.sessions())
		}
	}
	delete(g.bequests, index)
}
