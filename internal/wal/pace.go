package wal

import "time"

// pace tells whether it is worth waiting for more before a write. What one
// request of a client brings to many groups comes from their goroutines one by
// one, spread over some milliseconds: taken as it comes it makes several syncs
// where one does. A few groups lose more by waiting than they save.
type pace struct {
	window uint64 // number of the current one
	until  time.Time
	seen   int           // groups in this window
	active int           // groups in the one before
	took   time.Duration // a write and its sync, of late
}

const (
	minGather    = time.Millisecond
	maxGather    = 8 * time.Millisecond
	paceWindow   = 20 * time.Millisecond
	paceFrom     = 8 // groups that are active
	paceEnoughOf = 2 // of the active groups one in so many has come: no need to wait
)

// worth says whether more than the n requests that wait are to be expected.
func (p *pace) worth(n int) bool { return p.active >= paceFrom && n < p.active/paceEnoughOf }

// gather is how long to wait. A disk that is busy makes everybody wait anyway:
// half as long again as a write takes costs little and saves it work.
func (p *pace) gather() time.Duration { return min(max(p.took/2, minGather), maxGather) }

// wrote notes how long a write and its sync took.
func (p *pace) wrote(d time.Duration) { p.took += (d - p.took) / 4 }

// note counts the groups of requests that are about to be written.
func (p *pace) note(reqs []*request, now time.Time) {
	if now.After(p.until) {
		p.active = p.seen
		if now.Sub(p.until) > paceWindow+2*p.took {
			p.active = 0 // it was idle
		}
		p.window++
		p.seen, p.until = 0, now.Add(paceWindow)
	}
	for _, r := range reqs {
		if r.group != nil && r.group.paced != p.window {
			r.group.paced = p.window
			p.seen++
		}
	}
}
