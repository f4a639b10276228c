package testcluster

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// TestCompactedUnderWatches: every watch of three nodes breaks off, and what they
// have not seen yet is compacted before they are back. They load everything anew;
// nobody loses its session or its leadership over it.
func TestCompactedUnderWatches(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	fill(t, client, "numbers", 0, 10)
	direct, err := clientv3.New(testetcd.ClientConfig(c.Etcd.Inner()))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	read := func(prefix string, opts ...clientv3.OpOption) string {
		t.Helper()
		resp, err := direct.Get(t.Context(), "/raftsman/test/"+prefix, append(opts, clientv3.WithPrefix())...)
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, kv := range resp.Kvs {
			out += fmt.Sprintf("%s made at %d under %x\n", kv.Key, kv.CreateRevision, kv.Lease)
		}
		return out
	}
	testetcd.Eventually(t, "three candidates", func() bool {
		resp, err := direct.Get(t.Context(), "/raftsman/test/leader/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == 3
	})
	winner := clientv3.WithFirstCreate() // those who wait may make their keys anew
	before := read("leader/", winner...) + read("nodes/")
	c.Etcd.Cut()
	var last int64
	for i := range 50 {
		resp, err := direct.Put(t.Context(), "/raftsman/test/users/u", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	if _, err := direct.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	c.Etcd.Mend(t)
	fill(t, client, "numbers", 10, 10)
	fill(t, client, "another", 0, 10) // the winner goes on
	if after := read("leader/", winner...) + read("nodes/"); after != before {
		t.Errorf("sessions or leaderships were lost:\n%swere\n%s", after, before)
	}
}
