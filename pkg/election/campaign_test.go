package election_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

func TestNextCandidateWinsWhenTheLeaseExpires(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	var sick atomic.Bool
	a := session(t, c, election.SessionConfig{Healthy: func() bool { return !sick.Load() }})
	la := campaign(t, a, "a")
	if want := fmt.Sprintf("%s/%x", leader, int64(a.Lease())); la.Token.Key != want {
		t.Fatalf("key %s, want %s", la.Token.Key, want)
	}
	b := session(t, c, election.SessionConfig{})
	won := make(chan *election.Leadership, 1)
	go func() { won <- campaign(t, b, "b") }()

	sick.Store(true)
	began := time.Now()
	lb := <-won
	if took := time.Since(began); took > short+2*time.Second {
		t.Fatalf("took %s", took)
	}
	if la.Valid() || !errors.Is(la.Err(), election.ErrExpired) || !lb.Valid() {
		t.Fatalf("a: %v, b: %v", la.Err(), lb.Err())
	}
	if lb.Token.CreateRevision <= la.Token.CreateRevision {
		t.Fatalf("tokens %+v and %+v", la.Token, lb.Token)
	}
}

// deaf is a client's watcher that hears nothing.
type deaf struct{ clientv3.Watcher }

func (deaf) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	silence := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(silence) })
	return silence
}

// A winner whose process is stopped knows nothing of what passes: its clock
// stands still, it renews nothing, hears nothing, and believes in itself.
func TestPausedWinnerChangesNothing(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c, paused := e.Client(t), e.Client(t)
	paused.Watcher = deaf{paused.Watcher}
	clock := newFrozen()
	a := session(t, paused, election.SessionConfig{Clock: clock})
	la := campaign(t, a, "a")
	lb := campaign(t, session(t, c, election.SessionConfig{}), "b")

	if !la.Valid() {
		t.Fatal("the test wants a winner that believes in itself")
	}
	put := func(l *election.Leadership, v string) bool {
		resp, err := c.Txn(t.Context()).If(l.Token.Compare()).Then(clientv3.OpPut("/x", v)).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp.Succeeded
	}
	if put(la, "from a") {
		t.Fatal("a stale winner's command was obeyed")
	}
	if _, ok := value(t, c, "/x"); ok {
		t.Fatal("a stale winner changed something")
	}
	if !put(lb, "from b") {
		t.Fatal("the winner's command was refused")
	}

	clock.Advance(2 * short) // it is resumed
	if la.Valid() || la.Context().Err() == nil {
		t.Fatal("valid after its deadline")
	}
}

func TestKeyDeletedByHandEndsTheLeadership(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := session(t, c, election.SessionConfig{})
	l := campaign(t, s, "a")
	if _, err := c.Delete(t.Context(), l.Token.Key); err != nil {
		t.Fatal(err)
	}
	ends(t, l.Context().Done(), l.Err, election.ErrKeyLost)
	if err := l.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := campaign(t, s, "a")
	if again.Token == l.Token {
		t.Fatal("two leaderships share a token")
	}
}

func TestKeyOverwrittenWithoutALeaseIsRemoved(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	l := campaign(t, session(t, c, election.SessionConfig{}), "a")
	if _, err := c.Put(t.Context(), l.Token.Key, "mine for ever"); err != nil {
		t.Fatal(err)
	}
	ends(t, l.Context().Done(), l.Err, election.ErrKeyLost)
	gone(t, c, l.Token.Key)
}

func TestResign(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := session(t, c, election.SessionConfig{})
	l := campaign(t, s, "a")
	if _, err := election.Campaign(t.Context(), s, leader, nil); !errors.Is(err, election.ErrBusy) {
		t.Fatalf("second campaign: %v", err)
	}
	for range 2 {
		if err := l.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ends(t, l.Context().Done(), l.Err, election.ErrResigned)
	if _, ok := value(t, c, l.Token.Key); ok {
		t.Fatal("key survives the resignation")
	}
	campaign(t, s, "a")
}

func TestFailedResignationIsNotForgotten(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	s := session(t, c, election.SessionConfig{TTL: 20 * time.Second})
	l := campaign(t, s, "a")
	e.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Resign(ctx); err == nil {
		t.Fatal("resigned without etcd")
	}
	ends(t, l.Context().Done(), l.Err, election.ErrResigned)
	if _, err := election.Campaign(t.Context(), s, leader, nil); !errors.Is(err, election.ErrBusy) {
		t.Fatalf("campaign beside the old key: %v", err)
	}
	e.Restart(t)
	gone(t, c, l.Token.Key)
	if !s.Valid() {
		t.Fatal("the test wants the session alive")
	}
}

func TestLeaseLostDuringACampaign(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	first := campaign(t, session(t, c, election.SessionConfig{}), "a")
	s := session(t, c, election.SessionConfig{})
	failed := make(chan error, 1)
	go func() {
		_, err := election.Campaign(t.Context(), s, leader, []byte("b"))
		failed <- err
	}()
	key := fmt.Sprintf("%s/%x", leader, int64(s.Lease()))
	testetcd.Eventually(t, "a second candidate", func() bool { _, ok := value(t, c, key); return ok })

	// With the lease the candidate's key goes, and then the winner's: the
	// library's own campaign takes that for a victory.
	if _, err := c.Revoke(t.Context(), s.Lease()); err != nil {
		t.Fatal(err)
	}
	if err := first.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, election.ErrLeaseGone) && !errors.Is(err, election.ErrKeyLost) {
		t.Fatalf("campaign on a lost lease: %v", err)
	}
}

func TestCancelledCampaignLeavesNoCandidate(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	campaign(t, session(t, c, election.SessionConfig{}), "a")
	s := session(t, c, election.SessionConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	key := fmt.Sprintf("%s/%x", leader, int64(s.Lease()))
	failed := make(chan error, 1)
	go func() {
		_, err := election.Campaign(ctx, s, leader, []byte("b"))
		failed <- err
	}()
	testetcd.Eventually(t, "a second candidate", func() bool { _, ok := value(t, c, key); return ok })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled campaign: %v", err)
	}
	gone(t, c, key)
	if !s.Valid() {
		t.Fatal("session lost with the campaign")
	}
}

// Operators look with etcdctl elect, which is this library.
func TestUnderstoodByTheLibrary(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	l := campaign(t, session(t, c, election.SessionConfig{}), "node 1")
	cs, err := concurrency.NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close()
	resp, err := concurrency.NewElection(cs, leader).Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kv := resp.Kvs[0]; string(kv.Key) != l.Token.Key || string(kv.Value) != "node 1" || kv.CreateRevision != l.Token.CreateRevision {
		t.Fatalf("leader %v, token %+v", kv, l.Token)
	}
}

func TestElectionOverThreeMembers(t *testing.T) {
	t.Parallel()
	servers := testetcd.StartCluster(t, 3)
	c := testetcd.Client(t, servers...)
	s := session(t, c, election.SessionConfig{TTL: 4 * time.Second})
	l := campaign(t, s, "a")
	renewals := func(what string) {
		t.Helper()
		before := s.Deadline()
		testetcd.Eventually(t, what, func() bool { return s.Deadline().Sub(before) > 2*time.Second })
		if !l.Valid() {
			t.Fatalf("leadership lost: %v", l.Err())
		}
	}
	servers[0].Freeze() // it accepts connections and answers nothing
	renewals("renewals beside a member that hangs")
	servers[0].Thaw()
	servers[1].Stop()
	renewals("renewals beside a member that is gone")
}
