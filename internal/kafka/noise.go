package kafka

import (
	"sync"
	"time"
)

const (
	noiseInterval = 10 * time.Second
	noiseKeys     = 1024
)

// noiseLimit lets one log line through per key and interval: a port scanner
// or a misconfigured client must not fill the log.
type noiseLimit struct {
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time
}

func newNoiseLimit(now func() time.Time) *noiseLimit {
	return &noiseLimit{now: now, last: make(map[string]time.Time)}
}

func (n *noiseLimit) allow(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if last, ok := n.last[key]; ok && now.Sub(last) < noiseInterval {
		return false
	}
	if len(n.last) >= noiseKeys {
		for k, last := range n.last {
			if now.Sub(last) >= noiseInterval {
				delete(n.last, k)
			}
		}
		if len(n.last) >= noiseKeys {
			return false
		}
	}
	n.last[key] = now
	return true
}
