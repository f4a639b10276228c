//go:build system

package system

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLeases revokes leases by hand, one and all at once, and deletes the winner's
// key: nodes register again, another one or the same wins, nothing is moved and
// no leadership is lost.
func TestLeases(t *testing.T) {
	x := newTrouble(t, startPlain(t, 3, plainEtcd{}))
	unmoved := func(before string) {
		t.Helper()
		x.serves()
		if after := x.placement(); after != before {
			t.Errorf("something was moved, or another leads:\n%s\nwas\n%s", after, before)
		}
	}
	registered := func() {
		t.Helper()
		waitFor(t, "all nodes to be registered, and to stand for election", 30*time.Second, func() bool {
			return strings.Count(x.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/nodes/"), "/nodes/") == 3 &&
				strings.Count(x.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/leader/"), "/leader/") == 3
		})
	}
	lease := func(node int) string {
		return leaseOf(t, x.etcdctl("get", fmt.Sprintf("/raftsman/default/nodes/%d", node), "-w", "fields"))
	}
	registered()
	before := x.placement()

	winner := x.winner()
	other := winner%3 + 1
	for _, node := range []int{other, winner} { // neither is noticed
		old := lease(node)
		x.etcdctl("lease", "revoke", old)
		waitFor(t, "another lease", 30*time.Second, func() bool {
			out := x.etcdctl("get", fmt.Sprintf("/raftsman/default/nodes/%d", node), "-w", "fields")
			return strings.Contains(out, `"Lease"`) && leaseOf(t, out) != old
		})
		registered()
		unmoved(before)
	}
	if again := x.winner(); again == winner {
		t.Errorf("node %d still wins after its lease was revoked", again)
	}

	for _, l := range strings.Fields(x.etcdctl("lease", "list"))[1:] {
		if len(l) == 16 {
			x.etcdctl("lease", "revoke", l)
		}
	}
	waitFor(t, "a winner", 30*time.Second, func() bool { return x.winnerOrNone() > 0 })
	registered()
	unmoved(before)

	winner = x.winner()
	key := strings.Fields(x.etcdctl("get", "--prefix", "--keys-only", "--sort-by", "CREATE", "--order", "ASCEND", "--limit", "1", "/raftsman/default/leader/"))[0]
	created := x.etcdctl("get", key, "-w", "fields")
	x.etcdctl("del", key)
	waitFor(t, "another winner's key", 30*time.Second, func() bool {
		first := strings.Fields(x.etcdctl("get", "--prefix", "--keys-only", "--sort-by", "CREATE", "--order", "ASCEND", "--limit", "1", "/raftsman/default/leader/"))
		return len(first) > 0 && x.etcdctl("get", first[0], "-w", "fields") != created
	})
	t.Logf("node %d won; its key was deleted, and node %d wins", winner, x.winner())
	registered()
	unmoved(before)
	x.mended("after")
	x.quiet(6)
	x.finish()
}

// leaseOf reads the lease, in hex, of etcdctl's fields.
func leaseOf(t *testing.T, fields string) string {
	t.Helper()
	_, rest, ok := strings.Cut(fields, `"Lease" : `)
	var id int64
	if _, err := fmt.Sscan(rest, &id); !ok || err != nil {
		t.Fatalf("no lease in\n%s", fields)
	}
	return fmt.Sprintf("%016x", id)
}
