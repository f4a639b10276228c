package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/raftsman/raftsman/internal/cluster"
)

// Reasons why a node sheds its leaderships. An operator's wish is one too; it is
// in the view.
const (
	shedFull     = "full disk"
	shedStopping = "stopping"
	shedSlow     = "slow disk"
)

// shedding is why this node hands all its leaderships over, and takes none; it
// leads on what nobody can take.
type shedding struct {
	mu      sync.Mutex
	reasons map[string]bool
}

// set adds a reason or takes it away.
func (s *shedding) set(reason string, on bool) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reasons[reason] == on {
		return false
	}
	if s.reasons == nil {
		s.reasons = make(map[string]bool)
	}
	if on {
		s.reasons[reason] = true
	} else {
		delete(s.reasons, reason)
	}
	return true
}

func (s *shedding) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.reasons))
}

func (s *shedding) has(reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reasons[reason]
}

// setShedding has the node hand all its leaderships over for a reason of its
// own, or takes the reason back. The other nodes learn of it in etcd, by the
// node's state, and from the node itself. It does not block.
func (n *Node) setShedding(reason string, on bool) {
	if !n.shed.set(reason, on) {
		return
	}
	n.log.Info("reasons to hand leaderships over have changed", "reason", reason, "on", on, "all", strings.Join(n.shed.all(), ", "))
	n.wake()
	n.handover.poke()
	if n.host != nil {
		for _, peer := range n.peers.Peers() {
			n.tellAddress(peer)
		}
	}
}

// shedReasons says why all leaderships are to be handed over; empty: they stay.
func (n *Node) shedReasons(v *cluster.View) []string {
	reasons := n.shed.all()
	if w, ok := v.Wishes[n.ID()]; ok {
		reasons = append(reasons, fmt.Sprintf("the node is to be %s", w.State))
	}
	return reasons
}

// state is what the node says of itself.
func (n *Node) state() string {
	reasons := n.shed.all()
	switch {
	case len(reasons) == 0:
		return cluster.StateReady
	case len(reasons) == 1 && reasons[0] == shedFull:
		return cluster.StateFull
	}
	return cluster.StateDraining
}
