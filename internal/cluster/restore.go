package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ReadSnapshot reads everything below the cluster's prefix at one revision.
func ReadSnapshot(ctx context.Context, client *clientv3.Client, keys Keys) (Snapshot, error) {
	s := Snapshot{items: map[string]item{}}
	for from, end := keys.base, clientv3.GetPrefixRangeEnd(keys.base); ; {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize)}
		if s.revision > 0 {
			opts = append(opts, clientv3.WithRev(s.revision))
		}
		resp, err := client.Get(ctx, from, opts...)
		if err != nil {
			return s, fmt.Errorf("read %s from etcd: %w", keys.base, err)
		}
		if s.revision == 0 {
			s.revision, s.etcdID = resp.Header.Revision, resp.Header.ClusterId
		} else if resp.Header.ClusterId != s.etcdID {
			return s, errors.New("two etcd clusters answer: check the endpoints")
		}
		for _, kv := range resp.Kvs {
			s.items[keys.relative(kv.Key)] = fromKV(kv)
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return s, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// restoreBy is who freezes the cluster while a restore writes.
const restoreBy = "raftsman cluster restore-metadata"

// ErrRestoreOvertaken: somebody else wrote meta or began a restore meanwhile.
var ErrRestoreOvertaken = errors.New("etcd was changed by somebody else meanwhile: look again and run it again")

// Restore carries a plan out. Until its last transaction, which writes meta with
// the raised epoch, the key frozen stops everybody; interrupted before that, a
// new plan and Restore complete it. progress is told how many keys are written.
func Restore(ctx context.Context, client *clientv3.Client, keys Keys, p *RestorePlan, progress func(done int)) error {
	marker, err := Encode(Freeze{
		Reason: "the metadata is being restored, or that was interrupted: run it again (" + uuid.NewString() + ")",
		By:     restoreBy, Since: time.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	unchanged := clientv3.Compare(clientv3.ModRevision(keys.Meta()), "=", p.metaRev)
	own := clientv3.Compare(clientv3.Value(keys.Frozen()), "=", string(marker))
	commit := func(what string, cmps []clientv3.Cmp, ops []clientv3.Op) error {
		resp, err := client.Txn(ctx).If(cmps...).Then(ops...).Commit()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case resp.Header.ClusterId != p.etcdID:
			return fmt.Errorf("%s: this is another etcd than the plan was made for", what)
		case !resp.Succeeded:
			return fmt.Errorf("%s: %w", what, ErrRestoreOvertaken)
		}
		return nil
	}
	if err := commit("freeze the cluster", []clientv3.Cmp{unchanged}, []clientv3.Op{clientv3.OpPut(keys.Frozen(), string(marker))}); err != nil {
		return err
	}
	for done := 0; done < len(p.Writes); {
		ops, size := []clientv3.Op{}, 0
		for _, w := range p.Writes[done:] {
			if len(ops) == maxTxnOps || len(ops) > 0 && size+len(w.Value) > maxTxnBytes {
				break
			}
			size += len(w.Value) + len(w.Key) + len(keys.base)
			if w.Delete {
				ops = append(ops, clientv3.OpDelete(keys.base+w.Key))
			} else {
				ops = append(ops, clientv3.OpPut(keys.base+w.Key, w.Value))
			}
		}
		if err := commit(fmt.Sprintf("write keys %d to %d of %d", done+1, done+len(ops), len(p.Writes)), []clientv3.Cmp{unchanged, own}, ops); err != nil {
			return err
		}
		done += len(ops)
		progress(done)
	}
	meta, err := Encode(p.meta)
	if err != nil {
		return err
	}
	return commit("write meta", []clientv3.Cmp{unchanged, own}, []clientv3.Op{
		clientv3.OpPut(keys.Meta(), string(meta)), clientv3.OpDelete(keys.Frozen()),
	})
}
