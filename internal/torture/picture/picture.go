// Package picture draws what surrounds a violation: porcupine's visualisation of the
// operations on one partition, as an HTML file. It is for looking at; the verdict is
// that of package check.
package picture

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/raftsman/raftsman/internal/torture/check"
	"github.com/raftsman/raftsman/internal/torture/history"
)

const (
	// around is how far from the violation's offset operations are shown.
	around = 8
	// maxShown operations make a picture that can be looked at.
	maxShown = 120
	// patience bounds the search for orders in which the operations could have happened.
	patience = 10 * time.Second
)

// op is an operation in the picture, as it concerns the offsets near the violation.
type op struct {
	begin, end history.Event
	returned   int64
	sees       map[int64]history.Record // offsets with what the operation was told of them
	high       int64                    // a leader's high watermark; -1: not told
}

// log is the model's state: what is at which offset, and nothing behind last.
type log struct {
	at   map[int64]history.Record
	last int64
}

var model = porcupine.Model{
	Init: func() any { return log{last: math.MinInt64} },
	Step: func(state, _, output any) (bool, any) {
		l, o := state.(log), output.(*op)
		if o.begin.Op == history.Produce {
			return l.append(o)
		}
		if o.high >= 0 && o.high <= l.last {
			return false, l
		}
		for at, r := range o.sees {
			if is, ok := l.at[at]; !ok || is != r {
				return false, l
			}
		}
		return true, l
	},
	Equal: func(a, b any) bool {
		x, y := a.(log), b.(log)
		return x.last == y.last && maps.Equal(x.at, y.at)
	},
	DescribeOperation: func(_, output any) string { return output.(*op).String() },
	DescribeState: func(state any) string {
		l := state.(log)
		var lines []string
		for _, at := range slices.Sorted(maps.Keys(l.at)) {
			lines = append(lines, fmt.Sprintf("%d: %s", at, l.at[at]))
		}
		return strings.Join(lines, "<br>")
	},
}

// append puts a record behind all others.
func (l log) append(o *op) (bool, any) {
	for at, r := range o.sees {
		if at <= l.last {
			return false, l
		}
		next := log{at: maps.Clone(l.at), last: at}
		if next.at == nil {
			next.at = make(map[int64]history.Record)
		}
		next.at[at] = r
		return true, next
	}
	return true, l // nobody has seen where, or whether
}

func (o *op) String() string {
	b := o.begin
	var seen []string
	for _, at := range slices.Sorted(maps.Keys(o.sees)) {
		seen = append(seen, fmt.Sprintf("%d: %s", at, o.sees[at]))
	}
	is := cmp.Or(o.end.Is, history.Unknown)
	if b.Op == history.Produce {
		return fmt.Sprintf("#%d append %s/%d → %s %s", b.ID, b.Client, b.N, is, strings.Join(seen, ", "))
	}
	text := fmt.Sprintf("#%d %s %s from %d → %s", b.ID, b.Op, b.Via, b.Offset, strings.Join(seen, ", "))
	if o.high >= 0 {
		text += fmt.Sprintf(", high watermark %d", o.high)
	}
	return text
}

// Draw reads a history again and writes the picture of a violation.
func Draw(path string, v check.Violation, w io.Writer) error {
	ops, err := collect(path, v)
	if err != nil {
		return err
	}
	clients := make(map[string]int)
	var shown []porcupine.Operation
	for _, o := range ops {
		if _, ok := clients[o.begin.Client]; !ok {
			clients[o.begin.Client] = len(clients)
		}
		shown = append(shown, porcupine.Operation{ClientId: clients[o.begin.Client], Call: o.begin.T, Output: o, Return: o.returned})
	}
	_, info := porcupine.CheckOperationsVerbose(model, shown, patience)
	info.AddAnnotations([]porcupine.Annotation{{Tag: "violation", Start: v.T, Description: v.Kind, Details: v.Text}})
	return porcupine.Visualize(model, info, w)
}

// collect finds the operations of the violation's partition that were told of offsets
// near it, and appends whose record others have seen there.
func collect(path string, v check.Violation) ([]*op, error) {
	open := make(map[int64]history.Event)
	var ops []*op
	var last int64
	appends := make(map[history.Record]*op)
	near := func(at int64) bool { return at >= v.Offset-around && at <= v.Offset+around }
	seen := make(map[history.Record]int64)
	_, err := history.ScanFile(path, func(e history.Event) {
		last = e.T
		if e.Is == "" {
			if e.Topic == v.Topic && e.Partition == v.Partition && (e.Op == history.Produce || e.Op == history.Read || e.Op == history.Bounds) {
				open[e.ID] = e
				if e.Op == history.Produce {
					appends[history.Record{Client: e.Client, N: e.N}] = &op{begin: e, returned: -1, high: -1}
				}
			}
			return
		}
		b, ours := open[e.ID]
		if !ours {
			return
		}
		delete(open, e.ID)
		if b.Op == history.Produce {
			rec := history.Record{Client: b.Client, N: b.N}
			a := appends[rec]
			a.end, a.returned = e, e.T
			if e.Is == history.OK && near(e.Offset) {
				a.sees = map[int64]history.Record{e.Offset: rec}
				ops = append(ops, a)
				delete(appends, rec)
			} else if e.Is == history.OK {
				delete(appends, rec) // far away
			}
			return
		}
		if e.Is != history.OK || e.Out {
			return
		}
		o := &op{begin: b, end: e, returned: e.T, sees: make(map[int64]history.Record), high: -1}
		if (b.Via == history.Leader || b.Via == history.Final || b.Op == history.Bounds) && near(e.High) {
			o.high = e.High
		}
		for _, run := range e.Runs {
			for i, r := range run.Records {
				if at := run.At + int64(i); near(at) {
					o.sees[at] = r
					seen[r] = at
				}
			}
		}
		if len(o.sees) > 0 || o.high >= 0 || slices.Contains(v.Ops, b.ID) {
			ops = append(ops, o)
		}
	})
	if err != nil {
		return nil, err
	}
	for r, at := range seen { // not acknowledged, and there
		if a := appends[r]; a != nil {
			a.sees, a.returned = map[int64]history.Record{at: r}, last
			ops = append(ops, a)
		}
	}
	slices.SortFunc(ops, func(a, b *op) int { return cmp.Compare(a.begin.T, b.begin.T) })
	return thin(ops, v), nil
}

// thin keeps all appends and the reads nearest to the violation in time.
func thin(ops []*op, v check.Violation) []*op {
	if len(ops) <= maxShown {
		return ops
	}
	distance := func(o *op) int64 {
		if o.begin.Op == history.Produce || slices.Contains(v.Ops, o.begin.ID) {
			return -1
		}
		return max(o.begin.T-v.T, v.T-o.begin.T)
	}
	slices.SortStableFunc(ops, func(a, b *op) int { return cmp.Compare(distance(a), distance(b)) })
	ops = ops[:maxShown]
	slices.SortFunc(ops, func(a, b *op) int { return cmp.Compare(a.begin.T, b.begin.T) })
	return ops
}
