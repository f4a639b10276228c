package check

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// sim makes up valid histories: a log that works, clients that use it, and
// operations whose begins and ends overlap and get lost at random.
type sim struct {
	rnd    *rand.Rand
	events []history.Event
	nextID int64
	t      int64
	parts  []*simPart
	open   []func() // ends of operations under way, each with its effect
	sent   map[string]int64
	late   []func() // effects of operations whose end nobody saw
}

type simPart struct {
	log       []history.Record
	epochs    []int32
	times     []int64
	start     int64
	epoch     int32
	committed map[string]int64
	wanted    map[string]int64
}

const simTopic = "t"

func newSim(seed uint64, partitions int) *sim {
	s := &sim{rnd: rand.New(rand.NewPCG(seed, 0)), sent: make(map[string]int64)}
	for range partitions {
		s.parts = append(s.parts, &simPart{epoch: 1, committed: map[string]int64{}, wanted: map[string]int64{}})
	}
	return s
}

func (s *sim) begin(e history.Event) int64 {
	s.nextID++
	s.t++
	e.ID, e.T = s.nextID, s.t
	s.events = append(s.events, e)
	return e.ID
}

func (s *sim) end(id int64, e history.Event) {
	s.t++
	e.ID, e.T = id, s.t
	s.events = append(s.events, e)
}

// finishOne ends an operation under way.
func (s *sim) finishOne() {
	if len(s.open) == 0 {
		return
	}
	i := s.rnd.IntN(len(s.open))
	f := s.open[i]
	s.open = slices.Delete(s.open, i, i+1)
	f()
}

func (s *sim) step() {
	i := s.rnd.IntN(len(s.parts))
	p := s.parts[i]
	at := history.Event{Topic: simTopic, Partition: int32(i)}
	switch k := s.rnd.IntN(20); {
	case k < 8:
		s.produce(p, at)
	case k < 12:
		s.read(p, at)
	case k == 12 && len(s.late) > 0:
		j := s.rnd.IntN(len(s.late))
		f := s.late[j]
		s.late = slices.Delete(s.late, j, j+1)
		f()
	case k == 13 && s.rnd.IntN(4) == 0:
		p.epoch++
	case k == 14 && s.rnd.IntN(3) == 0:
		s.truncate(p, at)
	case k == 15:
		s.commit(p, at)
	case k == 16:
		s.committed(p, at)
	case k == 17:
		s.forTime(p, at)
	default:
		s.finishOne()
	}
}

func (s *sim) produce(p *simPart, e history.Event) {
	e.Op, e.Millis = history.Produce, int64(s.rnd.IntN(5))+s.t/3
	// An idempotent producer has one append under way for each partition here: its order is that of the log.
	e.Client = fmt.Sprintf("p%d", s.rnd.IntN(3))
	e.N = s.sent[e.Client]
	s.sent[e.Client]++
	id := s.begin(e)
	apply := func() int64 {
		p.log = append(p.log, history.Record{Client: e.Client, N: e.N})
		p.epochs, p.times = append(p.epochs, p.epoch), append(p.times, e.Millis)
		return int64(len(p.log)) - 1
	}
	switch k := s.rnd.IntN(10); {
	case k < 7: // the effect comes first, the end later
		offset := apply()
		s.open = append(s.open, func() { s.end(id, history.Event{Is: history.OK, Offset: offset}) })
	case k == 7:
		s.open = append(s.open, func() { s.end(id, history.Event{Is: history.Failed}) })
	case k == 8:
		s.open = append(s.open, func() { s.end(id, history.Event{Is: history.Unknown}); s.late = append(s.late, func() { apply() }) })
	default: // never ends
		s.late = append(s.late, func() { apply() })
	}
}

// view is what a read from an offset sees.
func (p *simPart) view(from int64, limit int) (runs []history.Run) {
	for o := max(from, p.start); o < int64(len(p.log)) && limit > 0; o, limit = o+1, limit-1 {
		if n := len(runs); n == 0 || runs[n-1].Epoch != p.epochs[o] {
			runs = append(runs, history.Run{At: o, Epoch: p.epochs[o]})
		}
		run := &runs[len(runs)-1]
		run.Records = append(run.Records, p.log[o])
	}
	return runs
}

