package member

import (
	"testing"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// TestKilledWhileJoining: a node that ends between the first file of its member and the
// first word of etcd's leader becomes a member all the same after its restart, and is in
// nobody's way.
func TestKilledWhileJoining(t *testing.T) {
	a := first(t)
	o := newOne(t, t.TempDir())
	r, _ := a.Record()
	if err := o.Joined("c1", true, r.Endpoints); err != nil {
		t.Fatal(err)
	}
	cli, err := o.client()
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	testetcd.Eventually(t, "the node to be added", func() bool { _, err := o.upkeep(t.Context(), cli); return err == nil && o.running() })
	o.etcd.Server.HardStop()
	o.close(t)
	o.open(t)
	if !o.dir.hasEtcd() {
		t.Fatal("there is nothing of a member")
	}
	if err := o.Restart(); err != nil {
		t.Fatal(err)
	}
	o.run(t)
	testetcd.Eventually(t, "the node to be a member", func() bool { v, all := a.members(t); return v == 2 && all == 2 })
}
