package cluster

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// edit is one of many changes: of a key by compare-and-swap.
type edit struct {
	key string
	// next gets the key's value, nil for none, and returns what to do; it may be
	// called again when somebody else was quicker. No operations: nothing is to
	// be done.
	next func(kv *mvccpb.KeyValue) ([]clientv3.Op, error)
	err  error // how it ended
	rev  int64 // of the transaction that did it; 0: nothing was to be done
}

// maxEdits bounds the keys of one transaction: each has a condition, up to two
// operations, and a read if it fails.
const maxEdits = maxTxnOps/2 - 2

// many makes changes that have nothing to do with each other, in as few
// transactions as etcd allows, and says of each how it ended. Those of one
// transaction are made together or not at all. It returns the revision of the
// last transaction, 0 if there was none. also adds conditions to a
// transaction's, and may refuse edits; nil adds none.
func (s *Store) many(ctx context.Context, edits []edit, also func(ctx context.Context, edits []*edit) ([]clientv3.Cmp, error)) (rev int64) {
	left := make([]*edit, len(edits))
	for i := range edits {
		left[i] = &edits[i]
	}
	for len(left) > 0 {
		n := min(len(left), maxEdits)
		done, tried := s.few(ctx, left[:n], also)
		rev = max(rev, done)
		left = left[tried:]
	}
	return rev
}

// few makes the first of some changes in one transaction, and says how many
// that were: what would make it too large is left for the next.
func (s *Store) few(ctx context.Context, edits []*edit, also func(context.Context, []*edit) ([]clientv3.Cmp, error)) (rev int64, tried int) {
	fail := func(err error) (int64, int) {
		for _, e := range edits {
			if e.err == nil {
				e.err = err
			}
		}
		return 0, len(edits)
	}
	for {
		var extra []clientv3.Cmp
		if also != nil {
			var err error
			if extra, err = also(ctx, edits); err != nil {
				return fail(err)
			}
		}
		reads := make([]clientv3.Op, len(edits))
		for i, e := range edits {
			reads[i] = clientv3.OpGet(e.key)
		}
		cur, err := s.get(ctx, reads...)
		if err != nil {
			return fail(err)
		}
		cmps, ops, size, n := extra, []clientv3.Op(nil), 0, 0
		for i, e := range edits {
			if e.err != nil {
				n++
				continue
			}
			kv := cur.first(i)
			more, err := e.next(kv)
			if err != nil {
				e.err = err
				n++
				continue
			}
			for _, op := range more {
				size += len(op.ValueBytes()) + len(op.KeyBytes())
			}
			if size > maxTxnBytes && len(ops) > 0 {
				break
			}
			if n++; len(more) > 0 {
				cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(e.key), "=", modRevision(kv)))
				ops = append(ops, more...)
			}
		}
		edits = edits[:n]
		if len(ops) == 0 {
			return 0, n
		}
		res, err := s.txn(ctx, cmps, ops, nil)
		switch {
		case err != nil:
			return fail(err)
		case res.ok:
			for _, e := range edits {
				if e.err == nil {
					e.rev = res.revision
				}
			}
			return res.revision, n
		}
	}
}

func modRevision(kv *mvccpb.KeyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.ModRevision
}
