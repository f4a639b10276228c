package partition

// Changed returns a channel that is closed at the next change of the high
// watermark, or of whether this replica may serve. Take it before looking. It is
// nil, and so never closed, once the replica is closed: nothing changes any more.
func (p *Partition) Changed() <-chan struct{} {
	p.mu.Lock()
	offsets, leading, closed := p.offsets, p.leading, p.closed
	p.mu.Unlock()
	if closed {
		return nil
	}
	b := make(bell)
	p.Watch(b, offsets, leading)
	return b
}

// bell is a Watcher to wait for: it is closed when it is rung.
type bell chan struct{}

func (b bell) Ring() { close(b) }

// VerifyTerm returns nil if this replica led in the given term from before the
// call until a majority has confirmed it: what its state said when it was called
// was then no older than any other's.
func (p *Partition) VerifyTerm(term uint64) error { return p.group.VerifyTerm(term) }
