package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// refused adds to etcd's refusal for lack of rights which keys it was about, and
// what to do. Other errors stay as they are.
func (s *Store) refused(err error, ops ...clientv3.Op) error {
	if !errors.Is(err, rpctypes.ErrPermissionDenied) {
		return err
	}
	var keys []string
	for _, op := range ops {
		if key := string(op.KeyBytes()); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if len(keys) > 3 {
		keys = append(keys[:3], "…")
	}
	return fmt.Errorf("%w: this etcd user has no right to read or write %s (or meta or frozen); etcdctl role grant-permission ROLE --prefix=true readwrite %s",
		err, strings.Join(keys, ", "), s.keys.base)
}
