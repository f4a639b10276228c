package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

const (
	// OpLife is how long an operation that ended stays to be read.
	OpLife = 24 * time.Hour
	// opWriteInterval is the least time between two writes of an operation whose
	// state stays what it is.
	opWriteInterval = time.Second
	// estimateInterval is the same where only the estimate has changed.
	estimateInterval = 10 * time.Second
	// opStep is how much of an operation has to be done more to be written.
	opStep = 0.01
)

// operator works on the operations of one plan.
type operator struct {
	*world
	ids     []string              // in the order in which they were asked for
	ops     map[string]cluster.Op // as they shall be
	wishes  map[*node]bool        // nodes whose wish has changed
	changed []Change              // assignments, each after its operation
}

// operate reads what operators ask for: it begins operations, follows them, and
// forgets those that ended long ago.
func operate(w *world) {
	if len(w.view.Ops) == 0 {
		return
	}
	o := &operator{world: w, ops: map[string]cluster.Op{}, wishes: map[*node]bool{}}
	for _, id := range slices.Sorted(maps.Keys(w.view.Ops)) {
		if _, broken := w.view.Broken["ops/"+id]; !broken {
			o.ids, o.ops[id] = append(o.ids, id), w.view.Ops[id]
		}
	}
	slices.SortStableFunc(o.ids, func(a, b string) int {
		return cmp.Compare(o.ops[a].CreateRevision, o.ops[b].CreateRevision)
	})
	o.pin()
	for _, id := range o.ids {
		if op := o.ops[id]; !op.State.Final() {
			o.step(id, &op)
			o.ops[id] = op
		}
	}
	o.write()
	w.recruit()
}

// pin keeps the balancer from partitions that an operator has placed, as long
// as the operation can be read.
func (o *operator) pin() {
	for _, id := range o.ids {
		op := o.ops[id]
		if op.Kind != cluster.OpMove && op.Kind != cluster.OpTransfer || op.State == cluster.OpRefused {
			continue
		}
		if p := o.find(op.TP()); p != nil {
			p.pinned = true
		}
	}
}

// step takes one operation as far as it goes in this view.
func (o *operator) step(id string, op *cluster.Op) {
	if op.Created == nil {
		op.Created = o.time()
	}
	begun := op.State == cluster.OpRunning
	err := op.Sensible()
	switch {
	case err != nil:
		o.end(op, cluster.OpRefused, err.Error())
	case op.State != "" && op.State != cluster.OpPending && !begun:
		o.end(op, cluster.OpRefused, fmt.Sprintf("unknown state %q: leave it out", op.State))
	case op.Cancel && !begun:
		o.end(op, cluster.OpCancelled, "it had not begun")
	case op.Kind == cluster.OpMove || op.Kind == cluster.OpTransfer:
		o.stepPartition(op, begun)
	default:
		o.stepNode(id, op, begun)
	}
}

func (o *operator) time() *time.Time {
	t := o.facts.Now.UTC().Truncate(time.Millisecond) // estimates go by it
	return &t
}

func (o *operator) begin(op *cluster.Op, total int, bytes int64) {
	op.State, op.Reason, op.Started = cluster.OpRunning, "", o.time()
	op.Progress = &cluster.Progress{Total: total, BytesTotal: bytes}
}

// wait leaves an operation that has not begun for later.
func (o *operator) wait(op *cluster.Op, reason string) {
	op.State, op.Reason = cluster.OpPending, "waits: "+reason
}

func (o *operator) end(op *cluster.Op, state cluster.OpState, reason string) {
	op.State, op.Reason, op.Finished = state, reason, o.time()
	if op.Progress == nil {
		return
	}
	p := *op.Progress
	p.EstimateSeconds = 0
	if state == cluster.OpDone {
		p.Done, p.BytesDone = p.Total, p.BytesTotal
	}
	op.Progress = &p
}

// wish wants something of a node, or nothing ("").
func (o *operator) wish(n *node, state string) {
	if n.wish != state {
		n.wish, o.wishes[n] = state, true
		o.recruit()
	}
}

// write turns what has changed into changes: wishes before the operations that
// made them, so that a running operation without its wish means that somebody
// has deleted the wish.
func (o *operator) write() {
	for _, n := range o.order {
		if !o.wishes[n] || n.wish == o.view.Wishes[n.id].State {
			continue
		}
		c := Change{Kind: cluster.WriteWish, Node: n.id, Wish: cluster.NodeWish{State: n.wish}, Revision: o.view.Wishes[n.id].ModRevision}
		if n.wish == "" {
			c.Kind = cluster.DropWish
		}
		o.changes = append(o.changes, c)
	}
	for _, id := range o.ids {
		was, op := o.view.Ops[id], o.ops[id]
		c := Change{Kind: cluster.WriteOp, OpID: id, Op: op, Revision: was.ModRevision, Reason: op.Reason}
		switch {
		case was.State.Final() && was.Finished == nil: // somebody wrote it so
			c.Op.Finished = o.time()
		case was.State.Final() && o.facts.Now.Sub(*was.Finished) > OpLife:
			c = Change{Kind: cluster.ForgetOp, OpID: id, Revision: was.ModRevision}
		case was.State.Final() || !o.worthWriting(id, &was, &op):
			continue
		}
		o.changes = append(o.changes, c)
	}
	o.changes = append(o.changes, o.changed...)
}

// worthWriting says whether people would see a difference. Etcd is not filled
// with every replica that arrives.
func (o *operator) worthWriting(id string, was, op *cluster.Op) bool {
	if was.State != op.State {
		return true
	}
	last, known := o.facts.Written[id]
	age := o.facts.Now.Sub(last)
	if known && age < opWriteInterval {
		return false
	}
	a, b := was.Progress, op.Progress
	switch {
	case was.Reason != op.Reason || (a == nil) != (b == nil):
		return true
	case a == nil:
		return false
	}
	more := b.Fraction() - a.Fraction()
	if a.Total != b.Total || more >= opStep || more <= -opStep {
		return true
	}
	return a.EstimateSeconds != b.EstimateSeconds && (!known || age >= estimateInterval)
}

// known names the nodes that exist, for people.
func (w *world) known() string {
	var names []string
	for _, n := range w.order {
		if n.up || n.replicas > 0 {
			names = append(names, fmt.Sprint(n.id))
		}
	}
	if len(names) == 0 {
		return "none is known"
	}
	return "known are " + strings.Join(names, ", ")
}
