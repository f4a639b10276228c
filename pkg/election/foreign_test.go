package election_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

// TestKeysWithoutALease: a key of the election under no lease, whether somebody put
// it there or overwrote a candidate's, keeps nobody from winning; and a
// registered key that was overwritten is taken back when OnHeld allows that.
func TestKeysWithoutALease(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	put := func(key string) {
		t.Helper()
		if _, err := c.Put(t.Context(), key, "by hand"); err != nil {
			t.Fatal(err)
		}
	}
	put(leader + "/1")
	unleased := func(cfg *election.Config) {
		cfg.OnHeld = func(h *election.HeldError) (bool, error) { return h.Lease == clientv3.NoLease, nil }
	}
	a := runMember(t, c, "a", unleased)
	a.leads(t)
	gone(t, c, leader+"/1")
	b := runMember(t, c, "b", unleased)
	testetcd.Eventually(t, "two candidates", func() bool {
		resp, err := c.Get(t.Context(), leader+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == 2
	})

	resp, err := c.Get(t.Context(), leader+"/", clientv3.WithFirstCreate()...)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("no winner: %v", err)
	}
	first := resp.Kvs[0]
	put(string(first.Key))
	testetcd.Eventually(t, "another winner's key under a lease", func() bool {
		resp, err := c.Get(t.Context(), leader+"/", clientv3.WithFirstCreate()...)
		return err == nil && len(resp.Kvs) == 1 && resp.Kvs[0].Lease != 0 && resp.Kvs[0].CreateRevision != first.CreateRevision
	})
	testetcd.Eventually(t, "one of them leads", func() bool { return a.leading.Load()+b.leading.Load() == 1 })

	put("/test/nodes/a")
	testetcd.Eventually(t, "the registration under a lease again", func() bool {
		resp, err := c.Get(t.Context(), "/test/nodes/a")
		return err == nil && len(resp.Kvs) == 1 && resp.Kvs[0].Lease == a.lease.Load() && string(resp.Kvs[0].Value) == "a"
	})
}

// TestRevokedLeaseIsNoticedAtOnce: the first refusal ends the session, not the next
// renewal.
func TestRevokedLeaseIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := session(t, c, election.SessionConfig{Clock: newFrozen()}) // nothing is renewed
	if _, err := c.Revoke(t.Context(), s.Lease()); err != nil {
		t.Fatal(err)
	}
	if err := s.Register(t.Context(), "/test/k", nil); err == nil {
		t.Fatal("registered under a lease that is gone")
	}
	ends(t, s.Done(), s.Err, election.ErrLeaseGone)
}
