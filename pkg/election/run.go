package election

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Registration is a key that lives as long as a session.
type Registration struct {
	Key   string
	Value []byte
}

// Config describes what Run keeps alive.
type Config struct {
	// Session configures every session.
	Session SessionConfig

	// Register returns what each new session registers before anything else,
	// and again when somebody has deleted it. Default: nothing.
	Register func() []Registration
	// OnHeld is asked when a key to be registered belongs to another lease.
	// takeOver revokes that lease at once: right only when the caller knows
	// that its holder is dead, for instance its own former self. An error ends
	// Run. Otherwise Run tries again until the lease has expired.
	// Default: try again.
	OnHeld func(*HeldError) (takeOver bool, err error)
	// OnSession is told of each session once it is registered. It must not
	// block; the session ends when Done says so. Default: nobody is told.
	OnSession func(*Session)

	// Name is the election, without a trailing slash. Empty: no candidate.
	Name string
	// Value is what others read in the winner's key.
	Value []byte
	// Lead is one term: it is called with each victory, and its return ends
	// the leadership. ctx ends with the leadership and with Run's context, and
	// Lead must then return: until it has, there is neither a new campaign nor
	// a new session.
	Lead func(ctx context.Context, l *Leadership) error

	// MinBackoff and MaxBackoff bound the pause after a failure, which doubles
	// from one to the other, with jitter. Defaults: 100 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
}

// Run keeps a session alive until ctx ends: it registers, campaigns, leads,
// and begins again with a new lease whenever one is lost. etcd may be away,
// for any time and from the start. It returns nil when ctx ends, with the
// session closed and its lease revoked if etcd answered, and an error only
// when OnHeld gave one.
func Run(ctx context.Context, client *clientv3.Client, cfg Config) error {
	cfg.Session = cfg.Session.withDefaults()
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = 100 * time.Millisecond
	}
	if cfg.MaxBackoff < cfg.MinBackoff {
		cfg.MaxBackoff = max(5*time.Second, cfg.MinBackoff)
	}
	r := &runner{client: client, cfg: cfg}
	pause := backoff{min: cfg.MinBackoff, max: cfg.MaxBackoff}
	for ctx.Err() == nil {
		worked, err := r.session(ctx)
		var fatal *fatalError
		if errors.As(err, &fatal) {
			return fatal.err
		}
		if worked {
			pause.reset()
		}
		if ctx.Err() == nil {
			r.report(err)
			sleep(ctx, cfg.Session.Clock, pause.next())
		}
	}
	return nil
}

type runner struct {
	client *clientv3.Client
	cfg    Config
	told   string // the last failure that was logged
}

// report logs a failure, and once only while it repeats.
func (r *runner) report(err error) {
	if err == nil || err.Error() == r.told {
		return
	}
	r.told = err.Error()
	r.cfg.Session.Logger.Warn("no session in etcd, trying again", "err", err)
}

type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }

// session is the life of one session; worked says that it was registered.
func (r *runner) session(ctx context.Context) (worked bool, err error) {
	s, err := NewSession(ctx, r.client, r.cfg.Session)
	if err != nil {
		return false, err
	}
	defer func() {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ttl/4)
		defer cancel()
		if cerr := s.Close(cctx); cerr != nil {
			r.cfg.Session.Logger.Warn("lease could not be revoked and will expire by itself", "err", cerr)
		}
	}()
	var keys []Registration
	if r.cfg.Register != nil {
		keys = r.cfg.Register()
	}
	for _, reg := range keys {
		if err := r.register(ctx, s, reg); err != nil {
			return false, err
		}
	}
	r.told = ""

	wctx, cancel := s.within(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, reg := range keys {
		wg.Go(func() { r.keepRegistered(wctx, s, reg.Key) })
	}
	if r.cfg.OnSession != nil {
		r.cfg.OnSession(s)
	}
	if r.cfg.Name != "" && r.cfg.Lead != nil {
		r.lead(wctx, s)
	} else {
		<-wctx.Done()
	}
	return true, s.Err()
}

// register writes one key, after its former holder if need be.
func (r *runner) register(ctx context.Context, s *Session, reg Registration) error {
	pause := backoff{min: r.cfg.MinBackoff, max: r.cfg.MaxBackoff}
	told := false
	for {
		rctx, cancel := context.WithTimeout(ctx, s.ttl)
		err := s.Register(rctx, reg.Key, reg.Value)
		cancel()
		var held *HeldError
		if !errors.As(err, &held) {
			return err
		}
		takeOver := false
		if r.cfg.OnHeld != nil {
			if takeOver, err = r.cfg.OnHeld(held); err != nil {
				return &fatalError{err}
			}
		}
		if !told {
			told = true
			r.cfg.Session.Logger.Warn("key is held by another lease", "key", held.Key, "lease", fmt.Sprintf("%x", int64(held.Lease)),
				"take_over", takeOver, "value", string(held.Value))
		}
		if takeOver {
			if err := r.evict(ctx, held, s.ttl/4); err != nil {
				return err
			}
		}
		wctx, cancel := s.within(ctx)
		alive := sleep(wctx, r.cfg.Session.Clock, pause.next())
		cause := context.Cause(wctx)
		cancel()
		if !alive {
			return cause
		}
	}
}

