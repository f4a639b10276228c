package testcluster

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// second starts another process's node, with a data directory and addresses of its
// own, and returns why it ends.
func (c *Cluster) second(t *testing.T, id int32, dir string) error {
	t.Helper()
	cfg := c.Member(id).cfg
	cfg.DataDir, cfg.Registerer = dir, prometheus.NewRegistry()
	cfg.Listeners = []node.KafkaListener{{Name: "default", Addr: "127.0.0.1:0"}}
	cfg.PeerAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	dials := make(chan string, 1000)
	cfg.Dial = func(_ context.Context, addr string) (net.Conn, error) {
		dials <- addr
		return nil, errCut
	}
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err = n.Run(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("a second node %d was not refused: %v", id, err)
	}
	if len(dials) > 0 {
		t.Errorf("a second node %d has opened its replicas: it has dialled %s", id, <-dials)
	}
	return err
}

// copyDir copies a data directory as somebody with cp would, while it is used.
func copyDir(t *testing.T, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	for range 100 {
		if err := os.CopyFS(to, os.DirFS(from)); err == nil {
			return to
		}
		if err := os.RemoveAll(to); err != nil { // a file went away meanwhile
			t.Fatal(err)
		}
	}
	t.Fatalf("%s can't be copied", from)
	return ""
}

// TestSecondProcess: while a node lives, another process with its id is refused and
// told where the first is, be its directory new or a copy of the first one's, and
// without etcd too. Its replicas are never opened; the first one does not notice,
// and nothing is lost.
func TestSecondProcess(t *testing.T) {
	c := Start(t, 3, nil)
	m := c.metadata(t)
	c.spread(t, "twice", 3)
	all := c.writers("twice", 3, 100, 10*time.Millisecond)
	fresh(t, "before", all)
	before := m.store.View().Nodes
	for id := int32(1); id <= 3; id++ {
		for what, dir := range map[string]string{"a new directory": filepath.Join(t.TempDir(), "new"), "a copy": copyDir(t, c.dataDir(id))} {
			err := c.second(t, id, dir)
			if err == nil {
				t.Fatalf("node %d with %s: no error", id, what)
			}
			if first := c.Member(id).Node.PeerAddr(); !strings.Contains(err.Error(), "is in use by a live process at "+first) {
				t.Errorf("node %d with %s: it does not say where the first is, %s: %v", id, what, first, err)
			}
			fresh(t, "beside "+what, all)
		}
	}
	testetcd.Eventually(t, "node 1 to have kept where it is", func() bool {
		view, err := os.ReadFile(filepath.Join(c.dataDir(1), "view.json"))
		return err == nil && strings.Contains(string(view), c.Member(1).Node.PeerAddr())
	})
	c.Etcd.Cut()
	err := c.second(t, 1, copyDir(t, c.dataDir(1)))
	if first := c.Member(1).Node.PeerAddr(); err == nil || !strings.Contains(err.Error(), "is in use by a live process at "+first) {
		t.Errorf("a copy without etcd: %v", err)
	}
	c.Etcd.Mend(t)
	fresh(t, "with etcd back", all)
	for id, n := range m.store.View().Nodes {
		if n.Incarnation != before[id].Incarnation || n.Peer != before[id].Peer {
			t.Errorf("node %d was %+v and is %+v", id, before[id], n)
		}
	}
	c.finish(t, all)
}

// TestOtherAddresses restarts nodes at other addresses, one by one and then all at
// once: they find each other, clients that know one of them find the others, and
// nothing is lost.
func TestOtherAddresses(t *testing.T) {
	c := Start(t, 3, nil)
	m := c.metadata(t)
	c.spread(t, "moved", 3)
	all := c.writers("moved", 3, 100, 10*time.Millisecond)
	fresh(t, "before", all)
	incarnations := make(map[int32]string)
	for id, n := range m.store.View().Nodes {
		incarnations[id] = n.Incarnation
	}
	relocate := func(ids ...int32) {
		old := make(map[int32]string)
		for _, id := range ids {
			old[id] = c.Member(id).Node.PeerAddr()
			c.Stop(id)
		}
		for _, id := range ids {
			cfg := &c.Member(id).cfg
			cfg.PeerAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
			if len(ids) == 1 {
				cfg.Listeners[0].Addr = "127.0.0.1:0" // clients know two others
			}
			c.launch(id)
		}
		for _, id := range ids {
			c.waitReady(id)
			m.await("the new address", func(v *cluster.View) bool {
				n, up := v.Nodes[id]
				return up && n.Peer == c.Member(id).Node.PeerAddr() && n.Peer != old[id]
			})
		}
		fresh(t, "at other addresses", all)
	}
	relocate(1)
	relocate(2)
	relocate(3)
	relocate(1, 2, 3)
	for id, n := range m.store.View().Nodes {
		if n.Incarnation != incarnations[id] {
			t.Errorf("node %d has incarnation %s, had %s", id, n.Incarnation, incarnations[id])
		}
	}
	c.finish(t, all)
}
