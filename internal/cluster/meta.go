package cluster

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// EnsureMeta returns the cluster's meta and makes the cluster if there is
// none. It needs etcd but not Run. A cluster that this node has known before
// is never made again: that is ErrFrozen.
func (s *Store) EnsureMeta(ctx context.Context) (Meta, error) {
	asked := s.recall()
	if asked.frozen != "" {
		return Meta{}, fmt.Errorf("%w: %s", ErrFrozen, asked.frozen)
	}
	made := Meta{ClusterID: uuid.NewString(), Epoch: 1, Format: FormatVersion, Created: s.now()}
	value, err := Encode(made)
	if err != nil {
		return Meta{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	key := s.keys.Meta()
	create := []clientv3.Op{clientv3.OpPut(key, string(value)), clientv3.OpGet(key)}
	if asked.meta != nil {
		create = create[1:] // only look
	}
	resp, err := s.opts.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
			// Nodes register after the cluster was made: where they are and meta is
			// not, it was lost.
			clientv3.Compare(clientv3.CreateRevision(s.keys.base+"nodes/"), "=", 0).WithPrefix(),
			clientv3.Compare(clientv3.CreateRevision(s.keys.Frozen()), "=", 0)).
		Then(create...).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return Meta{}, fmt.Errorf("read or create %s: %w", key, unavailable(s.refused(err, create...)))
	}
	seen := sighting{etcdID: resp.Header.ClusterId, revision: resp.Header.Revision}
	if kvs := resp.Responses[len(resp.Responses)-1].GetResponseRange().Kvs; len(kvs) > 0 {
		if seen.meta, err = s.decodeMeta(kvs[0]); err != nil {
			return Meta{}, unavailable(err)
		}
	}
	if err := s.see(asked, seen); err != nil {
		return Meta{}, err
	}
	if seen.meta == nil && !resp.Succeeded {
		return Meta{}, fmt.Errorf("%w: %s is missing, but nodes are registered beside it or have frozen the cluster: it was lost; see: raftsman cluster restore-metadata", ErrFrozen, key)
	}
	if seen.meta == nil {
		return Meta{}, unavailable(fmt.Errorf("%s is missing", key))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is remembered stays the follower's business: to it, whose view may
	// be of before, meta would seem to be missing.
	s.guard = seen.meta
	return *seen.meta, nil
}
