package election_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

const leader = "/test/leader"

// short is the lowest TTL that the test's etcd grants.
const short = time.Second

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func session(t testing.TB, c *clientv3.Client, cfg election.SessionConfig) *election.Session {
	t.Helper()
	if cfg.TTL == 0 {
		cfg.TTL = short
	}
	cfg.Logger = logger(t)
	s, err := election.NewSession(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Close(ctx)
	})
	return s
}

func campaign(t testing.TB, s *election.Session, value string) *election.Leadership {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := election.Campaign(ctx, s, leader, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ends waits for a context or session to end and compares the cause.
func ends(t testing.TB, done <-chan struct{}, cause func() error, want error) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
	if !errors.Is(cause(), want) {
		t.Fatalf("ended with %v, want %v", cause(), want)
	}
}

func value(t testing.TB, c *clientv3.Client, key string) (string, bool) {
	t.Helper()
	resp, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", false
	}
	return string(resp.Kvs[0].Value), true
}

func gone(t testing.TB, c *clientv3.Client, key string) {
	t.Helper()
	testetcd.Eventually(t, key+" is gone", func() bool {
		_, ok := value(t, c, key)
		return !ok
	})
}

// frozen is a clock that moves only when told, like that of a stopped
// process. Its timers run only from Fire, so that a test can look at the
// moment between waking up and the first timer.
type frozen struct {
	mu     sync.Mutex
	now    time.Time
	nextID int
	timers map[int]timer
}

type timer struct {
	at time.Time
	f  func()
}

func newFrozen() *frozen { return &frozen{now: time.Now(), timers: map[int]timer{}} }

func (c *frozen) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *frozen) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	id := c.nextID
	c.timers[id] = timer{c.now.Add(d), f}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, ok := c.timers[id]
		delete(c.timers, id)
		return ok
	}
}

// Advance moves the time without running a timer.
func (c *frozen) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Fire runs the timers that are due.
func (c *frozen) Fire() {
	c.mu.Lock()
	var due []func()
	for id, t := range c.timers {
		if !t.at.After(c.now) {
			due = append(due, t.f)
			delete(c.timers, id)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}
