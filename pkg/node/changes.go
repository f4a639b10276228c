package node

import (
	"sync"
)

// changes wakes everybody who waits for a change of topics, leaders or nodes.
type changes struct {
	mu sync.Mutex
	n  uint64
	ch chan struct{}
}

// count rises with each change.
func (c *changes) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *changes) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ch == nil {
		c.ch = make(chan struct{})
	}
	return c.ch
}

func (c *changes) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.ch != nil {
		close(c.ch)
		c.ch = nil
	}
}
