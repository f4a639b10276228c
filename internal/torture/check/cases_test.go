package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// op is an operation that begins and ends at once.
func op(begin, end history.Event) []history.Event {
	if begin.Op != history.Recover {
		begin.Topic = "t"
	}
	return []history.Event{begin, end}
}

func append1(client string, n, offset int64) []history.Event {
	return op(history.Event{Op: history.Produce, Client: client, N: n, Once: strings.HasPrefix(client, "once")}, history.Event{Is: history.OK, Offset: offset})
}

func commit(offset int64, reset bool, is history.Outcome) []history.Event {
	return op(history.Event{Op: history.Commit, Group: "g", Offset: offset, Reset: reset}, history.Event{Is: is})
}

func fetched(offset int64) []history.Event {
	return op(history.Event{Op: history.Committed, Group: "g"}, history.Event{Is: history.OK, Offset: offset})
}

func read(via history.Via, from, at int64, records ...history.Record) []history.Event {
	e := history.Event{Is: history.OK, High: at + int64(len(records))}
	if len(records) > 0 {
		e.Runs = []history.Run{{At: at, Epoch: 1, Records: records}}
	}
	return op(history.Event{Op: history.Read, Via: via, Group: "g", Offset: from}, e)
}

// together begins all operations before the first ends.
func together(ops ...[]history.Event) (all []history.Event) {
	for _, o := range ops {
		all = append(all, o[0])
	}
	for _, o := range ops {
		all = append(all, o[1])
	}
	return all
}

func sequence(ops ...[]history.Event) (all []history.Event) { return slices.Concat(ops...) }

// numbered gives operations their ids.
func numbered(events []history.Event) []history.Event {
	var open []int64
	for i := range events {
		e := &events[i]
		e.T = int64(i)
		if e.Is == "" {
			e.ID = int64(i) + 1
			open = append(open, e.ID)
			continue
		}
		e.ID, open = open[0], open[1:]
	}
	return events
}

func TestCases(t *testing.T) {
	a0, a1, b0 := history.Record{Client: "a", N: 0}, history.Record{Client: "a", N: 1}, history.Record{Client: "b", N: 0}
	for _, c := range []struct {
		name   string
		events []history.Event
		want   string // kinds of violations
	}{
		{"nothing", nil, ""},
		{"appends in order", sequence(append1("a", 0, 0), append1("a", 1, 1)), ""},
		{"appends at once, in any order", together(append1("a", 0, 1), append1("b", 0, 0)), ""},
		{"two at one offset", together(append1("a", 0, 0), append1("b", 0, 0)), "changed"},
		{"the second before the first", sequence(append1("a", 0, 1), append1("b", 0, 0)), "impossible-offset"},
		{"an idempotent producer's in flight, in order", together(append1("once", 0, 0), append1("once", 1, 1)), ""},
		{"an idempotent producer's in flight, not in order", together(append1("once", 0, 1), append1("once", 1, 0)), "producer-order"},
		{"a plain producer's in flight, not in order", together(append1("a", 0, 1), append1("a", 1, 0)), ""},
		{"a record that was not acknowledged yet is read", sequence(together(append1("a", 0, 0), read(history.Leader, 0, 0, a0))), ""},
		{"a record twice", sequence(together(append1("a", 0, 0), append1("a", 1, 1)), read(history.Leader, 0, 0, a0, a0)), "changed"},
		{"an acknowledged record is lost", sequence(append1("a", 0, 0), append1("a", 1, 1), read(history.Final, history.FromStart, 0, a0)), "lost"},
		{"an acknowledged record is replaced", sequence(together(append1("a", 0, 0), append1("b", 0, 1)), read(history.Final, history.FromStart, 0, b0, a1)), "changed fabricated"},
		{"a member begins where the group was", sequence(append1("a", 0, 0), append1("a", 1, 1), commit(1, false, history.OK), read(history.Group, history.FromCommitted, 1, a1)), ""},
		{"a member begins too late", sequence(append1("a", 0, 0), append1("a", 1, 1), read(history.Group, history.FromCommitted, 1, a1)), "gap"},
		{"commits go on", sequence(commit(1, false, history.OK), commit(2, false, history.OK), fetched(2)), ""},
		{"a commit is lost", sequence(commit(1, false, history.OK), commit(2, false, history.OK), fetched(1)), "commit-lost"},
		{"all commits are lost", sequence(commit(1, false, history.OK), fetched(-1)), "commit-lost"},
		{"a commit of which nobody knew comes true later", sequence(commit(1, false, history.Unknown), commit(2, false, history.OK), fetched(1)), ""},
		{"a commit that was refused", sequence(commit(1, false, history.OK), commit(2, false, history.OK), commit(1, false, history.Failed), fetched(1)), "commit-lost"},
		{"a former member commits", sequence(commit(2, false, history.OK), commit(1, false, history.OK)), "commit-went-back"},
		{"a reset", sequence(commit(2, false, history.OK), commit(0, true, history.OK), fetched(0), commit(1, false, history.OK), fetched(1)), ""},
		{"a reset is undone", sequence(commit(1, false, history.OK), commit(0, true, history.OK), commit(1, false, history.OK), fetched(0)), "commit-lost"},
		{"records were not deleted", sequence(append1("a", 0, 0), append1("a", 1, 1), op(history.Event{Op: history.Truncate, Offset: 1}, history.Event{Is: history.OK, Start: 0})), "not-deleted"},
		{"what was deleted is read again", sequence(append1("a", 0, 0), append1("a", 1, 1), op(history.Event{Op: history.Truncate, Offset: 1}, history.Event{Is: history.OK, Start: 1}), read(history.Final, 0, 1, a1), read(history.Leader, 0, 0, a0, a1)), "start-went-back"},
		{"a topic that was deleted owes nothing", sequence(append1("a", 0, 0), op(history.Event{Op: history.Drop}, history.Event{Is: history.OK})), ""},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if got := strings.Trim(kinds(judge(numbered(c.events))), "[]"); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzChecker: no history makes it panic, or take more memory than its own.
func FuzzChecker(f *testing.F) {
	f.Add(`{"t":1,"id":1,"op":"produce","client":"a","topic":"t"}` + "\n" + `{"t":2,"id":1,"is":"ok","offset":9223372036854775807}`)
	f.Add(`{"t":1,"id":1,"op":"read","topic":"t","offset":-2}` + "\n" + `{"t":2,"id":1,"is":"ok","runs":[{"at":-1,"records":["a/0","/1"]},{"at":9223372036854775807,"records":["a/0"]}]}`)
	f.Add(`{"t":1,"id":1,"op":"for-time","topic":"t","millis":5}` + "\n" + `{"t":2,"id":1,"is":"ok","offset":9223372036854775807}`)
	f.Fuzz(func(t *testing.T, lines string) {
		c := New()
		if _, err := history.Scan(strings.NewReader(`{"version":1}`+"\n"+lines+"\n"), c.Add); err == nil {
			c.Finish()
		}
	})
}
