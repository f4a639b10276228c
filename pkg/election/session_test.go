package election_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

func TestSessionOutlivesItsTTL(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := session(t, c, election.SessionConfig{})
	if err := s.Register(t.Context(), "/n/1", []byte("one")); err != nil {
		t.Fatal(err)
	}
	first := s.Deadline()
	testetcd.Eventually(t, "three TTLs of renewals", func() bool { return s.Deadline().Sub(first) > 3*short })
	if v, _ := value(t, c, "/n/1"); v != "one" || !s.Valid() {
		t.Fatalf("registered %q, valid %v", v, s.Valid())
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatalf("closing again: %v", err)
	}
	if _, ok := value(t, c, "/n/1"); ok {
		t.Fatal("key survives the closed session")
	}
	ends(t, s.Done(), s.Err, election.ErrClosed)
	if err := s.Register(t.Context(), "/n/1", nil); !errors.Is(err, election.ErrClosed) {
		t.Fatalf("registering on a closed session: %v", err)
	}
}

func TestUnhealthySessionEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	var sick atomic.Bool
	s := session(t, c, election.SessionConfig{Healthy: func() bool { return !sick.Load() }})
	if err := s.Register(t.Context(), "/n/1", []byte("one")); err != nil {
		t.Fatal(err)
	}
	sick.Store(true)
	ends(t, s.Done(), s.Err, election.ErrExpired)
	if late := time.Since(s.Deadline()); late < 0 || late > 2*time.Second {
		t.Fatalf("ended %s after the deadline", late)
	}
	gone(t, c, "/n/1") // by etcd's own clock, nobody revoked it
	if _, err := election.NewSession(t.Context(), c, election.SessionConfig{Healthy: func() bool { return false }}); !errors.Is(err, election.ErrUnhealthy) {
		t.Fatalf("unhealthy start: %v", err)
	}
}

func TestHealthyThatHangsEndsTheSession(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	var calls atomic.Int32
	release := make(chan struct{})
	s := session(t, c, election.SessionConfig{Healthy: func() bool {
		if calls.Add(1) > 1 {
			<-release
		}
		return true
	}})
	ends(t, s.Done(), s.Err, election.ErrExpired)
	close(release)
}

func TestLeaseRevokedByHandEndsTheSession(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := session(t, c, election.SessionConfig{TTL: 3 * time.Second})
	l := campaign(t, s, "a")
	if _, err := c.Revoke(t.Context(), s.Lease()); err != nil {
		t.Fatal(err)
	}
	<-l.Context().Done() // by its key or its lease, whichever is seen first
	ends(t, s.Done(), s.Err, election.ErrLeaseGone)
}

func TestAnswerAfterTheDeadlineResurrectsNothing(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	clock := newFrozen()
	s := session(t, c, election.SessionConfig{TTL: 30 * time.Second, Clock: clock})
	before := s.Deadline()

	clock.Advance(11 * time.Second) // a renewal is due
	testetcd.Eventually(t, "a renewal", func() bool { clock.Fire(); return s.Deadline().After(before) })
	if want := clock.Now().Add(30 * time.Second); !s.Deadline().Equal(want) {
		t.Fatalf("deadline %s, want %s: counted from before it was sent", s.Deadline(), want)
	}

	// The process is stopped for longer than that. What runs first after it
	// wakes up is a look at Valid, before any timer.
	clock.Advance(31 * time.Second)
	if s.Valid() || s.Err() == nil {
		t.Fatal("valid after its deadline")
	}
	clock.Fire()
	ends(t, s.Done(), s.Err, election.ErrExpired)
	if resp, err := c.TimeToLive(t.Context(), s.Lease()); err != nil || resp.TTL <= 0 {
		t.Fatalf("the test wants the lease alive in etcd meanwhile: %v, %v", resp, err)
	}
	if s.Valid() {
		t.Fatal("resurrected")
	}
}

func TestRegisterRefusesAForeignKey(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	a, b := session(t, c, election.SessionConfig{}), session(t, c, election.SessionConfig{})
	if err := a.Register(t.Context(), "/n/1", []byte("10.0.0.1:7070")); err != nil {
		t.Fatal(err)
	}
	var held *election.HeldError
	if err := b.Register(t.Context(), "/n/1", []byte("b")); !errors.As(err, &held) {
		t.Fatalf("second node with this id: %v", err)
	}
	if held.Lease != a.Lease() || string(held.Value) != "10.0.0.1:7070" {
		t.Fatalf("held by %+v", held)
	}
	if err := b.Update(t.Context(), "/n/1", []byte("b")); !errors.As(err, &held) {
		t.Fatalf("update of a foreign key: %v", err)
	}
	if err := a.Register(t.Context(), "/n/1", []byte("again")); err != nil {
		t.Fatal(err)
	}
	if err := a.Update(t.Context(), "/n/1", []byte("updated")); err != nil {
		t.Fatal(err)
	}
	if v, _ := value(t, c, "/n/1"); v != "updated" {
		t.Fatalf("value %q", v)
	}
	if err := a.Update(t.Context(), "/n/2", nil); !errors.Is(err, election.ErrNotRegistered) {
		t.Fatalf("update of nothing: %v", err)
	}
	if _, err := c.Put(t.Context(), "/n/3", "by hand"); err != nil {
		t.Fatal(err)
	}
	if err := a.Register(t.Context(), "/n/3", nil); !errors.As(err, &held) || held.Lease != 0 {
		t.Fatalf("a key without a lease: %v", err)
	}
}

func TestNewSessionWithoutEtcdFailsInTime(t *testing.T) {
	t.Parallel()
	c := testetcd.Reserve(t).Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := election.NewSession(ctx, c, election.SessionConfig{}); err == nil {
		t.Fatal("a session without etcd")
	}
}

func TestSessionSurvivesARestartOfEtcd(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	s := session(t, c, election.SessionConfig{TTL: 6 * time.Second})
	l := campaign(t, s, "a")
	e.Stop()
	e.Restart(t)
	before := s.Deadline()
	testetcd.Eventually(t, "a renewal after the restart", func() bool { return s.Deadline().After(before) })
	if !l.Valid() {
		t.Fatalf("leadership lost: %v", l.Err())
	}
}
