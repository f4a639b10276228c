package seglog

import "fmt"

// Begin makes a log that never held anything begin at offset.
func (l *Log) Begin(offset int64) error {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < 0 || l.start != 0 || l.next != 0 || len(l.segs) > 0 {
		return fmt.Errorf("begin at offset %d: %w: the log goes from %d to %d", offset, ErrOutOfRange, l.start, l.next)
	}
	l.start, l.next = offset, offset
	return nil
}

// Skip raises the next offset: nothing is ever stored at those before it. A lower
// offset than it is changes nothing.
func (l *Log) Skip(next int64) {
	l.appendMu.Lock()
	defer l.appendMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = max(l.next, next)
}