// evict makes a held key free: by revoking its lease, or by deleting the key
// when it has none.
func (r *runner) evict(ctx context.Context, held *HeldError, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var err error
	if held.Lease != clientv3.NoLease {
		_, err = r.client.Revoke(ctx, held.Lease)
	} else {
		_, err = r.client.Txn(ctx).
			If(clientv3.Compare(clientv3.LeaseValue(held.Key), "=", clientv3.NoLease)).
			Then(clientv3.OpDelete(held.Key)).
			Commit()
	}
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("take over %s: %w", held.Key, err)
	}
	return nil
}

// keepRegistered writes a registered key again when somebody has deleted or
// overwritten it, with the value that Register gives then.
func (r *runner) keepRegistered(ctx context.Context, s *Session, key string) {
	pause, told := backoff{min: r.cfg.MinBackoff, max: r.cfg.MaxBackoff}, ""
	for ctx.Err() == nil {
		resp, err := r.client.Get(ctx, key)
		if err == nil && len(resp.Kvs) > 0 && resp.Kvs[0].Lease == int64(s.lease) {
			pause.reset()
			if s.ownKey(ctx, key, resp.Kvs[0].CreateRevision, resp.Header.Revision+1) != nil {
				return
			}
			continue
		}
		if err == nil {
			err = r.registerAgain(ctx, s, key)
			if ctx.Err() == nil && (err == nil || err.Error() != told) {
				r.cfg.Session.Logger.Warn("registered key was deleted or overwritten by somebody else, writing it again", "key", key, "err", err)
			}
			if told = ""; err != nil {
				told = err.Error()
			}
		}
		sleep(ctx, s.cfg.Clock, pause.next())
	}
}

// registerAgain writes a registered key again; one that somebody else holds is
// taken over if OnHeld says so.
func (r *runner) registerAgain(ctx context.Context, s *Session, key string) error {
	for _, reg := range r.cfg.Register() {
		if reg.Key != key {
			continue
		}
		err := s.Register(ctx, key, reg.Value)
		var held *HeldError
		if !errors.As(err, &held) || r.cfg.OnHeld == nil {
			return err
		}
		takeOver, herr := r.cfg.OnHeld(held)
		if herr != nil || !takeOver {
			return errors.Join(err, herr)
		}
		if err := r.evict(ctx, held, s.ttl/4); err != nil {
			return err
		}
		return s.Register(ctx, key, reg.Value)
	}
	return nil
}

// lead campaigns and leads until the session, or ctx, is over.
func (r *runner) lead(ctx context.Context, s *Session) {
	pause := backoff{min: r.cfg.MinBackoff, max: r.cfg.MaxBackoff}
	for ctx.Err() == nil {
		l, err := Campaign(ctx, s, r.cfg.Name, r.cfg.Value)
		if err != nil {
			if ctx.Err() == nil {
				r.cfg.Session.Logger.Warn("campaign failed, trying again", "err", err)
				sleep(ctx, s.cfg.Clock, pause.next())
			}
			continue
		}
		began := s.cfg.Clock.Now()
		if err := r.term(ctx, l); err != nil && ctx.Err() == nil {
			r.cfg.Session.Logger.Warn("leadership ended", "err", err)
		}
		if s.cfg.Clock.Now().Sub(began) > r.cfg.MaxBackoff {
			pause.reset()
		}
		sleep(ctx, s.cfg.Clock, pause.next())
	}
}

// term is one leadership, from the victory to the resignation.
func (r *runner) term(ctx context.Context, l *Leadership) error {
	lctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.Context(), func() { cancel(l.Err()) })
	defer stop()
	defer cancel(nil)
	err := r.cfg.Lead(lctx, l)

	rctx, cancelResign := context.WithTimeout(context.WithoutCancel(ctx), l.session.ttl/4)
	defer cancelResign()
	return errors.Join(err, l.Resign(rctx))
}

// backoff gives pauses that double, each with a jitter of a half.
type backoff struct{ min, max, last time.Duration }

func (b *backoff) reset() { b.last = 0 }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.min), b.max)
	return b.last/2 + rand.N(b.last/2+1)
}
