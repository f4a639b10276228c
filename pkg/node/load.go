package node

import (
	"sync"
	"time"
)

// load measures how many bytes a second the node writes to its log.
type load struct {
	mu      sync.Mutex
	at      time.Time
	written uint64
	rate    float64
}

const (
	// loadWindow is the time that a rate is taken over.
	loadWindow = 10 * time.Second
	// idleRate in bytes a second counts as nothing: snapshots and votes.
	idleRate = 1024
)

// note takes in the bytes that were written since the start, and returns bytes a
// second, in two digits.
func (l *load) note(now time.Time, written uint64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	passed := now.Sub(l.at)
	switch {
	case l.at.IsZero():
		l.at, l.written = now, written
	case passed >= loadWindow:
		if l.rate = float64(written-l.written) / passed.Seconds(); l.rate < idleRate {
			l.rate = 0
		}
		l.at, l.written = now, written
	}
	return float64(rounded(int64(l.rate)))
}
