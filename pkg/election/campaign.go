package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Campaign makes the session a candidate of the named election and returns
// when it has won, when it is over, or when ctx is. name has no trailing
// slash; value is what others read in the winner's key. A campaign that fails
// leaves no candidate behind: its key is deleted, again and again if need be,
// while the session lives. A session is a candidate of an election once at a
// time; another campaign gets ErrBusy until Resign was called, or the
// leadership was lost.
func Campaign(ctx context.Context, s *Session, name string, value []byte) (*Leadership, error) {
	s.mu.Lock()
	busy := s.candidates[name]
	if !busy {
		s.candidates[name] = true
	}
	s.mu.Unlock()
	if busy {
		return nil, fmt.Errorf("campaign for %s: %w", name, ErrBusy)
	}

	key := fmt.Sprintf("%s/%x", name, int64(s.lease))
	l, err := s.campaign(ctx, name, key, value)
	if err != nil {
		// Whether the key was written is not known: see to it that it goes.
		if rerr := s.withdraw(context.WithoutCancel(ctx), key); rerr != nil {
			s.withdrawLater(name, key)
		} else {
			s.leave(name)
		}
		return nil, fmt.Errorf("campaign for %s: %w", name, err)
	}
	return l, nil
}

// leave ends the candidacy, so that Campaign may be called again.
func (s *Session) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.candidates, name)
}

func (s *Session) campaign(ctx context.Context, name, key string, value []byte) (*Leadership, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	// A key left from before would make this leadership share its token with
	// the one before.
	if err := s.deleteOwn(ctx, key); err != nil {
		return nil, s.cause(ctx, err)
	}
	e, release, err := s.election(ctx, name)
	if err != nil {
		return nil, s.cause(ctx, err)
	}
	defer release()
	var sweeper sync.WaitGroup
	defer sweeper.Wait()
	sctx, stop := context.WithCancel(ctx)
	defer stop()
	s.sweepOnce(ctx, name) // before, since the own key may be one
	sweeper.Go(func() { s.sweep(sctx, name) })
	if err := e.Campaign(ctx, string(value)); err != nil {
		return nil, s.cause(ctx, err)
	}

	// Believe it only when etcd shows the own key, and shows it first.
	resp, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(key),
		clientv3.OpGet(name+"/", clientv3.WithFirstCreate()...),
	).Commit()
	if err != nil {
		return nil, s.cause(ctx, err)
	}
	own, first := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
	if len(own) == 0 || !s.owns(own[0], e.Rev()) || string(first[0].Key) != key {
		return nil, s.cause(ctx, ErrKeyLost)
	}
	if !s.Valid() {
		return nil, s.Err()
	}

	l := &Leadership{Token: Token{Key: key, CreateRevision: e.Rev()}, session: s, name: name}
	l.ctx, l.cancel = context.WithCancelCause(s.ctx)
	rev := resp.Header.Revision + 1
	if !s.start(func() { l.guard(rev) }) {
		l.cancel(ErrClosed)
		return nil, ErrClosed
	}
	return l, nil
}

// cause prefers the reason why ctx ended, the session's end above all, to
// etcd's way of saying that it did.
func (s *Session) cause(ctx context.Context, err error) error {
	if s.gone(err) || s.ctx.Err() != nil {
		return s.Err()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// election returns etcd's election on this session's lease. The library wants
// a session of its own, which would renew our lease ungated; and it resigns,
// when a campaign is cancelled, on the client's own context, without any
// bound. So it gets a client whose lease is not kept alive and whose context
// ends a little after ctx.
func (s *Session) election(ctx context.Context, name string) (*concurrency.Election, func(), error) {
	ectx, ecancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		// Real time: this bounds a network call, not a lease.
		time.AfterFunc(s.ttl/4, ecancel)
	})
	release := func() { stop(); ecancel() }

	client := clientv3.NewCtxClient(ectx)
	client.KV, client.Watcher, client.Lease = s.client.KV, s.client.Watcher, noKeepAlive{s.client.Lease}
	handle, err := concurrency.NewSession(client, concurrency.WithLease(s.lease), concurrency.WithContext(ectx))
	if err == nil && handle == nil {
		err = errors.New("etcd's client gave no session")
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return concurrency.NewElection(handle, name), func() { release(); handle.Orphan() }, nil
}

// noKeepAlive is a Lease whose KeepAlive keeps nothing alive.
type noKeepAlive struct{ clientv3.Lease }

func (noKeepAlive) KeepAlive(ctx context.Context, _ clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	never := make(chan *clientv3.LeaseKeepAliveResponse)
	context.AfterFunc(ctx, func() { close(never) })
	return never, nil
}

// deleteOwn deletes the key if it is under this session's lease.
func (s *Session) deleteOwn(ctx context.Context, key string) error {
	_, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", s.lease)).
		Then(clientv3.OpDelete(key)).
		Commit()
	return err
}

// withdraw is deleteOwn with a bound in time. A session that is over needs
// none: its keys go with the lease.
func (s *Session) withdraw(ctx context.Context, key string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(ctx, s.ttl/4)
	defer cancelTimeout()
	if err := s.deleteOwn(ctx, key); err != nil && s.ctx.Err() == nil {
		return err
	}
	return nil
}

// withdrawLater goes on until the key or the session is gone. Until then the
// candidacy stays, so that no other campaign meets the old key.
func (s *Session) withdrawLater(name, key string) {
	s.start(func() {
		for sleep(s.ctx, s.cfg.Clock, s.ttl/20) {
			if s.withdraw(s.ctx, key) == nil {
				s.leave(name)
				return
			}
		}
	})
}
