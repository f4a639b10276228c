package cluster

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// result is the answer to a transaction.
type result struct {
	ok       bool
	revision int64
	found    []*pb.ResponseOp // of the else branch, without meta and frozen
}

// first returns the first key of the i-th answer, nil for none.
func (r result) first(i int) *mvccpb.KeyValue {
	if kvs := r.found[i].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// txn runs a transaction that also requires meta to be as this node knows it,
// and nobody to have frozen the cluster.
// The error is ErrFrozen or ErrUnavailable, whatever etcd said; a result that
// is not ok means that one of the caller's own conditions failed.
func (s *Store) txn(ctx context.Context, cmps []clientv3.Cmp, then, els []clientv3.Op) (result, error) {
	guard, asked, err := s.guarded()
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	allowed := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(s.keys.Meta()), "=", guard.ModRevision),
		clientv3.Compare(clientv3.CreateRevision(s.keys.Frozen()), "=", 0),
	}
	resp, err := s.opts.Client.Txn(ctx).
		If(append(allowed, cmps...)...).
		Then(then...).
		Else(append([]clientv3.Op{clientv3.OpGet(s.keys.Meta()), clientv3.OpGet(s.keys.Frozen())}, els...)...).
		Commit()
	if err != nil {
		return result{}, unavailable(s.refused(err, append(slices.Clone(then), els...)...))
	}
	seen := sighting{etcdID: resp.Header.ClusterId, revision: resp.Header.Revision, meta: guard}
	if resp.Succeeded {
		return result{ok: true, revision: resp.Header.Revision}, s.see(asked, seen)
	}
	seen.meta = nil
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		if seen.meta, err = s.decodeMeta(kvs[0]); err != nil {
			return result{}, unavailable(err)
		}
	}
	if err := s.see(asked, seen); err != nil {
		return result{}, err
	}
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		return result{}, fmt.Errorf("%w: %s", ErrFrozen, decodeFreeze(kvs[0].Value))
	}
	if seen.meta == nil || seen.meta.ModRevision != guard.ModRevision {
		if why, broken := s.View().Broken["meta"]; broken {
			return result{}, unavailable(fmt.Errorf("%s makes no sense and must be mended: %s", s.keys.Meta(), why))
		}
		return result{}, unavailable(fmt.Errorf("%s has changed and was not read yet", s.keys.Meta()))
	}
	return result{revision: resp.Header.Revision, found: resp.Responses[2:]}, nil
}

// get reads keys below this cluster, with the same guard as txn.
func (s *Store) get(ctx context.Context, ops ...clientv3.Op) (result, error) {
	// A condition that never holds makes the else branch a plain read.
	return s.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(s.keys.Meta()), "=", 0)}, nil, ops)
}

// guarded returns meta as last seen in etcd and what is remembered, or why
// nothing may be written.
func (s *Store) guarded() (*Meta, memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory.frozen != "" {
		return nil, memory{}, fmt.Errorf("%w: %s", ErrFrozen, s.memory.frozen)
	}
	if s.guard == nil {
		return nil, memory{}, fmt.Errorf("%w: etcd was not reached since the start, or the cluster was not made yet", ErrUnavailable)
	}
	return s.guard, s.memory, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// swap changes one JSON value by compare-and-swap until it succeeds, ctx ends,
// or next refuses. next gets the key's value, nil for none, and returns the
// new one; extra reads are passed on to it.
func (s *Store) swap(ctx context.Context, key string, extra []clientv3.Op, next func(kv *mvccpb.KeyValue, found result) ([]byte, error)) error {
	reads := append([]clientv3.Op{clientv3.OpGet(key)}, extra...)
	cur, err := s.get(ctx, reads...)
	for {
		if err != nil {
			return err
		}
		var rev int64
		kv := cur.first(0)
		if kv != nil {
			rev = kv.ModRevision
		}
		value, nerr := next(kv, cur)
		if nerr != nil {
			return nerr
		}
		cur, err = s.txn(ctx,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", rev)},
			[]clientv3.Op{clientv3.OpPut(key, string(value))},
			reads)
		if err == nil && cur.ok {
			return nil
		}
	}
}
