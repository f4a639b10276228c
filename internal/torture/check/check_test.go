package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/torture/history"
)

func TestValidHistoriesPass(t *testing.T) {
	for seed := range uint64(2000) {
		if r := judge(valid(seed, 150).events); !r.Valid() || len(r.Unread) > 0 {
			t.Fatalf("seed %d: %+v, unread %v", seed, r.Violations, r.Unread)
		}
	}
}

// mutation makes a valid history invalid, or says that it can't.
type mutation struct {
	name  string
	kinds []string // of violations, one of which must be found
	do    func(s *sim) bool
}

// pick returns a random event that f likes, with the begin of its operation.
func (s *sim) pick(f func(begin, end *history.Event) bool) (begin, end *history.Event) {
	begins := make(map[int64]*history.Event)
	var fit [][2]*history.Event
	for i := range s.events {
		e := &s.events[i]
		if e.Is == "" {
			begins[e.ID] = e
			continue
		}
		if b := begins[e.ID]; f(b, e) {
			fit = append(fit, [2]*history.Event{b, e})
		}
	}
	if len(fit) == 0 {
		return nil, nil
	}
	one := fit[s.rnd.IntN(len(fit))]
	return one[0], one[1]
}

func reads(via history.Via, least int) func(b, e *history.Event) bool {
	return func(b, e *history.Event) bool {
		n := 0
		for _, r := range e.Runs {
			n += len(r.Records)
		}
		return b.Op == history.Read && b.Via == via && n >= least
	}
}

func ackedProduce(b, e *history.Event) bool { return b.Op == history.Produce && e.Is == history.OK }

// cloneRuns gives an event runs that no other one shares.
func cloneRuns(e *history.Event) {
	e.Runs = slices.Clone(e.Runs)
	for i := range e.Runs {
		e.Runs[i].Records = slices.Clone(e.Runs[i].Records)
	}
}

