package cluster

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// EditBrokerConfig lets change alter a copy of what was set for a node, or with 0
// for all of them, and stores it; change may be called again when somebody else
// was quicker, and an error of its own is returned and nothing is changed.
// Errors else: ErrFrozen, ErrUnavailable. The revision is that from which on a
// view contains the change.
func (s *Store) EditBrokerConfig(ctx context.Context, node int32, change func(config map[string]string) (map[string]string, error)) (int64, error) {
	e := edit{key: s.keys.BrokerConfig(node)}
	e.next = func(kv *mvccpb.KeyValue) ([]clientv3.Op, error) {
		var c BrokerConfig
		if kv != nil {
			var err error
			if c, err = decode(kv.Value, func(*BrokerConfig) error { return nil }); err != nil {
				return nil, fmt.Errorf("%w: %s makes no sense: %w", ErrUnavailable, kv.Key, err)
			}
		}
		next, err := change(c.Config)
		if err != nil {
			return nil, err
		}
		value, err := Encode(BrokerConfig{Config: next})
		return []clientv3.Op{clientv3.OpPut(e.key, string(value))}, err
	}
	edits := []edit{e}
	rev := s.many(ctx, edits, nil)
	if err := edits[0].err; err != nil {
		return 0, fmt.Errorf("alter the configuration of brokers: %w", err)
	}
	return rev, nil
}
