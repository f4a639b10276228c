package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// How long a loop of the node may take for one turn. They turn once a second.
// reconcile opens replicas and removes their files, as many as there are.
const (
	turnPatience      = time.Minute
	reconcilePatience = 10 * time.Minute // for each replica
)

// turns are the loops that a node lives by.
type turns struct {
	mu    sync.Mutex
	loops map[string]turn
}

// turn is when a loop turned last, and how long the next may take.
type turn struct {
	last     time.Time
	patience time.Duration
}

// turned is called by a loop each time it begins anew. One that was never heard
// of is not waited for.
func (t *turns) turned(loop string, patience time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loops == nil {
		t.loops = make(map[string]turn)
	}
	t.loops[loop] = turn{time.Now(), patience}
}

// late names the loops that take too long.
func (t *turns) late(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, loop := range slices.Sorted(maps.Keys(t.loops)) {
		l := t.loops[loop]
		if d := now.Sub(l.last); d > l.patience {
			errs = append(errs, fmt.Errorf("the loop %q has not turned for %v", loop, d.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}

// excuse lets all loops begin their turn now.
func (t *turns) excuse(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for loop, l := range t.loops {
		l.last = now
		t.loops[loop] = l
	}
}

// Alive says which of the node's own loops have stopped, or nil. A node that is not
// alive does not get well by itself: it has to be started again. A disk that hangs
// is none of the reasons, for the node goes on when the disk does; nor is etcd.
// It does not block.
func (n *Node) Alive() error {
	now := time.Now()
	if n.stuck.Load() {
		n.turns.excuse(now)
		return nil
	}
	return n.turns.late(now)
}

// Status is one line for people about what the node does.
func (n *Node) Status() string {
	select {
	case <-n.ready:
	default:
		return "not ready yet"
	}
	line := fmt.Sprintf("node %d leads %d partitions and holds %d replicas", n.ID(), n.leaders.count(), n.replicas.count())
	if err := n.readiness(); err != nil {
		line += "; not ready: " + err.Error()
	}
	if !n.store.Connected() {
		line += "; etcd is away"
	}
	return line
}
