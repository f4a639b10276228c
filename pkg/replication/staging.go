package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/raftsman/raftsman/internal/raftnet"
)

// Catching up by segments
//
// A follower that needs entries which the leader's log no longer holds is sent
// the newest manifest. Before raft does that, InstallSnapshot has the leader
// stage the segments (stage_send.go): it pins them and tells the follower to
// fetch what it lacks (stage_receive.go), part by part, through the node's
// throttle. While that runs more is written and newer manifests come; so it is
// done in rounds, each with the difference to the one before, until no newer
// manifest has come during a round. Rounds that would be too slow for what is
// written are allowed twice that rate, so there is an end to them.
//
// A follower serves one leader at a time, the one with the highest term, and
// keeps what it has staged over restarts and changes of leader. It refuses to
// make a manifest its own whose segments it has not got (beginInstall).

const firstKind = raftnet.FirstUserKind

// Kinds of node-level messages that this package uses. Users of Host.Net take
// KindUser and above.
const (
	kindStage   = firstKind + iota // leader to follower: fetch what this manifest names
	kindFetch                      // follower to leader: part of a file
	kindOrphans                    // replica to replica: it knows no leader (failover.go)
	kindMembers                    // to a leader: who is in the group (confirm.go)
	kindReaders                    // to a leader: somebody reads from this follower (readers.go)

	// KindUser is the first kind of message that is free for users of a Host.
	KindUser = firstKind + 16
)

// fetchBytes is the largest part of a file that one message carries.
const fetchBytes = 1 << 20

// sources are the rounds that are under way, by a token that the follower quotes.
type sources struct {
	mu   sync.Mutex
	next uint64
	open map[uint64]*round
}

func (s *sources) add(r *round) (token uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[uint64]*round)
	}
	s.next++
	s.open[s.next] = r
	return s.next
}

func (s *sources) get(token uint64) (*round, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.open[token]
	if r == nil {
		return nil, errors.New("the leader no longer sends this manifest")
	}
	return r, nil
}

func (s *sources) remove(token uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, token)
}

// handleStaging serves both sides.
func (h *Host) handleStaging() {
	h.net.Handle(byte(kindStage), h.handleStage)
	h.net.Handle(byte(kindFetch), func(_ int32, msg []byte) ([]byte, error) {
		if len(msg) != 28 {
			return nil, errors.New("fetch: message has the wrong length")
		}
		token, file := binary.BigEndian.Uint64(msg), int64(binary.BigEndian.Uint64(msg[8:]))
		off, n := int64(binary.BigEndian.Uint64(msg[16:])), binary.BigEndian.Uint32(msg[24:])
		if n == 0 || n > fetchBytes || off < 0 {
			return nil, fmt.Errorf("fetch: %d bytes at %d are out of bounds", n, off)
		}
		r, err := h.sources.get(token)
		if err != nil {
			return nil, err
		}
		return r.read(file, off, int(n))
	})
}
