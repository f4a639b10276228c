package replication

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/raftsman/raftsman/internal/raftnet"
)

const firstKind = raftnet.FirstUserKind

// Kinds of node-level messages that this package uses. Users of Host.Net take
// KindUser and above.
const (
	kindStage = firstKind + iota // leader to follower: fetch what this manifest names
	kindFetch                    // follower to leader: part of a file
	kindLost                     // survivor to survivor: a node is lost (failover.go)

	// KindUser is the first kind of message that is free for users of a Host.
	KindUser = firstKind + 16
)

// fetchBytes is the largest part of a file that one message carries.
const fetchBytes = 1 << 20

// errSuperseded makes raft begin again with a newer snapshot, whose segments
// are staged already but for the last difference.
var errSuperseded = errors.New("segments were sent, but the manifest was superseded meanwhile: sending the difference")

// sources are the files that are being sent to followers, by a token that the
// follower quotes.
type sources struct {
	mu   sync.Mutex
	next uint64
	open map[uint64]Source
}

func (s *sources) add(src Source) (token uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[uint64]Source)
	}
	s.next++
	s.open[s.next] = src
	return s.next
}

func (s *sources) read(token uint64, file int64, p []byte, off int64) (int, error) {
	s.mu.Lock()
	src := s.open[token]
	s.mu.Unlock()
	if src == nil {
		return 0, errors.New("the leader no longer sends this manifest")
	}
	return src.ReadAt(file, p, off)
}

func (s *sources) remove(token uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, token)
}

// stageAt has a follower fetch what a manifest names, before raft sends the
// manifest itself. It runs on the leader, in raft's goroutine for that follower.
func (g *Group) stageAt(ctx context.Context, peer uint64, manifest []byte) error {
	stager, ok := g.cfg.StateMachine.(Stager)
	if !ok {
		return nil
	}
	node, ok := g.host.cfg.Resolver.NodeOf(peer)
	if !ok {
		return fmt.Errorf("replica %d is on no known node", peer)
	}
	src, err := stager.Source(manifest)
	if err != nil {
		return fmt.Errorf("open files for a follower: %w", err)
	}
	defer src.Close()
	g.staging.Add(1)
	defer g.staging.Add(-1)
	token := g.host.sources.add(src)
	defer g.host.sources.remove(token)

	g.log.Info("sending segments to a follower that is too far behind", "peer", peer, "node", node)
	msg := binary.BigEndian.AppendUint64(nil, peer)
	msg = binary.BigEndian.AppendUint64(msg, token)
	msg = append(msg, manifest...)
	if _, err := g.host.net.Call(ctx, node, raftnet.Bulk, byte(kindStage), msg); err != nil {
		return fmt.Errorf("stage segments at replica %d: %w", peer, err)
	}
	newest, err := g.newestManifest()
	if err != nil {
		return err
	}
	if !bytes.Equal(newest, manifest) {
		return errSuperseded
	}
	g.log.Info("segments sent", "peer", peer, "node", node)
	return nil
}

func (g *Group) newestManifest() ([]byte, error) {
	list, err := g.snapshots.List()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no manifest")
	}
	_, r, err := g.snapshots.Open(list[0].ID)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// handleStaging serves both sides.
func (h *Host) handleStaging() {
	h.net.Handle(byte(kindStage), func(from int32, msg []byte) ([]byte, error) {
		if len(msg) < 16 {
			return nil, errors.New("stage: message is too short")
		}
		replica, token := binary.BigEndian.Uint64(msg), binary.BigEndian.Uint64(msg[8:])
		g, ok := h.Group(replica)
		if !ok {
			return nil, fmt.Errorf("stage: replica %d is not here", replica)
		}
		stager, ok := g.cfg.StateMachine.(Stager)
		if !ok {
			return nil, fmt.Errorf("stage: replica %d keeps no files", replica)
		}
		g.log.Info("fetching segments from the leader", "node", from)
		return nil, stager.Stage(h.ctx, msg[16:], h.fetchFrom(h.ctx, from, token))
	})
	h.net.Handle(byte(kindFetch), func(_ int32, msg []byte) ([]byte, error) {
		if len(msg) != 28 {
			return nil, errors.New("fetch: message has the wrong length")
		}
		token, file := binary.BigEndian.Uint64(msg), int64(binary.BigEndian.Uint64(msg[8:]))
		off, n := int64(binary.BigEndian.Uint64(msg[16:])), binary.BigEndian.Uint32(msg[24:])
		if n > fetchBytes || off < 0 {
			return nil, fmt.Errorf("fetch: %d bytes at %d are out of bounds", n, off)
		}
		buf := make([]byte, n)
		if _, err := h.sources.read(token, file, buf, off); err != nil {
			return nil, err
		}
		return buf, nil
	})
}

func (h *Host) fetchFrom(ctx context.Context, node int32, token uint64) Fetch {
	return func(file int64, p []byte, off int64) (int, error) {
		done := 0
		for done < len(p) {
			n := min(len(p)-done, fetchBytes)
			msg := binary.BigEndian.AppendUint64(nil, token)
			msg = binary.BigEndian.AppendUint64(msg, uint64(file))
			msg = binary.BigEndian.AppendUint64(msg, uint64(off+int64(done)))
			msg = binary.BigEndian.AppendUint32(msg, uint32(n))
			got, err := h.net.Call(ctx, node, raftnet.Bulk, byte(kindFetch), msg)
			if err != nil {
				return done, err
			}
			if len(got) != n {
				return done, io.ErrUnexpectedEOF
			}
			copy(p[done:], got)
			done += n
		}
		return done, nil
	}
}
