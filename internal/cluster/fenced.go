package cluster

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/pkg/election"
)

// Limits of one transaction: etcd's are 128 conditions or operations and
// 1.5 MiB.
const (
	maxTxnOps   = 120
	maxTxnBytes = 1 << 20
)

// Fenced writes as the winner. Every transaction compares the election key's
// create revision: etcd refuses it once another node may have won.
type Fenced struct {
	s     *Store
	token election.Token
}

// Fenced returns the writer of the leadership that the token proves.
func (s *Store) Fenced(token election.Token) *Fenced { return &Fenced{s, token} }

// batch is one transaction in the making.
type batch struct {
	cmps   []clientv3.Cmp
	ops    []clientv3.Op
	bytes  int
	topics map[string]*Topic // with partitions that are placed, or that get more replicas
	maxID  uint64            // highest new replica id, 0: none
}

// Apply writes changes in order, in as few transactions as etcd allows; what
// belongs to one partition is in one. New replica ids are reserved in the
// transaction that uses them. It returns the revision of the last transaction
// that succeeded (0: none), and an error as soon as one does not:
// *FencedError (ErrFenced), ErrConflict when the view was old, ErrFrozen,
// ErrUnavailable. Blocked changes are skipped.
func (f *Fenced) Apply(ctx context.Context, changes []Change) (rev int64, err error) {
	var counter int64 // mod revision of replica-ids, as this call has left it
	known := false
	topics := map[string]int64{} // mod revisions, as this call has left them
	for len(changes) > 0 {
		b := batch{topics: map[string]*Topic{}}
		n := 0
		for _, c := range changes {
			if c.NewIDs > 0 && !known {
				counter, known = c.CounterRevision, true
			}
			full, err := f.add(&b, c)
			if err != nil {
				return rev, err
			}
			if full {
				break
			}
			n++
		}
		changes = changes[n:]
		if len(b.ops) == 0 && len(b.topics) == 0 {
			continue
		}
		if err := f.putTopics(&b, topics); err != nil {
			return rev, err
		}
		done, err := f.commit(ctx, b, counter)
		if err != nil {
			return rev, err
		}
		rev = done
		for name := range b.topics {
			topics[name] = done
		}
		if b.maxID > 0 {
			counter = done
		}
	}
	return rev, nil
}

// Probe is a transaction of this leadership that changes nothing: it returns nil
// while the leadership stands in etcd, and a *FencedError once another node may
// have won.
func (f *Fenced) Probe(ctx context.Context) error {
	_, err := f.commit(ctx, batch{}, 0)
	return err
}

// add puts a change into the batch, or says that it is full.
func (f *Fenced) add(b *batch, c Change) (full bool, err error) {
	// Beside the batch's own, and its topics: meta, the token and the counter; and
	// this change's key and topic.
	if more := len(b.topics) + 5; len(b.cmps)+more > maxTxnOps || len(b.ops)+more > maxTxnOps || b.bytes > maxTxnBytes {
		return true, nil
	}
	keys := f.s.keys
	switch c.Kind {
	case Blocked:
		return false, nil
	case Forget:
		b.expect(keys.Deleted(c.TopicID), c.Revision)
		b.ops = append(b.ops, clientv3.OpDelete(keys.Deleted(c.TopicID)))
	case Remove:
		b.expect(keys.Assignment(c.TP), c.Revision)
		b.ops = append(b.ops, clientv3.OpDelete(keys.Assignment(c.TP)))
	case WriteOp:
		return false, b.put(keys.Op(c.OpID), c.Revision, c.Op)
	case ForgetOp:
		b.expect(keys.Op(c.OpID), c.Revision)
		b.ops = append(b.ops, clientv3.OpDelete(keys.Op(c.OpID)))
	case WriteWish:
		return false, b.put(keys.Wish(c.Node), c.Revision, c.Wish)
	case DropWish:
		b.expect(keys.Wish(c.Node), c.Revision)
		b.ops = append(b.ops, clientv3.OpDelete(keys.Wish(c.Node)))
	case Enlarge:
		t := b.topic(c)
		t.ReplicationFactor = max(t.ReplicationFactor, c.Topic.ReplicationFactor)
	case Place, Replace:
		a := c.Assignment
		a.Fence = f.token.CreateRevision
		if err := a.check(); err != nil {
			return false, fmt.Errorf("BUG: assignment of %s: %w", c.TP, err)
		}
		value, err := Encode(a)
		if err != nil {
			return false, err
		}
		b.expect(keys.Assignment(c.TP), c.Revision)
		if c.Kind == Place {
			b.place(c)
		}
		b.ops = append(b.ops, clientv3.OpPut(keys.Assignment(c.TP), string(value)))
		b.bytes += len(value)
		if c.NewIDs > 0 {
			b.maxID = max(b.maxID, a.maxID())
		}
	default:
		return false, fmt.Errorf("BUG: change of kind %d", c.Kind)
	}
	return false, nil
}

// put writes a value over the revision that it was decided on.
func (b *batch) put(key string, rev int64, v any) error {
	value, err := Encode(v)
	if err != nil {
		return err
	}
	b.expect(key, rev)
	b.ops = append(b.ops, clientv3.OpPut(key, string(value)))
	b.bytes += len(value)
	return nil
}

func (b *batch) expect(key string, rev int64) {
	b.cmps = append(b.cmps, clientv3.Compare(clientv3.ModRevision(key), "=", rev))
}

func (f *Fenced) commit(ctx context.Context, b batch, counter int64) (int64, error) {
	s := f.s
	cmps := append(b.cmps, f.token.Compare())
	ops := b.ops
	if b.maxID > 0 {
		value, err := Encode(Counter{Next: int64(b.maxID) + 1})
		if err != nil {
			return 0, err
		}
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(s.keys.ReplicaIDs()), "=", counter))
		ops = append(ops, clientv3.OpPut(s.keys.ReplicaIDs(), string(value)))
	}
	res, err := s.txn(ctx, cmps, ops, []clientv3.Op{
		clientv3.OpGet(f.token.Key),
		clientv3.OpGet(s.keys.Election()+"/", clientv3.WithFirstCreate()...),
	})
	if err != nil {
		return 0, fmt.Errorf("write %d changes as the winner: %w", len(b.ops), err)
	}
	if res.ok {
		return res.revision, nil
	}
	if own := res.first(0); own != nil && own.CreateRevision == f.token.CreateRevision {
		return 0, fmt.Errorf("write %d changes as the winner: %w", len(b.ops), ErrConflict)
	}
	fenced := &FencedError{Token: f.token}
	if kv := res.first(1); kv != nil {
		w, err := decode(kv.Value, func(*Candidate) error { return nil })
		if err != nil {
			w = Candidate{}
		}
		w.Key, w.Lease, w.CreateRevision = string(kv.Key), kv.Lease, kv.CreateRevision
		fenced.Winner = &w
	}
	return 0, fenced
}
