package partition

import "context"

// hold keeps what is queued back while the leadership is handed over, and waits
// for the entries in flight. If another replica leads then, the queue is refused;
// if it does not, release lets it go on, in the same order.
func (p *Partition) hold(ctx context.Context) (release func()) {
	p.queueMu.Lock()
	p.holds++
	for p.flying > 0 && ctx.Err() == nil {
		if p.calm == nil {
			p.calm = make(chan struct{})
		}
		calm := p.calm
		p.queueMu.Unlock()
		select {
		case <-calm:
		case <-ctx.Done():
		}
		p.queueMu.Lock()
	}
	p.queueMu.Unlock()
	return func() {
		p.queueMu.Lock()
		p.holds--
		p.queueMu.Unlock()
		p.poke()
	}
}

// landed counts an entry out of flight.
func (p *Partition) landed() {
	p.queueMu.Lock()
	defer p.queueMu.Unlock()
	if p.flying--; p.flying == 0 && p.calm != nil {
		close(p.calm)
		p.calm = nil
	}
}

// poke has the proposer look at the queue.
func (p *Partition) poke() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}
