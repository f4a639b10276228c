package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/kafka"
)

// moves are the moves in a view that are not done, by partition; of several the
// latest, which is what is wanted.
func moves(v *cluster.View) map[cluster.TopicPartition]cluster.NewOp {
	latest := make(map[cluster.TopicPartition]cluster.NewOp)
	for id, op := range v.Ops {
		if op.Kind != cluster.OpMove || op.State.Final() || op.Cancel {
			continue
		}
		if was, ok := latest[op.TP()]; !ok || op.CreateRevision > was.Op.CreateRevision {
			latest[op.TP()] = cluster.NewOp{ID: id, Op: op}
		}
	}
	return latest
}

// Reassign implements kafka.Administration. What was asked for before is
// cancelled first: the winner goes back where that is safe, or finishes it, and
// then does what is wanted now.
func (b backend) Reassign(ctx context.Context, wanted []kafka.Reassignment) []error {
	v, errs := b.n.store.View(), make([]error, len(wanted))
	var begin []cluster.NewOp
	var at []int
	var stop []string
	var stopAt []int
	now := moves(v)
	for i, w := range wanted {
		tp := cluster.TopicPartition{Topic: w.Topic, Partition: w.Index}
		running, is := now[tp]
		switch {
		case w.Replicas == nil && !is:
			errs[i] = kerr.NoReassignmentInProgress
			continue
		case w.Replicas != nil:
			if errs[i] = b.checkNodes(v, w.Replicas); errs[i] != nil {
				continue
			}
			op := cluster.Op{Kind: cluster.OpMove, Topic: w.Topic, Partition: w.Index, Replicas: w.Replicas, Resize: true, Patient: true}
			begin, at = append(begin, cluster.NewOp{ID: "reassign-" + uuid.NewString(), Op: op}), append(at, i)
		}
		if is {
			stop, stopAt = append(stop, running.ID), append(stopAt, i)
		}
	}
	var rev int64
	if len(stop) > 0 {
		stopped, done := b.n.store.CancelOps(ctx, stop)
		rev = done
		for j, err := range stopped {
			// One that has ended meanwhile need not be stopped, but is not stopped.
			if i := stopAt[j]; err != nil && (wanted[i].Replicas == nil || errors.Is(err, cluster.ErrUnavailable)) {
				errs[i] = b.opError(err)
			}
		}
	}
	if len(begin) > 0 {
		begun, done := b.n.store.CreateOps(ctx, begin)
		rev = max(rev, done)
		for j, err := range begun {
			if err != nil {
				errs[at[j]] = b.opError(err)
			}
		}
	}
	b.see(ctx, rev)
	if len(begin) > 0 {
		b.begun(ctx, begin, func(j int, op cluster.Op) {
			if op.State == cluster.OpRefused && errs[at[j]] == nil {
				errs[at[j]] = kafka.Errorf(kerr.InvalidReplicaAssignment, "%s", op.Reason)
			}
		})
	}
	return errs
}

// begun waits until the winner has looked at operations, for a while: it may be
// away, and they are asked for all the same.
func (b backend) begun(ctx context.Context, ops []cluster.NewOp, result func(i int, op cluster.Op)) {
	ctx, cancel := context.WithTimeout(ctx, seeWait)
	defer cancel()
	_, _ = b.n.store.WaitFor(ctx, func(v *cluster.View) bool {
		return !slices.ContainsFunc(ops, func(o cluster.NewOp) bool {
			op, ok := v.Ops[o.ID]
			return ok && op.State == cluster.OpPending && op.Reason == ""
		})
	})
	v := b.n.store.View()
	for i, o := range ops {
		if op, ok := v.Ops[o.ID]; ok {
			result(i, op)
		}
	}
}

// opError gives an error of an operation its Kafka code.
func (b backend) opError(err error) error {
	if errors.Is(err, cluster.ErrOpUnknown) || errors.Is(err, cluster.ErrOpEnded) {
		return kerr.NoReassignmentInProgress
	}
	return b.clusterError(err)
}

