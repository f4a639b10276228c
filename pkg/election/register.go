package election

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Register writes a key that lives as long as the session. A key that is
// already under this session's lease is overwritten; one that exists
// otherwise is left alone, with a *HeldError. An error of any other kind
// leaves open whether the key was written; registering again is safe.
func (s *Session) Register(ctx context.Context, key string, value []byte) error {
	return s.put(ctx, key, value, true)
}

// Update rewrites a key that Register wrote; ErrNotRegistered when it is gone.
func (s *Session) Update(ctx context.Context, key string, value []byte) error {
	return s.put(ctx, key, value, false)
}

func (s *Session) put(ctx context.Context, key string, value []byte, create bool) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	for {
		if !s.Valid() {
			return fmt.Errorf("write %s: %w", key, s.Err())
		}
		held, err := s.putIf(ctx, key, value, clientv3.Compare(clientv3.LeaseValue(key), "=", s.lease))
		if err != nil || held == nil && !create {
			if err == nil {
				err = ErrNotRegistered
			}
			return fmt.Errorf("write %s: %w", key, err)
		}
		if held == written {
			return nil
		}
		if held != nil && held.Lease != int64(s.lease) {
			return &HeldError{Key: key, Value: held.Value, Lease: clientv3.LeaseID(held.Lease)}
		}
		held, err = s.putIf(ctx, key, value, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		if err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
		if held == written {
			return nil
		}
		// Somebody wrote the key in between: look again.
	}
}

// written is what putIf returns when it wrote.
var written = &mvccpb.KeyValue{}

// putIf writes the key under the lease if cmp holds; otherwise it returns what
// is there, nil for nothing.
func (s *Session) putIf(ctx context.Context, key string, value []byte, cmp clientv3.Cmp) (*mvccpb.KeyValue, error) {
	resp, err := s.client.Txn(ctx).
		If(cmp).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(s.lease))).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		if s.gone(err) || s.ctx.Err() != nil {
			err = s.Err()
		}
		return nil, err
	}
	if resp.Succeeded {
		return written, nil
	}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0], nil
	}
	return nil, nil
}

// ownKey follows a key of this session in etcd from the given revision on and
// returns nil when it is no longer ours: deleted, made anew, or no longer
// under our lease. It returns an error only when ctx ends. create is the key's create
// revision.
func (s *Session) ownKey(ctx context.Context, key string, create, rev int64) error {
	for ctx.Err() == nil {
		lost := s.watchKey(ctx, key, create, rev)
		if lost {
			return nil
		}
		// The watch broke off (no leader, compacted, connection lost): read.
		for ctx.Err() == nil {
			rctx, cancel := context.WithTimeout(ctx, s.ttl/4)
			resp, err := s.client.Get(rctx, key)
			cancel()
			if err != nil {
				sleep(ctx, s.cfg.Clock, s.ttl/20)
				continue
			}
			if len(resp.Kvs) == 0 || !s.owns(resp.Kvs[0], create) {
				return nil
			}
			rev = resp.Header.Revision + 1
			break
		}
		sleep(ctx, s.cfg.Clock, s.ttl/100) // a watch that fails at once must not spin
	}
	return context.Cause(ctx)
}

func (s *Session) owns(kv *mvccpb.KeyValue, create int64) bool {
	return kv.CreateRevision == create && kv.Lease == int64(s.lease)
}

// watchKey says true when the key was lost, false when the watch broke off.
func (s *Session) watchKey(ctx context.Context, key string, create, rev int64) bool {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range s.client.Watch(ctx, key, clientv3.WithRev(rev)) {
		if resp.Err() != nil {
			return false
		}
		for _, ev := range resp.Events {
			if ev.Type == mvccpb.DELETE || !s.owns(ev.Kv, create) {
				return true
			}
		}
	}
	return false
}
