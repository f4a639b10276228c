package wal

import (
	"testing"
	"time"
)

// paced are the requests of groups that write together.
func paced(groups int) (reqs []*request) {
	for range groups {
		reqs = append(reqs, &request{group: &Group{}})
	}
	return reqs
}

func TestPace(t *testing.T) {
	now := time.Unix(0, 0)
	var p pace
	few, many := paced(paceFrom-1), paced(4*paceFrom)
	run := func(reqs []*request, every time.Duration) {
		for range 30 {
			p.note(reqs, now)
			p.wrote(every)
			now = now.Add(every + time.Millisecond)
		}
	}
	if p.worth(0) {
		t.Error("waits before anything was written")
	}
	if run(few, 10*time.Millisecond); p.worth(1) {
		t.Error("waits for few groups")
	}
	run(many, time.Millisecond)
	if !p.worth(1) || p.worth(len(many)/paceEnoughOf) {
		t.Error("does not wait for many groups, or not only until half have come")
	}
	if got := p.gather(); got != minGather {
		t.Errorf("waits %v for a disk that takes 1 ms", got)
	}
	if run(many, 100*time.Millisecond); !p.worth(1) || p.gather() != maxGather {
		t.Errorf("a slow disk: worth %t, %v", p.worth(1), p.gather())
	}
	now = now.Add(time.Second)
	if p.note(few, now); p.worth(1) {
		t.Error("waits after a pause")
	}
}
