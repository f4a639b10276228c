package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/raftnet"
)

// A replica that was removed from its group may never hear of it: raft stops
// talking to it. Its node asks the group's present leader, and removes the data
// only when that one says so.

// Confirmation is what a group's leader says of its members.
type Confirmation struct {
	Term              uint64 // in which it led from before the question until now
	Index             uint64 // up to which the log is committed, the members among it
	Epoch, Generation int64  // the newest target that the group has reached
	Members           []uint64
}

// Has says whether a replica is a member.
func (c Confirmation) Has(replica uint64) bool { return slices.Contains(c.Members, replica) }

const confirmHead = 4 * 8

func (c Confirmation) encode() []byte {
	b := make([]byte, 0, confirmHead+8*len(c.Members))
	for _, v := range []uint64{c.Term, c.Index, uint64(c.Epoch), uint64(c.Generation)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, id := range c.Members {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return b
}

func decodeConfirmation(b []byte) (c Confirmation, err error) {
	if len(b) <= confirmHead || len(b)%8 != 0 {
		return c, fmt.Errorf("members: answer has %d bytes", len(b))
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	c.Term, c.Index, c.Epoch, c.Generation = at(0), at(1), int64(at(2)), int64(at(3))
	for i := confirmHead / 8; i < len(b)/8; i++ {
		c.Members = append(c.Members, at(i))
	}
	return c, nil
}

// AskMembers asks a node, which holds the replica that leads, for its group's
// members, on behalf of a replica here that may have been removed. An answer
// without that replica is a committed configuration of a leader that led
// throughout. An error means that nothing is known.
func (h *Host) AskMembers(ctx context.Context, node int32, leader, replica uint64) (Confirmation, error) {
	msg := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, leader), replica)
	if node == h.cfg.NodeID { // the leader is here
		answer, err := h.handleMembers(node, msg)
		if err != nil {
			return Confirmation{}, err
		}
		return decodeConfirmation(answer)
	}
	answer, err := h.net.Call(ctx, node, raftnet.Bulk, byte(kindMembers), msg)
	if err != nil {
		return Confirmation{}, err
	}
	return decodeConfirmation(answer)
}

func (h *Host) handleMembers(_ int32, msg []byte) ([]byte, error) {
	if len(msg) != 16 {
		return nil, errors.New("members: message has the wrong length")
	}
	leader, replica := binary.BigEndian.Uint64(msg), binary.BigEndian.Uint64(msg[8:])
	g, ok := h.Group(leader)
	if !ok {
		return nil, fmt.Errorf("members: replica %d is not here", leader)
	}
	c, err := g.confirm(replica)
	if err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	return c.encode(), nil
}

// confirm reads the configuration, and commits an entry behind it in the same
// term: so the configuration is committed, and nobody else led meanwhile.
func (g *Group) confirm(replica uint64) (c Confirmation, err error) {
	if g.cfg.Membership == nil {
		return c, errors.New("the group's membership never changes")
	}
	c.Term = g.raft.CurrentTerm()
	if g.raft.State() != raft.Leader {
		return c, raft.ErrNotLeader
	}
	future := g.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return c, err
	}
	for _, s := range future.Configuration().Servers {
		c.Members = append(c.Members, replicaOf(s.ID))
	}
	if !c.Has(replica) {
		if err := g.await(g.raft.Barrier(stepTimeout)); err != nil {
			return c, err
		}
		if g.raft.State() != raft.Leader || g.raft.CurrentTerm() != c.Term {
			return c, raft.ErrLeadershipLost
		}
	}
	c.Index = g.raft.CommitIndex()
	c.Epoch, c.Generation = g.cfg.Membership.Reached()
	return c, nil
}
