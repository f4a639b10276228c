package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

const (
	pageSize   = 2000 // keys a request when everything is loaded
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

var errBusy = errors.New("BUG: Store.Run is called twice, or after Close")

// Run follows etcd until ctx ends or Close is called, and keeps the copy on
// disk. It returns an error only when it can't begin. etcd may be away.
func (s *Store) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.mu.Lock()
	if s.running || s.closed || s.stopped != nil {
		s.mu.Unlock()
		return errBusy
	}
	stopped := make(chan struct{})
	s.running, s.stop, s.stopped = true, stop, stopped
	s.mu.Unlock()
	defer close(stopped)

	var saver sync.WaitGroup
	saver.Go(func() { s.keepSaved(ctx) })
	defer func() {
		saver.Wait()
		if err := s.save(); err != nil {
			s.opts.Logger.Error("the copy of the cluster's metadata can't be written", "err", err)
		}
	}()

	pause := minBackoff
	for ctx.Err() == nil {
		began := s.opts.Clock.Now()
		err := s.follow(ctx)
		was := s.setConnected(false)
		if ctx.Err() != nil {
			break
		}
		if was && s.opts.Clock.Now().Sub(began) > maxBackoff {
			pause = minBackoff
		}
		switch {
		case errors.Is(err, ErrFrozen):
			pause = s.opts.ProbeInterval // it was logged; look now and then
			if err := s.halt(ctx); err != nil {
				s.opts.Logger.Debug("the other nodes could not be told in etcd of the freeze", "err", err)
			}
		case errors.Is(err, errReload):
			s.opts.Logger.Info("loading the metadata anew", "err", err)
		case s.awaySince.IsZero():
			s.awaySince = s.opts.Clock.Now()
			s.opts.Logger.Warn("etcd is away: the last known metadata stays in use, changes are refused",
				"revision", s.View().Revision, "err", err)
		}
		s.pause(ctx, pause/2+rand.N(pause/2+1))
		pause = min(2*pause, maxBackoff)
	}
	return nil
}

func (s *Store) sleep(ctx context.Context, d time.Duration) {
	passed := make(chan struct{})
	stop := s.opts.Clock.AfterFunc(d, func() { close(passed) })
	defer stop()
	select {
	case <-passed:
	case <-ctx.Done():
	}
}

// errReload ends a watch that can't go on where it was.
var errReload = errors.New("the watch broke off")

// follow loads everything and watches until something is wrong.
func (s *Store) follow(ctx context.Context) error {
	if err := s.look(ctx); err != nil { // cheap, and while frozen all there is
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	broken := make(chan error, 2)
	var prober sync.WaitGroup
	defer prober.Wait()
	defer cancel()
	prober.Go(func() { // before anything is read, so that no change of etcd is missed
		broken <- s.disconnection(ctx)
		cancel()
	})
	rev, err := s.load(ctx)
	if err != nil {
		return err
	}
	prober.Go(func() {
		broken <- s.probe(ctx)
		cancel() // Watch itself waits for etcd's answer
	})

	watch := s.opts.Client.Watch(clientv3.WithRequireLeader(ctx), s.keys.base,
		clientv3.WithPrefix(), clientv3.WithRev(rev+1))
	if ctx.Err() == nil {
		s.setConnected(true)
		s.noteBack(rev)
	}
	for {
		select {
		case err := <-broken:
			return err
		case resp, ok := <-watch:
			if !ok {
				select {
				case err := <-broken:
					return err
				default:
					return fmt.Errorf("%w: its channel was closed", errReload)
				}
			}
			if err := resp.Err(); err != nil { // compacted, no leader, cancelled
				return fmt.Errorf("%w: %w", errReload, err)
			}
			if resp.Header.ClusterId != s.View().EtcdClusterID {
				return fmt.Errorf("%w: it came from another etcd", errReload)
			}
			if err := s.take(resp.Events); err != nil {
				return err
			}
		}
	}
}

// noteBack logs that etcd is back, if it was logged that it is away.
func (s *Store) noteBack(revision int64) {
	if s.awaySince.IsZero() {
		return
	}
	s.opts.Logger.Info("etcd is back: its metadata is followed again", "revision", revision,
		"after", s.opts.Clock.Now().Sub(s.awaySince).Round(time.Millisecond))
	s.awaySince = time.Time{}
}

// disconnection returns when no member of etcd is connected any more. What
// answers after that may be an etcd that was restored meanwhile, and may have
// been written to by others since: only loading everything tells.
func (s *Store) disconnection(ctx context.Context) error {
	s.opts.Client.ActiveConnection().WaitForStateChange(ctx, connectivity.Ready)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: the connection to etcd was lost", errReload)
}

// probe asks etcd now and then whether it is there and still the same. The
// watch does not tell: the client resumes it silently, even on an etcd that
// will reach the wanted revision only in some days.
func (s *Store) probe(ctx context.Context) error {
	for {
		s.sleep(ctx, s.opts.ProbeInterval)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.look(ctx); err != nil {
			return err
		}
	}
}

// look reads meta and judges the answer.
func (s *Store) look(ctx context.Context) error {
	asked := s.recall()
	ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	resp, err := s.opts.Client.Txn(ctx).Then(
		clientv3.OpGet(s.keys.Meta()), clientv3.OpGet(s.keys.ProducerIDs()),
		clientv3.OpGet(s.keys.ReplicaIDs()), clientv3.OpGet(s.keys.NodeIDs())).Commit()
	if err != nil {
		return fmt.Errorf("ask etcd for %s: %w", s.keys.Meta(), s.refused(err, clientv3.OpGet(s.keys.Meta())))
	}
	seen := sighting{etcdID: resp.Header.ClusterId, revision: resp.Header.Revision, counters: map[string]Counter{}}
	for i, r := range resp.Responses {
		kvs := r.GetResponseRange().Kvs
		switch {
		case len(kvs) == 0:
		case i == 0:
			if seen.meta, err = s.decodeMeta(kvs[0]); err != nil {
				return err
			}
		default:
			// One that makes no sense is somebody's mistake, not another etcd.
			if c, err := decode(kvs[0].Value, (*Counter).check); err == nil {
				c.ModRevision = kvs[0].ModRevision
				seen.counters[s.keys.relative(kvs[0].Key)] = c
			}
		}
	}
	return s.see(asked, seen)
}

// decodeMeta reads meta. One that makes no sense is taken for the one that was
// there before.
func (s *Store) decodeMeta(kv *mvccpb.KeyValue) (*Meta, error) {
	m, err := decode(kv.Value, (*Meta).check)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.report("meta", fromKV(kv), err)
		if s.memory.meta == nil {
			return nil, fmt.Errorf("%s makes no sense: %w", s.keys.Meta(), err)
		}
		m = *s.memory.meta
	}
	m.CreateRevision, m.ModRevision = kv.CreateRevision, kv.ModRevision
	return &m, nil
}

