package wal

import (
	"slices"
	"sync"
	"time"
)

// commits remembers how long the last batches took to be durable: their write
// and their sync.
type commits struct {
	mu   sync.Mutex
	next int
	ring [512]commit
}

type commit struct {
	at   time.Time // it was durable
	took time.Duration
}

func (c *commits) note(at time.Time, took time.Duration) {
	c.mu.Lock()
	c.ring[c.next] = commit{at, took}
	c.next = (c.next + 1) % len(c.ring)
	c.mu.Unlock()
}

// Latency is how long batches took lately.
type Latency struct {
	Commits int           // batches that count, at most 512
	Median  time.Duration // of a write with its sync
}

// Latency returns that of the batches since a time.
func (l *Log) Latency(since time.Time) (lat Latency) {
	c := &l.commits
	c.mu.Lock()
	took := make([]time.Duration, 0, len(c.ring))
	for _, b := range c.ring {
		if b.at.After(since) {
			took = append(took, b.took)
		}
	}
	c.mu.Unlock()
	if lat.Commits = len(took); lat.Commits == 0 {
		return lat
	}
	slices.Sort(took)
	lat.Median = took[len(took)/2]
	return lat
}