func (s *sim) read(p *simPart, e history.Event) {
	e.Op, e.Via, e.Client = history.Read, history.Leader, "r"
	end := int64(len(p.log))
	switch s.rnd.IntN(4) {
	case 0:
		e.Offset = history.FromStart
	default:
		e.Offset = s.rnd.Int64N(end + 1)
	}
	if s.rnd.IntN(4) == 0 {
		e.Via = history.Follower
	}
	if e.Via == history.Leader {
		e.Term = int64(p.epoch)
	}
	id := s.begin(e)
	limit := s.rnd.IntN(40)
	if e.Offset >= 0 && e.Offset < p.start {
		s.open = append(s.open, func() { s.end(id, history.Event{Is: history.OK, Out: true}) })
		return
	}
	start, high, runs := p.start, int64(len(p.log)), p.view(e.Offset, limit)
	s.open = append(s.open, func() { s.end(id, history.Event{Is: history.OK, Runs: runs, Start: start, High: high}) })
}

func (s *sim) truncate(p *simPart, e history.Event) {
	if len(p.log) == 0 {
		return
	}
	e.Op, e.Offset = history.Truncate, s.rnd.Int64N(int64(len(p.log)))
	id := s.begin(e)
	p.start = max(p.start, e.Offset)
	start := p.start
	if s.rnd.IntN(4) > 0 {
		s.open = append(s.open, func() { s.end(id, history.Event{Is: history.OK, Start: start}) })
	}
}

func (s *sim) commit(p *simPart, e history.Event) {
	e.Op, e.Group, e.Client = history.Commit, "g", "c"
	p.wanted["g"] += s.rnd.Int64N(5) + 1
	e.Offset = p.wanted["g"]
	id := s.begin(e)
	if s.rnd.IntN(4) == 0 { // one whose end nobody saw comes true now or never
		if s.rnd.IntN(2) == 0 {
			p.committed["g"] = e.Offset
		}
		return
	}
	p.committed["g"] = e.Offset
	s.end(id, history.Event{Is: history.OK})
}

func (s *sim) committed(p *simPart, e history.Event) {
	e.Op, e.Group, e.Client = history.Committed, "g", "f"
	id := s.begin(e)
	got, ok := p.committed["g"]
	if !ok {
		got = -1
	}
	s.open = append(s.open, func() { s.end(id, history.Event{Is: history.OK, Offset: got}) })
}

func (s *sim) forTime(p *simPart, e history.Event) {
	e.Op, e.Client, e.Millis = history.ForTime, "q", s.rnd.Int64N(s.t/3+5)
	e.Term = int64(p.epoch)
	id, got := s.begin(e), int64(-1)
	for o := p.start; o < int64(len(p.log)); o++ {
		if p.times[o] >= e.Millis {
			got = o
			break
		}
	}
	s.end(id, history.Event{Is: history.OK, Offset: got})
}

// finals reads everything when all is over.
func (s *sim) finals() {
	for len(s.open) > 0 {
		s.finishOne()
	}
	for i, p := range s.parts {
		for next := int64(history.FromStart); ; {
			id := s.begin(history.Event{Op: history.Read, Via: history.Final, Client: "final", Topic: simTopic, Partition: int32(i), Offset: next})
			runs := p.view(next, 50)
			s.end(id, history.Event{Is: history.OK, Runs: runs, Start: p.start, High: int64(len(p.log))})
			if len(runs) == 0 {
				break
			}
			last := runs[len(runs)-1]
			next = last.At + int64(len(last.Records))
		}
	}
}

// valid makes a valid history.
func valid(seed uint64, steps int) *sim {
	s := newSim(seed, 1+int(seed%3))
	for range steps {
		s.step()
	}
	s.finals()
	return s
}

func judge(events []history.Event) *Report {
	c := New()
	for _, e := range events {
		c.Add(e)
	}
	return c.Finish()
}
