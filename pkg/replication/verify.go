package replication

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// VerifyTerm returns nil once a majority has confirmed that this replica leads,
// and has led in the given term throughout.
func (g *Group) VerifyTerm(term uint64) error {
	if now := g.raft.CurrentTerm(); now != term {
		return fmt.Errorf("%w: the term is %d, not %d", raft.ErrNotLeader, now, term)
	}
	if err := g.VerifyLeader(); err != nil {
		return err
	}
	// The one that was confirmed may be a later leadership.
	if now := g.raft.CurrentTerm(); now != term {
		return fmt.Errorf("%w: the term is %d, not %d", raft.ErrLeadershipLost, now, term)
	}
	return nil
}