var mutations = []mutation{
	{"an acknowledged record is lost at the end", []string{"changed", "gap", "lost", "duplicate"}, func(s *sim) bool {
		// The last of a partition's log was acknowledged, and is not there in the end.
		for i, p := range s.parts {
			if len(p.log) == 0 || int64(len(p.log)) <= p.start {
				continue
			}
			rec := p.log[len(p.log)-1]
			if b, _ := s.pick(func(b, e *history.Event) bool { return ackedProduce(b, e) && b.Client == rec.Client && b.N == rec.N }); b == nil {
				continue
			}
			from := slices.IndexFunc(s.events, func(e history.Event) bool {
				return e.Via == history.Final && e.Partition == int32(i) && e.Offset == history.FromStart
			})
			s.events = s.events[:from]
			p.log = p.log[:len(p.log)-1]
			s.parts = s.parts[:i+1]
			s.finals()
			return true
		}
		return false
	}},
	{"a record is acknowledged at another's offset", []string{"changed", "duplicate", "impossible-offset"}, func(s *sim) bool {
		b1, e1 := s.pick(ackedProduce)
		if b1 == nil {
			return false
		}
		_, e2 := s.pick(func(b, e *history.Event) bool {
			return ackedProduce(b, e) && b.Partition == b1.Partition && e.Offset != e1.Offset
		})
		if e2 == nil {
			return false
		}
		e1.Offset = e2.Offset
		return true
	}},
	{"an offset that can't be", []string{"impossible-offset"}, func(s *sim) bool {
		_, e := s.pick(ackedProduce)
		if e == nil {
			return false
		}
		e.Offset = 1 << 60
		return true
	}},
	{"a read has another record", []string{"changed", "duplicate", "misplaced", "refused-record"}, func(s *sim) bool {
		_, e := s.pick(reads(history.Final, 2))
		if e == nil {
			return false
		}
		cloneRuns(e)
		var all []*history.Record
		for i := range e.Runs {
			for j := range e.Runs[i].Records {
				all = append(all, &e.Runs[i].Records[j])
			}
		}
		i := s.rnd.IntN(len(all) - 1)
		*all[i], *all[i+1] = *all[i+1], *all[i]
		return true
	}},
	{"a record that nobody wrote", []string{"fabricated"}, func(s *sim) bool {
		_, e := s.pick(reads(history.Leader, 1))
		if e == nil {
			return false
		}
		cloneRuns(e)
		e.Runs[0].Records[0] = history.Record{Client: "nobody", N: 3}
		return true
	}},
	{"a follower has a gap", []string{"gap"}, func(s *sim) bool {
		b, e := s.pick(func(b, e *history.Event) bool {
			return reads(history.Follower, 3)(b, e) && len(e.Runs[0].Records) >= 3 && e.Runs[0].At+1 > s.parts[b.Partition].start
		})
		if b == nil {
			return false
		}
		cloneRuns(e)
		run := e.Runs[0]
		e.Runs = append([]history.Run{{At: run.At, Epoch: run.Epoch, Records: run.Records[:1]}, {At: run.At + 2, Epoch: run.Epoch, Records: run.Records[2:]}}, e.Runs[1:]...)
		return true
	}},
	{"a read begins too late", []string{"gap"}, func(s *sim) bool {
		_, e := s.pick(func(b, e *history.Event) bool {
			return reads(history.Leader, 2)(b, e) && len(e.Runs[0].Records) >= 2 && e.Runs[0].At+1 > s.parts[b.Partition].start
		})
		if e == nil {
			return false
		}
		cloneRuns(e)
		e.Runs[0].At++
		e.Runs[0].Records = e.Runs[0].Records[1:]
		return true
	}},
	{"a read goes back", []string{"went-back"}, func(s *sim) bool {
		b, _ := s.pick(func(b, e *history.Event) bool { return reads(history.Leader, 1)(b, e) && b.Offset >= 0 })
		if b == nil {
			return false
		}
		b.Offset++
		return true
	}},
	{"a refused record is there", []string{"refused-record"}, func(s *sim) bool {
		_, e := s.pick(func(b, e *history.Event) bool {
			return ackedProduce(b, e) && e.Offset >= s.parts[b.Partition].start
		})
		if e == nil {
			return false
		}
		e.Is, e.Offset = history.Failed, 0
		return true
	}},
	{"a leader's watermark goes back", []string{"stale-read"}, func(s *sim) bool {
		acked := make(map[int32]int64)
		begun := make(map[int64]history.Event)
		for i := range s.events {
			e := &s.events[i]
			if e.Is == "" {
				begun[e.ID] = *e
				if e.Op == history.Read && e.Via == history.Leader && s.lacked(e, acked[e.Partition]-1) {
					for j := i; j < len(s.events); j++ {
						if end := &s.events[j]; end.ID == e.ID && end.Is == history.OK && !end.Out {
							end.Runs, end.High = nil, acked[e.Partition]-1
							return true
						}
					}
				}
				continue
			}
			if b := begun[e.ID]; ackedProduce(&b, e) {
				acked[b.Partition] = max(acked[b.Partition], e.Offset+1)
			}
		}
		return false
	}},
	{"an append goes below what was known", []string{"order", "impossible-offset"}, func(s *sim) bool {
		// Records of a partition change places, everywhere, though the second was sent after the first was acknowledged.
		type known struct {
			b   *history.Event
			end int // index
		}
		var acked []known
		begins := make(map[int64]*history.Event)
		for i := range s.events {
			e := &s.events[i]
			if e.Is != "" {
				if b := begins[e.ID]; ackedProduce(b, e) {
					acked = append(acked, known{b, i})
				}
				continue
			}
			begins[e.ID] = e
			if e.Op != history.Produce {
				continue
			}
			for _, k := range acked {
				if k.b.Partition != e.Partition {
					continue
				}
				first, second := history.Record{Client: k.b.Client, N: k.b.N}, history.Record{Client: e.Client, N: e.N}
				if s.swap(int(e.Partition), first, second) {
					return true
				}
			}
		}
		return false
	}},
	{"an offset is refused that is there", []string{"out-of-range"}, func(s *sim) bool {
		b, e := s.pick(func(b, e *history.Event) bool {
			return reads(history.Leader, 1)(b, e) && b.Offset >= 0 && b.Offset >= s.parts[b.Partition].start
		})
		if b == nil || s.parts[b.Partition].start > 0 {
			return false
		}
		e.Out, e.Runs = true, nil
		b.Offset = 0
		return true
	}},
	{"log start is too high", []string{"start-too-high"}, func(s *sim) bool {
		_, e := s.pick(reads(history.Final, 1))
		if e == nil {
			return false
		}
		e.Start = e.High + 1
		return true
	}},
	{"log start goes back", []string{"start-went-back"}, func(s *sim) bool {
		_, e := s.pick(func(b, e *history.Event) bool {
			return b.Op == history.Read && b.Via == history.Final && e.Start > 0 && s.parts[b.Partition].start == e.Start && s.toldStart(b.Partition)
		})
		if e == nil {
			return false
		}
		e.Start = 0
		return true
	}},
	{"a record's epoch changes", []string{"epoch-changed", "epoch-order"}, func(s *sim) bool {
		b, e := s.pick(func(b, e *history.Event) bool { return reads(history.Final, 2)(b, e) && len(e.Runs[0].Records) > 1 })
		if b == nil {
			return false
		}
		cloneRuns(e)
		run := e.Runs[0]
		e.Runs = append([]history.Run{{At: run.At, Epoch: run.Epoch + 1000, Records: run.Records[:1]}, {At: run.At + 1, Epoch: run.Epoch, Records: run.Records[1:]}}, e.Runs[1:]...)
		return true
	}},
	{"a commit is lost", []string{"commit-lost"}, func(s *sim) bool {
		b, e := s.pick(func(b, e *history.Event) bool { return b.Op == history.Committed && e.Offset > 0 })
		if b == nil {
			return false
		}
		acked := false
		for _, x := range s.events {
			if x.ID == b.ID {
				break
			}
			if x.Op == history.Commit && x.Partition == b.Partition {
				for _, end := range s.events {
					acked = acked || end.ID == x.ID && end.Is == history.OK
				}
			}
		}
		if !acked {
			return false
		}
		e.Offset = -1
		return true
	}},
	{"a commit is made up", []string{"commit-made-up"}, func(s *sim) bool {
		_, e := s.pick(func(b, e *history.Event) bool { return b.Op == history.Committed })
		if e == nil {
			return false
		}
		e.Offset = 1 << 40
		return true
	}},
	{"a time is answered too late", []string{"time"}, func(s *sim) bool {
		b, e := s.pick(func(b, e *history.Event) bool {
			return b.Op == history.ForTime && e.Offset >= 0 && s.parts[b.Partition].start == 0
		})
		if b == nil {
			return false
		}
		e.Offset++
		return true
	}},
	{"replicas differ", []string{"divergence"}, func(s *sim) bool {
		id := s.begin(history.Event{Op: history.Verify})
		s.end(id, history.Event{Is: history.OK, Differences: 1})
		return true
	}},
	{"replicas can't be compared", []string{"not-recovered"}, func(s *sim) bool {
		id := s.begin(history.Event{Op: history.Verify})
		s.end(id, history.Event{Is: history.Failed})
		return true
	}},
	{"two nodes lead in one term", []string{"two-leaders"}, func(s *sim) bool {
		for node := range int32(2) {
			id := s.begin(history.Event{Op: history.Lead, Topic: simTopic, Term: 7, Node: node})
			s.end(id, history.Event{Is: history.OK})
		}
		return true
	}},
	{"it does not recover", []string{"not-recovered"}, func(s *sim) bool {
		id := s.begin(history.Event{Op: history.Recover})
		s.end(id, history.Event{Is: history.Failed})
		return true
	}},
	{"an operation ends twice", []string{"malformed"}, func(s *sim) bool {
		_, e := s.pick(func(b, e *history.Event) bool { return true })
		s.events = append(s.events, *e)
		return true
	}},
}

