package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultTTL is the lifetime of a session without a renewal.
const DefaultTTL = 10 * time.Second

// SessionConfig describes a session. The zero value is usable.
type SessionConfig struct {
	// TTL is how long the session lives without a renewal; whole seconds,
	// rounded up. etcd raises it to its own floor, about 2 s by default.
	// Default: DefaultTTL.
	TTL time.Duration
	// Healthy is asked before each renewal, every third of the TTL; when it
	// says no, that renewal is left out. A session that hears no until its
	// deadline ends there. It should answer at once: while it blocks nothing is
	// renewed, and Close waits for it. Default: always healthy.
	Healthy func() bool
	// Logger hears of renewals that failed. Default: nowhere.
	Logger *slog.Logger
	// Clock is for tests.
	Clock Clock
}

func (c SessionConfig) withDefaults() SessionConfig {
	if c.TTL <= 0 {
		c.TTL = DefaultTTL
	}
	if c.Healthy == nil {
		c.Healthy = func() bool { return true }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = realClock{}
	}
	return c
}

// Session is a lease in etcd and this process's claim to it. Its methods may
// be called from any goroutine.
type Session struct {
	client *clientv3.Client
	cfg    SessionConfig
	lease  clientv3.LeaseID
	ttl    time.Duration // as granted

	ctx    context.Context // ends with the session; its cause says why
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	deadline   time.Time
	stopTimer  func() bool
	closed     bool            // no goroutine is started after this
	revoked    bool            // by Close, or known to be gone
	candidates map[string]bool // elections with a campaign or a leadership
}

// NewSession takes a lease and keeps it alive until Close, or until it is
// lost. ctx bounds this call only. It fails with ErrUnhealthy when Healthy
// says no.
func NewSession(ctx context.Context, client *clientv3.Client, cfg SessionConfig) (*Session, error) {
	cfg = cfg.withDefaults()
	if !cfg.Healthy() {
		return nil, ErrUnhealthy
	}
	gctx, cancelGrant := context.WithTimeout(ctx, cfg.TTL)
	defer cancelGrant()
	sent := cfg.Clock.Now()
	grant, err := client.Grant(gctx, int64((cfg.TTL+time.Second-1)/time.Second))
	if err != nil {
		return nil, fmt.Errorf("take a lease: %w", err)
	}
	s := &Session{
		client: client, cfg: cfg, lease: grant.ID,
		ttl:        time.Duration(grant.TTL) * time.Second,
		candidates: map[string]bool{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.mu.Lock()
	s.deadline = sent.Add(s.ttl)
	s.armLocked()
	s.mu.Unlock()
	s.start(func() { s.renew(sent) })
	return s, nil
}

// start runs f on a goroutine that Close waits for; it says false, and does
// not, when the session has been closed.
func (s *Session) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// Lease is the session's lease: its keys live and die with it.
func (s *Session) Lease() clientv3.LeaseID { return s.lease }

// TTL is the session's lifetime without a renewal, as etcd granted it.
func (s *Session) TTL() time.Duration { return s.ttl }

// Done is closed when the session is over. It stays over.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err says why the session is over, nil while it is not.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Deadline is when the session ends unless it is renewed before.
func (s *Session) Deadline() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline
}

// Valid says whether the session is alive at this moment by the clock, and
// ends it when it is not: a process that was stopped past its deadline finds
// out here even before its timers have run.
func (s *Session) Valid() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	if !s.cfg.Clock.Now().Before(s.deadline) {
		s.endLocked(ErrExpired)
		return false
	}
	return true
}

// armLocked (re)starts the timer that ends the session at its deadline.
func (s *Session) armLocked() {
	if s.stopTimer != nil {
		s.stopTimer()
	}
	if s.ctx.Err() == nil {
		s.stopTimer = s.cfg.Clock.AfterFunc(s.deadline.Sub(s.cfg.Clock.Now()), s.expire)
	}
}

// expire runs at what was the deadline when the timer was set.
func (s *Session) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	if s.cfg.Clock.Now().Before(s.deadline) {
		s.armLocked() // renewed while the timer fired
		return
	}
	s.endLocked(ErrExpired)
}

func (s *Session) endLocked(cause error) {
	s.cancel(cause) // the first cause stays
	if s.stopTimer != nil {
		s.stopTimer()
		s.stopTimer = nil
	}
}

// extend moves the deadline after a renewal that was sent at the given time.
// An answer that comes after the deadline does not resurrect the session.
func (s *Session) extend(sent time.Time, ttl time.Duration) {
	if !s.Valid() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := sent.Add(ttl); s.ctx.Err() == nil && d.After(s.deadline) {
		s.deadline = d
		s.armLocked()
	}
}

// renew keeps the lease alive from another goroutine until the session ends.
func (s *Session) renew(last time.Time) {
	retry := s.ttl / 20
	wait := s.ttl/3 - s.cfg.Clock.Now().Sub(last)
	failing := false
	for sleep(s.ctx, s.cfg.Clock, max(wait, 0)) {
		if !s.cfg.Healthy() {
			if !failing {
				s.cfg.Logger.Warn("lease is not renewed: not healthy", "lease", s.hex(), "deadline", s.Deadline())
			}
			failing, wait = true, retry
			continue
		}
		sent := s.cfg.Clock.Now()
		ttl, err := s.renewOnce()
		switch {
		case err == nil:
			s.extend(sent, ttl)
			failing, wait = false, s.ttl/3
		case s.gone(err):
		default:
			if !failing && s.ctx.Err() == nil {
				s.cfg.Logger.Warn("lease could not be renewed, trying again", "lease", s.hex(), "deadline", s.Deadline(), "err", err)
			}
			failing, wait = true, retry
		}
	}
}

// gone says whether etcd has answered that it has no such lease; the session is
// over then.
func (s *Session) gone(err error) bool {
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = true
	s.endLocked(ErrLeaseGone)
	return true
}

// renewOnce sends one renewal. It is given up after a quarter of the TTL, so
// that a stuck endpoint leaves time for another.
func (s *Session) renewOnce() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.ttl/4)
	defer cancel()
	resp, err := s.client.KeepAliveOnce(ctx, s.lease)
	if err != nil {
		return 0, err
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// Close ends the session at once, waits for its goroutines and revokes the
// lease within ctx. When the lease could not be revoked it expires by itself;
// the error says so, and Close may be called again to try again.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.endLocked(ErrClosed)
	s.mu.Unlock()
	s.wg.Wait()

	s.mu.Lock()
	revoked := s.revoked
	s.mu.Unlock()
	if revoked {
		return nil
	}
	if _, err := s.client.Revoke(ctx, s.lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease %s: %w", s.hex(), err)
	}
	s.mu.Lock()
	s.revoked = true
	s.mu.Unlock()
	return nil
}

func (s *Session) hex() string { return fmt.Sprintf("%x", int64(s.lease)) }

// within returns a context that ends with ctx and with the session.
func (s *Session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(s.Err()) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}
