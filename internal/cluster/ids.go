package cluster

import (
	"context"
	"fmt"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// AllocProducerIDs takes n producer ids, [first, first+n), that nobody else
// gets. n is from 1 to 1 million. Errors: ErrFrozen, ErrUnavailable; numbers
// taken by a call whose answer was lost are lost.
func (s *Store) AllocProducerIDs(ctx context.Context, n int64) (first int64, err error) {
	if n < 1 || n > 1_000_000 {
		return 0, fmt.Errorf("BUG: %d producer ids at once", n)
	}
	floor := s.floor(func(v *View) Counter { return v.ProducerIDs }, &s.ownProducers)
	err = s.swap(ctx, s.keys.ProducerIDs(), nil, func(kv *mvccpb.KeyValue, _ result) ([]byte, error) {
		c, err := s.decodeCounter(s.keys.ProducerIDs(), kv, floor)
		if err != nil {
			return nil, err
		}
		if c.Next > math.MaxInt64-n {
			return nil, fmt.Errorf("no producer ids are left after %d", c.Next)
		}
		first = c.Next
		return Encode(Counter{Next: c.Next + n})
	})
	if err != nil {
		return 0, fmt.Errorf("take %d producer ids: %w", n, err)
	}
	s.raise(&s.ownProducers, first+n)
	return first, nil
}

// RaiseProducerIDs has AllocProducerIDs begin at floor or above from now on.
// Errors: ErrFrozen, ErrUnavailable.
func (s *Store) RaiseProducerIDs(ctx context.Context, floor int64) error {
	was := s.floor(func(v *View) Counter { return v.ProducerIDs }, &s.ownProducers)
	err := s.swap(ctx, s.keys.ProducerIDs(), nil, func(kv *mvccpb.KeyValue, _ result) ([]byte, error) {
		c, err := s.decodeCounter(s.keys.ProducerIDs(), kv, was)
		if err != nil {
			return nil, err
		}
		if c.Next >= floor {
			return nil, errUnchanged
		}
		return Encode(Counter{Next: floor})
	})
	if err == errUnchanged {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raise the producer ids to %d: %w", floor, err)
	}
	s.raise(&s.ownProducers, floor)
	return nil
}

// AllocNodeID takes the next free node id: one that was never handed out, is
// not registered now and holds no replica. Errors: ErrFrozen, ErrUnavailable.
func (s *Store) AllocNodeID(ctx context.Context) (id int32, err error) {
	id, err = s.takeNodeID(ctx, 0)
	if err != nil {
		return 0, fmt.Errorf("take a node id: %w", err)
	}
	return id, nil
}

// ReserveNodeID makes sure that AllocNodeID never hands out an id that an
// operator has chosen, by raising the counter above it.
func (s *Store) ReserveNodeID(ctx context.Context, id int32) error {
	if _, err := s.takeNodeID(ctx, id); err != nil {
		return fmt.Errorf("reserve node id %d: %w", id, err)
	}
	return nil
}

func (s *Store) takeNodeID(ctx context.Context, chosen int32) (id int32, err error) {
	nodes := s.keys.base + "nodes/"
	read := []clientv3.Op{clientv3.OpGet(nodes, clientv3.WithPrefix(), clientv3.WithKeysOnly())}
	floor := s.floor(func(v *View) Counter { return v.NodeIDs }, &s.ownNodes)
	err = s.swap(ctx, s.keys.NodeIDs(), read, func(kv *mvccpb.KeyValue, found result) ([]byte, error) {
		c, err := s.decodeCounter(s.keys.NodeIDs(), kv, floor)
		if err != nil {
			return nil, err
		}
		if chosen > 0 {
			if id = chosen; int64(chosen) < c.Next {
				return nil, errUnchanged
			}
			return Encode(Counter{Next: int64(chosen) + 1})
		}
		used := map[int64]bool{}
		for _, kv := range found.found[1].GetResponseRange().Kvs {
			if k := parseKey(s.keys.relative(kv.Key)); k.kind == kindNode {
				used[int64(k.node)] = true
			}
		}
		for _, a := range s.View().Assignments {
			for _, r := range a.Replicas {
				used[int64(r.Node)] = true
			}
		}
		for used[c.Next] {
			c.Next++
		}
		if c.Next > math.MaxInt32 {
			return nil, fmt.Errorf("no node ids are left after %d", c.Next)
		}
		id = int32(c.Next)
		return Encode(Counter{Next: c.Next + 1})
	})
	if err == errUnchanged {
		err = nil
	}
	if err == nil {
		s.raise(&s.ownNodes, int64(id)+1)
	}
	return id, err
}

// floor is what a counter had reached when it is asked for: in the view, or in
// a number that this process has taken itself, whose event may still be under way.
func (s *Store) floor(of func(*View) Counter, own *int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(of(s.view.Load()).Next, *own)
}

func (s *Store) raise(own *int64, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*own = max(*own, next)
}

// decodeCounter reads a counter's key; a missing one begins at 1. One that is
// below its floor went back: numbers would be given out twice.
func (s *Store) decodeCounter(key string, kv *mvccpb.KeyValue, floor int64) (Counter, error) {
	c := Counter{Next: 1}
	if kv != nil {
		var err error
		if c, err = decode(kv.Value, (*Counter).check); err != nil { // never begun anew
			return c, fmt.Errorf("%w: %s makes no sense and must be mended: %w", ErrUnavailable, key, err)
		}
	}
	if c.Next < floor {
		reason := fmt.Sprintf("etcd holds an older state: %s is at %d, it was at %d", key, c.Next, floor)
		s.freeze(reason, true)
		return c, fmt.Errorf("%w: %s", ErrFrozen, reason)
	}
	return c, nil
}

// SetNodeStatus writes a node's status under its lease. The caller limits how
// often. Errors: ErrFrozen, ErrUnavailable (also for a lease that is gone).
func (s *Store) SetNodeStatus(ctx context.Context, lease clientv3.LeaseID, st NodeStatus) error {
	value, err := Encode(st)
	if err != nil {
		return err
	}
	_, err = s.txn(ctx, nil, []clientv3.Op{clientv3.OpPut(s.keys.Status(st.Node), string(value), clientv3.WithLease(lease))}, nil)
	if err != nil {
		return fmt.Errorf("write the status of node %d: %w", st.Node, err)
	}
	return nil
}