// Reassignments implements kafka.Administration.
func (b backend) Reassignments() []kafka.Moving {
	v := b.n.store.View()
	var list []kafka.Moving
	for tp, o := range moves(v) {
		a, ok := v.Assignments[tp]
		if !ok {
			continue
		}
		// The members until it is settled; the assignment names only the new ones.
		from := a.Replicas
		if o.Op.State == cluster.OpRunning && len(a.Former) > 0 {
			from = a.Former
		}
		m := kafka.Moving{TopicPartition: kafka.TopicPartition{Topic: tp.Topic, Index: tp.Partition}, Replicas: slices.Clone(o.Op.Replicas)}
		for _, r := range from {
			if !slices.Contains(o.Op.Replicas, r.Node) {
				m.Replicas, m.Removing = append(m.Replicas, r.Node), append(m.Removing, r.Node)
			}
		}
		for _, n := range o.Op.Replicas {
			if !slices.ContainsFunc(from, func(r cluster.Replica) bool { return r.Node == n }) {
				m.Adding = append(m.Adding, n)
			}
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(x, y kafka.Moving) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Index, y.Index))
	})
	return list
}

// ElectLeaders implements kafka.Administration: each becomes a transfer of the
// winner's.
func (b backend) ElectLeaders(ctx context.Context, partitions []kafka.TopicPartition) []error {
	v, errs := b.n.store.View(), make([]error, len(partitions))
	var begin []cluster.NewOp
	var at []int
	for i, tp := range partitions {
		a := v.Assignments[cluster.TopicPartition{Topic: tp.Topic, Partition: tp.Index}]
		if len(a.Replicas) == 0 || !b.n.alive(a.Replicas[0].Node) {
			errs[i] = kerr.PreferredLeaderNotAvailable
			continue
		}
		op := cluster.Op{Kind: cluster.OpTransfer, Topic: tp.Topic, Partition: tp.Index, Node: a.Replicas[0].Node}
		begin, at = append(begin, cluster.NewOp{ID: "elect-" + uuid.NewString(), Op: op}), append(at, i)
	}
	if len(begin) == 0 {
		return errs
	}
	asked, rev := b.n.store.CreateOps(ctx, begin)
	for j, err := range asked {
		if err != nil {
			errs[at[j]] = b.clusterError(err)
		}
	}
	b.see(ctx, rev)
	b.ended(ctx, begin)
	v = b.n.store.View()
	ctx, cancel := context.WithTimeout(ctx, leaderNews)
	defer cancel()
	for j, o := range begin {
		if i := at[j]; errs[i] == nil {
			errs[i] = b.elected(ctx, v, partitions[i], o)
		}
	}
	return errs
}

// ended waits until operations have ended.
func (b backend) ended(ctx context.Context, ops []cluster.NewOp) {
	_, _ = b.n.store.WaitFor(ctx, func(v *cluster.View) bool {
		return !slices.ContainsFunc(ops, func(o cluster.NewOp) bool {
			op, ok := v.Ops[o.ID]
			return ok && !op.State.Final()
		})
	})
}

// leaderNews is how long an answer waits for this node to hear who leads; then
// clients ask again.
const leaderNews = 2 * time.Second

// elected says how the election of a preferred leader ended. It waits until this
// node knows of it.
func (b backend) elected(ctx context.Context, v *cluster.View, tp kafka.TopicPartition, o cluster.NewOp) error {
	op, ok := v.Ops[o.ID]
	switch {
	case !ok || !op.State.Final():
		return kafka.Errorf(kerr.RequestTimedOut, "node %d does not lead yet; see raftsman ops describe %s", o.Op.Node, o.ID)
	case op.State != cluster.OpDone:
		return kafka.Errorf(kerr.PreferredLeaderNotAvailable, "Failed to elect leader for partition %s-%d: %s", tp.Topic, tp.Index, op.Reason)
	}
	// Metadata that is asked for next names it.
	for {
		changed := b.n.changes.wait()
		info, known := b.Topic(tp.Topic)
		if !known || int(tp.Index) >= len(info.Partitions) || info.Partitions[tp.Index].Leader == o.Op.Node {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
