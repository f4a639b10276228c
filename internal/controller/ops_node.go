package controller

import (
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
)

// stepNode takes a drain, undrain or decommission as far as it goes.
func (o *operator) stepNode(id string, op *cluster.Op, begun bool) {
	n := o.nodes[op.Node]
	switch _, broken := o.view.Broken[fmt.Sprintf("config/nodes/%d", op.Node)]; {
	case n == nil || !n.up && n.replicas == 0 && n.wish == "" && !begun:
		if begun {
			o.end(op, cluster.OpCancelled, fmt.Sprintf("config/nodes/%d was deleted", op.Node))
		} else {
			o.end(op, cluster.OpRefused, fmt.Sprintf("node %d is unknown: %s", op.Node, o.known()))
		}
		return
	case broken:
		o.wait(op, fmt.Sprintf("config/nodes/%d makes no sense, mend or delete it", op.Node))
		if begun {
			op.State = cluster.OpRunning
		}
		return
	case op.Kind == cluster.OpUndrain:
		o.undrain(id, op, n)
		return
	}
	want := cluster.WishDrained
	refuse, total, progress := o.drainRefusal, o.drainTotal, o.drainProgress
	if op.Kind == cluster.OpDecommission {
		want = cluster.WishDecommissioned
		refuse, total, progress = o.decommissionRefusal, o.decommissionTotal, o.decommissionProgress
	}
	switch {
	case !begun:
		if why := refuse(n); why != "" && !op.Force {
			o.end(op, cluster.OpRefused, why+` ("force":true does it all the same)`)
			return
		}
		o.supersede(id, op)
		o.wish(n, want)
		o.begin(op, 0, 0)
		op.Progress.Total, op.Progress.BytesTotal = total(n)
	case n.wish != want:
		o.end(op, cluster.OpCancelled, fmt.Sprintf("config/nodes/%d was changed by somebody else", n.id))
		return
	case op.Cancel:
		o.wish(n, "")
		o.end(op, cluster.OpCancelled, "node "+fmt.Sprint(n.id)+" serves again; what has moved stays where it is")
		return
	}
	p := *op.Progress
	op.Progress = &p
	progress(id, op, n)
}

// supersede ends the running operations about the same node that ask for
// something else.
func (o *operator) supersede(id string, op *cluster.Op) {
	for other, was := range o.ops {
		if other != id && was.State == cluster.OpRunning && was.Kind != op.Kind && was.Node == op.Node &&
			(was.Kind == cluster.OpDrain || was.Kind == cluster.OpDecommission) {
			o.end(&was, cluster.OpCancelled, fmt.Sprintf("operation %s asks for %s", id, op.Kind))
			o.ops[other] = was
		}
	}
}

func (o *operator) undrain(id string, op *cluster.Op, n *node) {
	o.supersede(id, op)
	reason := fmt.Sprintf("node %d serves", n.id)
	if n.wish == "" {
		reason = fmt.Sprintf("node %d was neither drained nor decommissioned", n.id)
	}
	o.wish(n, "")
	op.Started = o.time()
	o.end(op, cluster.OpDone, reason)
}

// heirs counts who could lead a partition instead of a node: at all, and now.
func (o *operator) heirs(p *part, than *node) (ever, now int) {
	for i, n := range p.nodes {
		if n == than || n.wish != "" {
			continue
		}
		ever++
		if n.state == cluster.StateReady && o.fit(p, p.a.Replicas[i]) {
			now++
		}
	}
	return ever, now
}

// drainRefusal says which partition nobody else could lead.
func (o *operator) drainRefusal(n *node) string {
	for i := range o.parts {
		p := &o.parts[i]
		if p.touched || !slices.Contains(p.nodes, n) {
			continue
		}
		if ever, _ := o.heirs(p, n); ever == 0 {
			if len(p.nodes) == 1 {
				return fmt.Sprintf("node %d holds the only replica of %s: move it first, or give the topic more replicas", n.id, p.tp)
			}
			return fmt.Sprintf("every other replica of %s is on a node that is drained or decommissioned too", p.tp)
		}
	}
	return ""
}

func (o *operator) drainTotal(n *node) (int, int64) { return n.leading, 0 }

// drainProgress counts the leaderships that are left. Those that nobody else
// can have, if it was forced, stay.
func (o *operator) drainProgress(_ string, op *cluster.Op, n *node) {
	left, stay, waits := 0, 0, ""
	for i := range o.parts {
		p := &o.parts[i]
		if p.leader != n {
			continue
		}
		ever, now := o.heirs(p, n)
		if ever == 0 {
			stay++
			continue
		}
		if left++; now == 0 && waits == "" {
			waits = fmt.Sprintf("waits: no other replica of %s is live and in sync", p.tp)
		}
	}
	p := op.Progress
	p.Total = max(p.Total, left+stay)
	p.Done = p.Total - left - stay
	op.Reason = waits
	if left > 0 || o.wishes[n] { // it has not heard of it yet
		return
	}
	reason := fmt.Sprintf("node %d leads nothing and may be restarted", n.id)
	if stay > 0 {
		reason = fmt.Sprintf("node %d still leads %d partitions that no other node can lead", n.id, stay)
	}
	if !n.up {
		reason = fmt.Sprintf("node %d is not registered: it leads nothing", n.id)
	}
	o.end(op, cluster.OpDone, reason)
}

// decommissionRefusal says which replica could not leave the node.
func (o *operator) decommissionRefusal(n *node) string {
	left := 0
	for _, other := range o.order {
		if other != n && other.up && other.wish == "" && other.state != cluster.StateFull {
			left++
		}
	}
	for i := range o.parts {
		p := &o.parts[i]
		if p.touched || !slices.Contains(p.nodes, n) {
			continue
		}
		if left < len(p.nodes) {
			return fmt.Sprintf("topic %s has %d replicas, and without node %d there are %d nodes for them", p.tp.Topic, len(p.nodes), n.id, left)
		}
		if live := o.lives(p.voters()); 2*live <= len(p.voters()) {
			return fmt.Sprintf("only %d of %d replicas of %s are live: its members can't be changed", live, len(p.voters()), p.tp)
		}
	}
	return ""
}

// burden is what has to leave a node still: replicas that are assigned to it,
// and those that it has until others have caught up.
func (o *operator) burden(n *node) (replicas int, bytes int64) {
	for i := range o.parts {
		p := &o.parts[i]
		if len(p.a.Replicas) == 0 {
			continue
		}
		if slices.Contains(p.nodes, n) || !p.settled() && hasNode(p.a.Former, n.id) {
			replicas++
			bytes += p.bytes
		}
	}
	return replicas, bytes
}

func (o *operator) decommissionTotal(n *node) (int, int64) { return o.burden(n) }

func (o *operator) decommissionProgress(id string, op *cluster.Op, n *node) {
	left, bytes := o.burden(n)
	p := op.Progress
	p.Total = max(p.Total, left)
	p.BytesTotal = max(p.BytesTotal, bytes)
	p.Done = p.Total - left
	p.BytesDone = max(p.BytesDone, p.BytesTotal-bytes)
	op.Reason = ""
	if left == 0 && !o.wishes[n] {
		o.end(op, cluster.OpDone, fmt.Sprintf("node %d holds nothing any more: it may be stopped for good", n.id))
		return
	}
	o.estimate(id, op, n)
}
