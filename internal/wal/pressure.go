package wal

import "time"

// maxSlowDown is how long an append waits at most when the log is at its limit,
// by default. That is no longer than a slow fsync: raft's loop, and with it the
// snapshot that frees the log, must go on.
const maxSlowDown = 200 * time.Millisecond

// slowDownLocked has an append wait while the log is close to its limit, until a
// file is released. Snapshots, asked for by OnPressure, are faster than writers
// then. It gives up Log.mu meanwhile.
func (l *Log) slowDownLocked() {
	high := l.opts.SizeLimit - l.opts.headroom()*2/3
	if l.usedLocked() <= high || l.closed || l.fatal != nil {
		return
	}
	timer := time.NewTimer(l.opts.slowDown)
	defer timer.Stop()
	for l.usedLocked() > high && !l.closed && l.fatal == nil {
		if l.freed == nil {
			l.freed = make(chan struct{})
		}
		freed := l.freed
		l.mu.Unlock()
		l.pressure()
		select {
		case <-freed:
			l.mu.Lock()
		case <-timer.C:
			l.mu.Lock()
			return
		}
	}
}

// pressure asks for snapshots.
func (l *Log) pressure() {
	if l.opts.OnPressure != nil {
		l.opts.OnPressure()
	}
}
