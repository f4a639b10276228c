package election

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sweep removes the keys below an election's name that are under no lease, until
// ctx ends. Candidates have one: such a key was put there by hand, or a
// candidate's key was overwritten by hand, and nobody would ever win past it.
// Reading costs etcd one request each half of the session's TTL.
func (s *Session) sweep(ctx context.Context, name string) {
	for {
		s.sweepOnce(ctx, name)
		if !sleep(ctx, s.cfg.Clock, s.ttl/2) {
			return
		}
	}
}

func (s *Session) sweepOnce(ctx context.Context, name string) {
	rctx, cancel := context.WithTimeout(ctx, s.ttl/4)
	defer cancel()
	resp, err := s.client.Get(rctx, name+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return // the campaign itself says what is wrong with etcd
	}
	for _, kv := range resp.Kvs {
		if kv.Lease != int64(clientv3.NoLease) {
			continue
		}
		done, err := s.client.Txn(rctx).
			If(clientv3.Compare(clientv3.LeaseValue(string(kv.Key)), "=", clientv3.NoLease),
				clientv3.Compare(clientv3.CreateRevision(string(kv.Key)), "=", kv.CreateRevision)).
			Then(clientv3.OpDelete(string(kv.Key))).
			Commit()
		if err == nil && done.Succeeded {
			s.cfg.Logger.Warn("removed a key of the election that was under no lease: it was put there or overwritten by hand, and nobody could have won past it",
				"key", string(kv.Key))
		}
	}
}
