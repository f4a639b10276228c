package replication

import (
	"testing"
	"time"
)

func TestWanted(t *testing.T) {
	g := &Group{}
	at := time.UnixMilli(1_000_000)
	steps := []struct {
		name string
		do   func()
		at   time.Duration
		due  bool
	}{
		{"nobody wants one", func() {}, 0, false},
		{"wanted", g.WantSnapshot, 0, true},
		{"taken", func() { g.wanted.taken(false) }, time.Hour, false},
		{"wanted again", g.WantSnapshot, time.Hour, true},
		{"wanted too soon", func() { g.wanted.taken(false); g.WantSnapshot() }, time.Hour + wantedEvery - 1, false},
		{"a moment later", func() {}, time.Hour + wantedEvery, true},
		{"it came to nothing", func() { g.wanted.taken(true) }, 2 * time.Hour, true},
		{"another one failed", func() { g.wanted.taken(false); g.wanted.taken(true) }, 3 * time.Hour, false},
	}
	for _, s := range steps {
		s.do()
		if due := g.wanted.due(at.Add(s.at)); due != s.due {
			t.Errorf("%s: due %t", s.name, due)
		}
	}
}
