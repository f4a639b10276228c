package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// turnPatience is how long a loop of the node may take for one turn. They turn
// once a second; to open many replicas on a slow disk takes its time.
const turnPatience = time.Minute

// turns are the loops that a node lives by, with when each turned last.
type turns struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// turned is called by a loop each time it begins anew. One that was never heard
// of is not waited for.
func (t *turns) turned(loop string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = make(map[string]time.Time)
	}
	t.last[loop] = time.Now()
}

// late names the loops that have not turned for turnPatience.
func (t *turns) late(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, loop := range slices.Sorted(maps.Keys(t.last)) {
		if d := now.Sub(t.last[loop]); d > turnPatience {
			errs = append(errs, fmt.Errorf("the loop %q has not turned for %v", loop, d.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}

// excuse lets all loops begin their turn now.
func (t *turns) excuse(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for loop := range t.last {
		t.last[loop] = now
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
