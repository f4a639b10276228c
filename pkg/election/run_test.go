package election_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

// member is one instance under Run.
type member struct {
	sessions atomic.Int32
	lease    atomic.Int64
	leading  atomic.Int32
	stop     context.CancelFunc
	done     chan error
}

func runMember(t *testing.T, c *clientv3.Client, name string, change func(*election.Config)) *member {
	ctx, cancel := context.WithCancel(t.Context())
	m := &member{stop: cancel, done: make(chan error, 1)}
	cfg := election.Config{
		Session:    election.SessionConfig{TTL: short, Logger: logger(t).With("member", name)},
		MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		Register: func() []election.Registration {
			return []election.Registration{{Key: "/test/nodes/" + name, Value: []byte(name)}}
		},
		OnSession: func(s *election.Session) { m.lease.Store(int64(s.Lease())); m.sessions.Add(1) },
		Name:      leader, Value: []byte(name),
		Lead: func(ctx context.Context, l *election.Leadership) error {
			m.leading.Add(1)
			defer m.leading.Add(-1)
			<-ctx.Done()
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	go func() {
		m.done <- election.Run(ctx, c, cfg)
		close(m.done)
	}()
	t.Cleanup(func() { cancel(); <-m.done })
	return m
}

func (m *member) leads(t *testing.T) {
	t.Helper()
	testetcd.Eventually(t, "leading", func() bool { return m.leading.Load() == 1 })
}

func TestRunSurvivesEtcdBeingAway(t *testing.T) {
	t.Parallel()
	e := testetcd.Reserve(t)
	c := e.Client(t)
	m := runMember(t, c, "a", nil)
	e.Restart(t) // it was away at the start
	m.leads(t)
	before := m.sessions.Load()
	e.Stop()
	testetcd.Eventually(t, "the leadership ends with its session", func() bool { return m.leading.Load() == 0 })
	e.Restart(t)
	m.leads(t)
	if v, _ := value(t, c, "/test/nodes/a"); v != "a" || m.sessions.Load() <= before {
		t.Fatalf("registered %q, %d sessions after %d", v, m.sessions.Load(), before)
	}
	m.stop()
	if err := <-m.done; err != nil {
		t.Fatal(err)
	}
	if _, ok := value(t, c, "/test/nodes/a"); ok {
		t.Fatal("stopped, but still registered")
	}
}

func TestRunBeginsAgainAfterARevokedLease(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	m := runMember(t, c, "a", nil)
	m.leads(t)
	old := clientv3.LeaseID(m.lease.Load())
	if _, err := c.Revoke(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "another session that leads", func() bool {
		return m.lease.Load() != int64(old) && m.leading.Load() == 1
	})
}

func TestRunWritesADeletedRegistrationAgain(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	m := runMember(t, c, "a", nil)
	m.leads(t)
	if _, err := c.Delete(t.Context(), "/test/nodes/a"); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "registered again", func() bool { _, ok := value(t, c, "/test/nodes/a"); return ok })
	if m.sessions.Load() != 1 {
		t.Fatal("that took a new session")
	}
}

func TestRunHandsOver(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	a := runMember(t, c, "a", nil)
	a.leads(t)
	b := runMember(t, c, "b", nil)
	testetcd.Eventually(t, "b is registered", func() bool { _, ok := value(t, c, "/test/nodes/b"); return ok })
	a.stop()
	b.leads(t)
	if a.leading.Load() != 0 {
		t.Fatal("two lead")
	}
}

func TestRunOnAHeldKey(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	other := session(t, c, election.SessionConfig{TTL: 30 * time.Second})
	if err := other.Register(t.Context(), "/test/nodes/a", []byte("other")); err != nil {
		t.Fatal(err)
	}
	refuse := errors.New("node a runs elsewhere")
	m := runMember(t, c, "a", func(cfg *election.Config) {
		cfg.OnHeld = func(h *election.HeldError) (bool, error) { return false, refuse }
	})
	if err := <-m.done; !errors.Is(err, refuse) {
		t.Fatalf("Run: %v", err)
	}
	m = runMember(t, c, "a", func(cfg *election.Config) {
		cfg.OnHeld = func(h *election.HeldError) (bool, error) { return string(h.Value) == "other", nil }
	})
	m.leads(t) // took over without waiting 30 s
}
