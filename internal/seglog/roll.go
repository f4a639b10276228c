package seglog

// Roll seals the active segment if it is the one that begins at base: the next
// Append begins another. All replicas must do so between the same two batches.
func (l *Log) Roll(base int64) {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.segs); n > 0 && l.segs[n-1].base == base && l.segs[n-1].bytes > 0 {
		l.sealLocked(l.segs[n-1])
	}
}

// Active returns the base offset of the segment that the next batch may go to;
// ok is false when there is none.
func (l *Log) Active() (base int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.segs); n > 0 && !l.segs[n-1].sealed && l.segs[n-1].bytes > 0 {
		return l.segs[n-1].base, true
	}
	return 0, false
}

// Compacted says how far the log was compacted.
func (l *Log) Compacted() Compacted {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.compacted
}

// FirstTimestamp returns the greatest timestamp in ms of the first batch of the
// segment that begins at base; ok is false if it is gone or can't be read.
func (l *Log) FirstTimestamp(base int64) (ts int64, ok bool) {
	l.mu.Lock()
	i := firstFrom(l.segs, base)
	if i == len(l.segs) || l.segs[i].base != base || l.segs[i].bytes == 0 {
		l.mu.Unlock()
		return 0, false
	}
	x := l.segs[i].extentLocked()
	ts, ok = x.seg.firstTime, x.seg.firstKnown
	l.mu.Unlock()
	if ok {
		return ts, true
	}
	err := l.walk(x, place{0, base}, func(h Batch, _ int64) (bool, error) {
		ts, ok = h.maxTime(), true
		return false, nil
	})
	if err != nil || !ok {
		return 0, false
	}
	l.mu.Lock()
	x.seg.firstTime, x.seg.firstKnown = ts, true
	l.mu.Unlock()
	return ts, true
}
