package controller

import (
	"fmt"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// stepPartition takes a move or transfer as far as it goes.
func (o *operator) stepPartition(op *cluster.Op, begun bool) {
	p := o.find(op.TP())
	if p == nil || len(p.a.Replicas) == 0 {
		switch {
		case begun:
			o.end(op, cluster.OpFailed, "the partition is gone")
		case o.expected(op.TP()):
			o.wait(op, "the partition is not placed yet")
		default:
			o.end(op, cluster.OpRefused, fmt.Sprintf("there is no partition %s", op.TP()))
		}
		return
	}
	if p.touched {
		if begun {
			return
		}
		o.wait(op, "the partition is being changed for another reason")
		return
	}
	switch {
	case !begun && op.Kind == cluster.OpMove:
		o.beginMove(op, p)
	case !begun:
		o.beginTransfer(op, p)
	default:
		o.follow(op, p)
	}
}

// expected says that the topic has such a partition.
func (o *operator) expected(tp cluster.TopicPartition) bool {
	return tp.Partition < o.view.Topics[tp.Topic].Partitions
}

// beginMove writes the assignment that a move asks for.
func (o *operator) beginMove(op *cluster.Op, p *part) {
	var want []cluster.Replica
	fresh := 0
	for _, id := range op.Replicas {
		if i := slices.IndexFunc(p.a.Replicas, func(r cluster.Replica) bool { return r.Node == id }); i >= 0 {
			want = append(want, p.a.Replicas[i])
			continue
		}
		n := o.nodes[id]
		if why := o.moveRefusal(n, id, op.Force); why != "" {
			o.end(op, cluster.OpRefused, why)
			return
		}
		want = append(want, cluster.Replica{Node: id, Incarnation: n.incarnation})
		fresh++
	}
	if rf := int(o.view.Topics[op.Topic].ReplicationFactor); len(want) != rf && !op.Resize && !op.Force {
		o.end(op, cluster.OpRefused, fmt.Sprintf(`the topic has %d replicas, not %d ("force":true does it all the same)`, rf, len(want)))
		return
	}
	if slices.Equal(want, p.a.Replicas) && p.settled() {
		op.Started = o.time()
		o.end(op, cluster.OpDone, "it is there already")
		return
	}
	if why := o.unsettled(p); why != "" {
		o.wait(op, why)
		return
	}
	if why := o.unsafe(p, want); why != "" && !op.Force {
		if op.Patient {
			o.wait(op, why)
			return
		}
		o.end(op, cluster.OpRefused, fmt.Sprintf("%s: %s", p.tp, why))
		return
	}
	if fresh > 0 && o.budget < min(fresh, o.facts.Moves) {
		o.wait(op, "other replicas are moving")
		return
	}
	o.budget -= fresh
	o.begin(op, fresh, int64(fresh)*p.bytes)
	if fresh > 0 {
		op.Progress.EstimateSeconds = o.forecast(fresh, op.Progress.BytesTotal, nil)
	}
	o.assign(op, p, want)
}

// moveRefusal says why a node can't get a replica.
func (o *operator) moveRefusal(n *node, id int32, force bool) string {
	switch {
	case n == nil || !n.up && n.replicas == 0:
		return fmt.Sprintf("node %d is unknown: %s", id, o.known())
	case !n.up:
		return fmt.Sprintf("node %d is away", id)
	case n.state == cluster.StateFull:
		return fmt.Sprintf("the disk of node %d is full", id)
	case n.state != cluster.StateReady:
		return fmt.Sprintf("node %d is %s", id, n.state)
	case n.wish != "" && !force:
		return fmt.Sprintf(`node %d is %s ("force":true does it all the same)`, id, n.wish)
	}
	return ""
}

// unsettled says why a partition can't be changed now, or nothing.
func (o *operator) unsettled(p *part) string {
	switch {
	case p.leader == nil:
		return fmt.Sprintf("%s has no leader", p.tp)
	case !p.settled():
		return fmt.Sprintf("the members of %s are changing", p.tp)
	}
	return ""
}

// assign writes replicas for an operation, and counts them.
func (o *operator) assign(op *cluster.Op, p *part, want []cluster.Replica) {
	reason := fmt.Sprintf("an operator asked for a %s", op.Kind)
	if op.Cancel {
		reason = fmt.Sprintf("an operator cancelled a %s", op.Kind)
	}
	for _, n := range p.nodes {
		n.replicas--
		n.bytes -= p.bytes
	}
	p.nodes[0].leads--
	mark := len(o.changes)
	op.Generation = o.replace(p, want, reason).Generation
	o.changed = append(o.changed, o.changes[mark:]...)
	o.changes = o.changes[:mark]
	for _, r := range want {
		o.nodes[r.Node].replicas++
		o.nodes[r.Node].bytes += p.bytes
	}
	o.nodes[want[0].Node].leads++
}

// syncPatience is how long a transfer waits for its replica to be in sync: a new
// leader takes some seconds to find out who is, and to say so.
const syncPatience = 10 * time.Second

// beginTransfer puts a node's replica first: it is preferred from then on.
func (o *operator) beginTransfer(op *cluster.Op, p *part) {
	i := slices.IndexFunc(p.nodes, func(n *node) bool { return n.id == op.Node })
	if i < 0 {
		why := fmt.Sprintf("node %d holds no replica of %s: %s", op.Node, p.tp, cluster.FormatReplicas(p.a.Replicas))
		if o.nodes[op.Node] == nil {
			why = fmt.Sprintf("node %d is unknown: %s", op.Node, o.known())
		}
		o.end(op, cluster.OpRefused, why)
		return
	}
	switch n := p.nodes[i]; {
	case !o.live(p.a.Replicas[i]):
		o.end(op, cluster.OpRefused, fmt.Sprintf("node %d is away", n.id))
		return
	case n.wish != "" || n.state != cluster.StateReady:
		state := n.wish
		if state == "" {
			state = n.state
		}
		o.end(op, cluster.OpRefused, fmt.Sprintf("node %d is %s: it takes no leaderships", n.id, state))
		return
	case slices.Contains(p.lagging, n.id):
		why := fmt.Sprintf("the replica on node %d is not in sync", n.id)
		if o.facts.Now.Sub(*op.Created) < syncPatience {
			o.wait(op, why)
		} else {
			o.end(op, cluster.OpRefused, why)
		}
		return
	}
	if why := o.unsettled(p); why != "" {
		o.wait(op, why)
		return
	}
	o.begin(op, 1, 0)
	if i > 0 {
		o.assign(op, p, slices.Concat(p.a.Replicas[i:i+1], p.a.Replicas[:i], p.a.Replicas[i+1:]))
	} else if p.leader.id == op.Node {
		o.end(op, cluster.OpDone, fmt.Sprintf("node %d leads already", op.Node))
	}
}

// follow looks how far a move or transfer is.
func (o *operator) follow(op *cluster.Op, p *part) {
	if p.a.Generation < op.Generation { // its assignment was never written
		op.State, op.Generation = cluster.OpPending, 0
		if op.Cancel {
			o.end(op, cluster.OpCancelled, "it had not begun")
			return
		}
		if op.Kind == cluster.OpMove {
			o.beginMove(op, p)
		} else {
			o.beginTransfer(op, p)
		}
		return
	}
	if op.Cancel && op.Generation == 0 {
		o.end(op, cluster.OpCancelled, "nothing was changed")
		return
	}
	if op.Cancel && o.goBack(op, p) {
		return
	}
	if op.Kind == cluster.OpTransfer {
		o.followTransfer(op, p)
	} else {
		o.followMove(op, p)
	}
}

func (o *operator) followTransfer(op *cluster.Op, p *part) {
	switch n := p.nodes[0]; {
	case p.leader != nil && p.leader.id == op.Node:
		o.end(op, cluster.OpDone, fmt.Sprintf("node %d leads", op.Node))
	case n.id != op.Node:
		o.end(op, cluster.OpFailed, fmt.Sprintf("node %d is preferred by now, by a later change", n.id))
	case !n.up || n.wish != "":
		o.end(op, cluster.OpFailed, fmt.Sprintf("node %d is away or drained by now", n.id))
	}
}

func (o *operator) followMove(op *cluster.Op, p *part) {
	same := len(op.Replicas) == len(p.nodes)
	for _, n := range p.nodes {
		same = same && slices.Contains(op.Replicas, n.id)
	}
	switch {
	case !same:
		o.end(op, cluster.OpFailed, "its replicas are elsewhere by now, by a later change: "+cluster.FormatReplicas(p.a.Replicas))
		return
	case p.settled():
		o.end(op, cluster.OpDone, "")
		return
	case p.leader == nil || !p.seen || op.Progress == nil:
		return
	}
	progress := *op.Progress
	arrived := 0
	for _, r := range p.a.Replicas {
		if !hasID(p.a.Former, r.ID) && o.fit(p, r) {
			arrived++
		}
	}
	progress.Done = max(progress.Done, min(arrived, progress.Total))
	if progress.Total > 0 {
		progress.BytesDone = progress.BytesTotal / int64(progress.Total) * int64(progress.Done)
	}
	if progress.EstimateSeconds = 0; progress.Done < progress.Total {
		progress.EstimateSeconds = o.forecast(progress.Total-progress.Done, progress.BytesTotal-progress.BytesDone, nil)
	}
	op.Progress = &progress
}

// goBack cancels a move or transfer, where the replicas that were are surely
// still members. They are while a new one is missing: none of them is removed
// before.
func (o *operator) goBack(op *cluster.Op, p *part) bool {
	const late = "it is too late to cancel: it is being finished"
	if p.a.Generation != op.Generation || p.settled() && op.Kind == cluster.OpMove || len(p.a.Former) == 0 {
		return false
	}
	if op.Kind == cluster.OpTransfer && p.leader != nil && p.leader.id == op.Node {
		return false
	}
	waiting := slices.ContainsFunc(p.a.Replicas, func(r cluster.Replica) bool {
		return !hasID(p.a.Former, r.ID) && slices.Contains(p.lagging, r.Node)
	})
	same := len(p.a.Former) == len(p.a.Replicas) && !slices.ContainsFunc(p.a.Replicas, func(r cluster.Replica) bool {
		return !hasID(p.a.Former, r.ID)
	})
	arrived := op.Progress == nil || op.Progress.Done >= op.Progress.Total // once, even if one has failed since
	if !same && (p.leader == nil || !p.seen || !waiting || arrived) {
		op.Reason = late
		return false
	}
	if n := o.fits(p, p.a.Former); n < len(p.a.Former) && !same {
		op.Reason = fmt.Sprintf("it can't be cancelled: only %d of the %d former replicas are live", n, len(p.a.Former))
		return false
	}
	o.assign(op, p, slices.Clone(p.a.Former))
	o.end(op, cluster.OpCancelled, "the former replicas are members again")
	return true
}