// lacked says whether an offset is there in the end, and was written in the term of
// a read or before.
func (s *sim) lacked(read *history.Event, offset int64) bool {
	p := s.parts[read.Partition]
	return offset >= p.start && int64(p.epochs[offset]) <= read.Term
}

// toldStart says whether somebody was told of the deletion up to the log's start,
// before the final reads.
func (s *sim) toldStart(partition int32) bool {
	b, _ := s.pick(func(b, e *history.Event) bool {
		return b.Op == history.Truncate && b.Partition == partition && e.Is == history.OK && e.Start > 0
	})
	return b != nil
}

// swap exchanges two records of a partition wherever they are seen.
func (s *sim) swap(partition int, a, b history.Record) bool {
	p := s.parts[partition]
	i, j := slices.Index(p.log, a), slices.Index(p.log, b)
	if i < 0 || j < 0 || i > j {
		return false
	}
	begins := make(map[int64]*history.Event)
	for k := range s.events {
		e := &s.events[k]
		if e.Is == "" {
			begins[e.ID] = e
			continue
		}
		begin := begins[e.ID]
		if begin.Partition != int32(partition) || e.Is != history.OK {
			continue
		}
		switch begin.Op {
		case history.Produce:
			switch (history.Record{Client: begin.Client, N: begin.N}) {
			case a:
				e.Offset = int64(j)
			case b:
				e.Offset = int64(i)
			}
		case history.Read:
			cloneRuns(e)
			for r := range e.Runs {
				for x := range e.Runs[r].Records {
					switch e.Runs[r].At + int64(x) {
					case int64(i):
						e.Runs[r].Records[x] = b
					case int64(j):
						e.Runs[r].Records[x] = a
					}
				}
			}
		}
	}
	return true
}

// TestMutationsAreFound makes valid histories invalid, each in many ways and places.
func TestMutationsAreFound(t *testing.T) {
	for _, m := range mutations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			done := 0
			for seed := uint64(0); done < 50; seed++ {
				if seed == 5000 {
					t.Fatalf("made %d only", done)
				}
				s := valid(seed, 150)
				s.rnd = rand.New(rand.NewPCG(seed, 1))
				if !m.do(s) {
					continue
				}
				done++
				r := judge(s.events)
				if !slices.ContainsFunc(r.Violations, func(v Violation) bool { return slices.Contains(m.kinds, v.Kind) }) {
					t.Fatalf("seed %d: found %s", seed, kinds(r))
				}
			}
		})
	}
}

func kinds(r *Report) string {
	var all []string
	for _, v := range r.Violations {
		all = append(all, v.Kind)
	}
	return fmt.Sprint(all)
}