func fromKV(kv *mvccpb.KeyValue) item {
	return item{value: kv.Value, createRevision: kv.CreateRevision, modRevision: kv.ModRevision, lease: kv.Lease}
}

// load reads everything at one revision, which it returns, and publishes it,
// unless etcd does not hold what it held.
func (s *Store) load(ctx context.Context) (int64, error) {
	items := map[string]item{}
	var rev int64
	var seen sighting
	for from, end := s.keys.base, clientv3.GetPrefixRangeEnd(s.keys.base); ; {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize)}
		if rev > 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		rctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
		resp, err := s.opts.Client.Get(rctx, from, opts...)
		cancel()
		if err != nil {
			return 0, fmt.Errorf("load the metadata: %w", s.refused(err, clientv3.OpGet(from)))
		}
		if rev == 0 {
			rev = resp.Header.Revision
			seen.etcdID, seen.revision = resp.Header.ClusterId, rev
		} else if resp.Header.ClusterId != seen.etcdID {
			return 0, fmt.Errorf("%w: two etcd clusters answer", errReload)
		}
		for _, kv := range resp.Kvs {
			rel := s.keys.relative(kv.Key)
			items[rel] = fromKV(kv)
			if rel == "meta" {
				if seen.meta, err = s.decodeMeta(kv); err != nil {
					return 0, err
				}
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	// Nobody else changes what is remembered, but anybody may have frozen it.
	seen.items, seen.at = items, s.opts.Clock.Now()
	asked := s.recall()
	asked.items = s.items // which only this goroutine changes
	if err := s.see(asked, seen); err != nil {
		return 0, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if reason, _ := judge(s.memory, seen); reason != "" {
		return 0, fmt.Errorf("%w: %s", ErrFrozen, reason)
	}
	d := reload(s.keys, s.view.Load(), s.report)
	for rel, it := range items {
		d.put(rel, it)
		_, broken := d.next.Broken[rel]
		items[rel] = it.after(s.items[rel], broken)
	}
	kept := d.keepGone(s.missingLocked(items, seen.at), s.epochLocked())
	s.reportGone(kept)
	maps.Copy(items, kept)
	d.next.Source, d.next.EtcdClusterID, d.next.Revision = SourceEtcd, seen.etcdID, rev
	d.next.Frozen = d.next.halted()
	s.noteLocked(d.next.Frozen)
	s.items = items
	s.rememberLocked(&d.next)
	s.publishLocked(&d.next)
	return rev, nil
}

// take publishes a batch of changes. The view's revision is that of its newest
// change: the header's is the member's own, which after a reconnection may be
// one that lags.
func (s *Store) take(events []*clientv3.Event) error {
	if len(events) == 0 {
		return nil
	}
	s.mu.Lock()
	old := s.view.Load()
	rev := old.Revision
	d := revise(s.keys, old, s.report)
	changed, gone := map[string]item{}, s.goneLocked()
	for _, ev := range events {
		rel := s.keys.relative(ev.Kv.Key)
		was, known := changed[rel]
		if !known {
			was = s.items[rel]
		}
		if ev.Type == mvccpb.DELETE {
			d.delete(rel)
			changed[rel] = was
			gone[rel] = was
		} else {
			it := fromKV(ev.Kv)
			d.put(rel, it)
			_, broken := d.next.Broken[rel]
			changed[rel] = it.after(was, broken)
			delete(gone, rel)
		}
		rev = max(rev, ev.Kv.ModRevision)
	}
	kept := d.keepGone(gone, s.epochLocked())
	d.next.Revision = rev
	d.next.Frozen = d.next.halted()
	// Meta that goes or is made anew freezes; nothing of this batch is taken
	// in then, since what was deleted with meta is not to be believed.
	seen := sighting{etcdID: d.next.EtcdClusterID, revision: rev, meta: d.next.Meta}
	reason, sticky := judge(s.memory, seen)
	if lost := lostCounter(gone, s.items); reason == "" && lost != "" {
		reason, sticky = "etcd has lost the key "+lost, true
	}
	if reason != "" {
		s.mu.Unlock()
		s.freeze(reason, sticky)
		return fmt.Errorf("%w: %s", ErrFrozen, reason)
	}
	defer s.mu.Unlock()
	s.noteLocked(d.next.Frozen)
	s.reportGone(kept)
	maps.Copy(s.items, changed)
	for rel := range gone {
		delete(s.items, rel)
	}
	maps.Copy(s.items, kept)
	s.rememberLocked(&d.next)
	s.publishLocked(&d.next)
	return nil
}
