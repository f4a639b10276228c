package replication

import (
	"context"
	"sync"
	"time"
)

// stagePlace is what takes a place: one group's staging at one follower.
type stagePlace struct{ group, peer uint64 }

// stagePlaces bounds how many stagings a node sends at once. One whose manifest was
// superseded meanwhile keeps its place for a moment: raft comes back with the
// newest, and would have to wait for others' segments else, with that growing old.
type stagePlaces struct {
	max int

	mu      sync.Mutex
	taken   map[stagePlace]time.Time // zero: in use; else kept until then
	changed chan struct{}            // closed when a place was left
}

// take waits for a place.
func (p *stagePlaces) take(ctx context.Context, want stagePlace) error {
	for {
		p.mu.Lock()
		next, ok := p.tryLocked(want, time.Now())
		if ok {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		timer := time.NewTimer(next)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// tryLocked takes a place, or says when to look again at the latest.
func (p *stagePlaces) tryLocked(want stagePlace, now time.Time) (next time.Duration, ok bool) {
	if p.taken == nil {
		p.taken = make(map[stagePlace]time.Time)
	}
	next = time.Minute
	for place, until := range p.taken {
		if place == want || until.IsZero() {
			continue
		}
		if !until.After(now) {
			delete(p.taken, place)
			continue
		}
		next = min(next, until.Sub(now))
	}
	if until, mine := p.taken[want]; mine && until.IsZero() {
		return next, false // an earlier call for the same follower has not ended
	} else if !mine && len(p.taken) >= p.max {
		return next, false
	}
	p.taken[want] = time.Time{}
	return 0, true
}

// leave gives a place back, after a while.
func (p *stagePlaces) leave(place stagePlace, linger time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if linger > 0 {
		p.taken[place] = time.Now().Add(linger)
	} else {
		delete(p.taken, place)
	}
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// busy is the number of stagings under way.
func (p *stagePlaces) busy() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, until := range p.taken {
		if until.IsZero() {
			n++
		}
	}
	return n
}
