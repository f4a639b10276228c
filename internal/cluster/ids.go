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
	err = s.swap(ctx, s.keys.ProducerIDs(), nil, func(kv *mvccpb.KeyValue, _ result) ([]byte, error) {
		c, err := decodeCounter(kv)
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
	return first, nil
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
	err = s.swap(ctx, s.keys.NodeIDs(), read, func(kv *mvccpb.KeyValue, found result) ([]byte, error) {
		c, err := decodeCounter(kv)
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
	return id, err
}

// decodeCounter reads a counter's key; a missing one begins at 1.
func decodeCounter(kv *mvccpb.KeyValue) (Counter, error) {
	if kv == nil {
		return Counter{Next: 1}, nil
	}
	c, err := decode(kv.Value, (*Counter).check)
	if err != nil { // never begun anew: numbers would be given out twice
		return c, fmt.Errorf("%w: %s makes no sense and must be mended: %w", ErrUnavailable, kv.Key, err)
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
