package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

// refiller fills this node's partitions from a backup, over HTTP.
type refiller struct{ n *Node }

var _ gateway.Refiller = refiller{}

// State implements gateway.Refiller.
func (r refiller) State(topic string, index int32) (gateway.RefillState, error) {
	s, _, err := r.find(topic, index)
	return s, err
}

// find describes a partition; p is nil if this node does not lead it.
func (r refiller) find(topic string, index int32) (s gateway.RefillState, p *partition.Partition, err error) {
	v := r.n.store.View()
	t, known := v.Topics[topic]
	if !known || index < 0 || index >= t.Partitions {
		return s, nil, gateway.Refuse(gateway.NotFound, fmt.Errorf("there is no partition %.300s/%d", topic, index))
	}
	id := partitionID{t.ID, index}
	s = gateway.RefillState{Topic: topic, Partition: index, Node: r.n.ID()}
	if l, ok := backend(r).leader(v, topic, id); ok {
		s.Leader, s.LeaderHTTP = l.node, v.Nodes[l.node].HTTP
	}
	p, open := r.n.replicas.get(id)
	if !open {
		return s, nil, nil
	}
	state, err := p.Refill()
	if err != nil { // it does not lead
		return s, nil, nil
	}
	s.Leads, s.Leader, s.LeaderHTTP = true, r.n.ID(), v.Nodes[r.n.ID()].HTTP
	s.Token, s.Start, s.Next = state.Token, state.Start, state.Next
	return s, p, nil
}

// act changes a partition that this node leads.
func (r refiller) act(ctx context.Context, topic string, index int32, do func(p *partition.Partition) error) (gateway.RefillState, error) {
	if topic == offsetsTopic {
		return gateway.RefillState{}, gateway.Refuse(gateway.Invalid, fmt.Errorf("%s is restored by committing the groups' offsets", topic))
	}
	s, p, err := r.find(topic, index)
	switch {
	case err != nil:
		return s, err
	case p == nil:
		return s, gateway.Refuse(gateway.Misdirected, fmt.Errorf("node %d does not lead %s/%d, node %d does", r.n.ID(), topic, index, s.Leader))
	case r.n.space.full.Load():
		return s, gateway.Refuse(gateway.Unavailable, errDiskFull)
	case ctx.Err() != nil:
		return s, ctx.Err()
	}
	if err := do(p); err != nil {
		return s, refuseRefill(topic, index, err)
	}
	s, _, err = r.find(topic, index)
	return s, err
}

func refuseRefill(topic string, index int32, err error) error {
	status := gateway.Conflict
	switch {
	case errors.Is(err, partition.ErrNotLeader):
		status = gateway.Misdirected
	case errors.Is(err, partition.ErrStorage):
		status = gateway.Unavailable
	case errors.Is(err, seglog.ErrCorrupt), errors.Is(err, seglog.ErrUnsupportedMagic), errors.Is(err, partition.ErrInvalidRecord):
		status = gateway.Invalid
	}
	return gateway.Refuse(status, fmt.Errorf("partition %s/%d: %w", topic, index, err))
}

// Begin implements gateway.Refiller.
func (r refiller) Begin(ctx context.Context, q gateway.RefillRequest) (gateway.RefillState, error) {
	// An older program stops a replica that meets what it does not know.
	if level, node := r.n.store.View().Lowest(); level < cluster.LevelRefill {
		return gateway.RefillState{}, gateway.Refuse(gateway.Conflict, fmt.Errorf("node %d runs a version that knows no restores: upgrade it first", node))
	}
	return r.act(ctx, q.Topic, q.Partition, func(p *partition.Partition) error { return p.BeginRefill(q.Token, q.Offset) })
}

// Fill implements gateway.Refiller.
func (r refiller) Fill(ctx context.Context, topic string, index int32, token int64, batches []byte) (gateway.RefillState, error) {
	return r.act(ctx, topic, index, func(p *partition.Partition) error { return p.Fill(token, batches) })
}

// End implements gateway.Refiller.
func (r refiller) End(ctx context.Context, q gateway.RefillRequest) (gateway.RefillState, error) {
	return r.act(ctx, q.Topic, q.Partition, func(p *partition.Partition) error { return p.EndRefill(q.Token, q.Offset, q.Next) })
}

// RaiseProducerIDs implements gateway.Refiller.
func (r refiller) RaiseProducerIDs(ctx context.Context, floor int64) error {
	if floor < 0 || floor > maxProducerFloor {
		return gateway.Refuse(gateway.Invalid, fmt.Errorf("%d can't be the lowest producer id", floor))
	}
	err := r.n.store.RaiseProducerIDs(ctx, floor)
	switch {
	case errors.Is(err, cluster.ErrFrozen), errors.Is(err, cluster.ErrUnavailable):
		return err // the gateway knows these
	case err != nil:
		return gateway.Refuse(gateway.Unavailable, err)
	}
	return r.n.producerIDs.skip(floor)
}
