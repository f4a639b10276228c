package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

const (
	// opsLately is how long an operation that did not succeed is a finding.
	opsLately = time.Hour
	// opsWait is how long nobody may look at an operation.
	opsWait = 30 * time.Second
)

// operations finds those that did not succeed lately, those that nobody looks
// at, and those that run.
func operations(in *Input) (found []Finding) {
	for _, id := range OpIDs(in.View.Ops) {
		op := in.View.Ops[id]
		f := Finding{Severity: Degraded, Ops: []string{id}, Do: "raftsman ops describe " + id}
		switch {
		case op.State == cluster.OpRefused || op.State == cluster.OpFailed:
			if op.Finished == nil || in.Now.Sub(*op.Finished) > opsLately || repeated(in.View.Ops, op) {
				continue
			}
			f.Kind, f.Since = "operation-"+string(op.State), op.Finished
			verb := map[cluster.OpState]string{cluster.OpRefused: "was refused", cluster.OpFailed: "failed"}[op.State]
			f.What = fmt.Sprintf("%s %s: %s", Title(op), verb, op.Reason)
		case op.State.Final():
			continue
		case (op.State == "" || op.State == cluster.OpPending) && op.Reason == "" && op.Created != nil && in.Now.Sub(*op.Created) > opsWait:
			f.Kind, f.Since = "operation-waiting", op.Created
			f.What = Title(op) + " waits: no winner has looked at it"
			f.Do = "look for a winner: raftsman cluster status; to drop it: raftsman ops cancel " + id
		default:
			f.Kind, f.Severity, f.Since = "operation-running", Info, cmp.Or(op.Started, op.Created)
			f.What = fmt.Sprintf("%s is %d%% done", Title(op), Percent(op))
			if p := op.Progress; p != nil && p.EstimateSeconds > 0 {
				f.What += ", " + Span(time.Duration(p.EstimateSeconds)*time.Second) + " left"
			}
			if op.Reason != "" {
				f.What += ": " + op.Reason
			}
			f.Do = "raftsman ops wait " + id
		}
		found = append(found, f)
	}
	return found
}

// repeated says that the same was asked for again after it had not succeeded.
func repeated(ops map[string]cluster.Op, o cluster.Op) bool {
	for _, other := range ops {
		if other.Kind == o.Kind && other.Node == o.Node && other.TP() == o.TP() && other.CreateRevision > o.CreateRevision {
			return true
		}
	}
	return false
}

// OpIDs returns the ids of operations, the oldest first.
func OpIDs(ops map[string]cluster.Op) []string {
	return slices.SortedFunc(maps.Keys(ops), func(a, b string) int {
		return cmp.Or(cmp.Compare(ops[a].CreateRevision, ops[b].CreateRevision), cmp.Compare(a, b))
	})
}

// Title says what an operation is about.
func Title(o cluster.Op) string {
	switch o.Kind {
	case cluster.OpDrain, cluster.OpUndrain, cluster.OpDecommission:
		return fmt.Sprintf("%s of node %d", o.Kind, o.Node)
	case cluster.OpMove:
		return fmt.Sprintf("move of %s to %s", o.TP(), named(o.Replicas))
	case cluster.OpTransfer:
		return fmt.Sprintf("transfer of %s to node %d", o.TP(), o.Node)
	}
	return fmt.Sprintf("operation of unknown kind %q", o.Kind)
}

// Percent is how much is done, from 0 to 100; 100 only of what is done.
func Percent(o cluster.Op) int {
	switch {
	case o.State == cluster.OpDone:
		return 100
	case o.Progress == nil:
		return 0
	}
	return int(min(max(o.Progress.Fraction(), 0)*100, 99))
}
