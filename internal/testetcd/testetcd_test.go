package testetcd_test

import (
	"testing"

	"github.com/raftsman/raftsman/internal/testetcd"
)

func TestKeepsDataAndAddressOverRestart(t *testing.T) {
	s := testetcd.Start(t)
	c := s.Client(t)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	endpoint := s.Endpoint()
	s.Stop()
	s.Restart(t)
	if s.Endpoint() != endpoint {
		t.Fatalf("moved from %s to %s", endpoint, s.Endpoint())
	}
	got, err := c.Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestThreeMembersSurviveOne(t *testing.T) {
	servers := testetcd.StartCluster(t, 3)
	c := testetcd.Client(t, servers...)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	servers[0].Stop()
	testetcd.Eventually(t, "a write through the two that are left", func() bool {
		_, err := c.Put(t.Context(), "k", "w")
		return err == nil
	})
	servers[0].Restart(t)
}
