//go:build system

package system

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// TestEtcdSlow holds every answer of etcd back for one to three seconds, as an
// overloaded or far one does.
func TestEtcdSlow(t *testing.T) {
	t.Parallel()
	var slow *testetcd.Slow
	x := newTrouble(t, startPlain(t, 3, plainEtcd{ttl: 10 * time.Second, node: func(url string) []string {
		slow = testetcd.NewSlow(t, url)
		return []string{"--etcd-endpoints", slow.URL()}
	}}))
	before := x.placement()
	slow.Delay(time.Second, 3*time.Second)
	x.endures(30 * time.Second)
	x.changes(1, "meanwhile")
	slow.Delay(0, 0)
	x.mended("after")
	if after := x.placement(); after != before && !strings.Contains(after, before) {
		t.Errorf("something was moved:\n%s\nwas\n%s", after, before)
	}
	x.quiet(12)
	x.finish()
}

// TestEtcdWithoutLeader stops two of three members, first so that they still
// accept connections, then for good.
func TestEtcdWithoutLeader(t *testing.T) {
	t.Parallel()
	x := newTrouble(t, startCluster(t, 3, sessionTTL(t)))
	for _, how := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		x.begin()
		for _, p := range x.etcds[:2] {
			p.signal(how)
		}
		x.hasLogged("etcd is away")
		x.endures(4 * x.ttl)
		x.changes(1, "meanwhile-"+how.String()[:4])
		x.changes(2, "meanwhile-"+how.String()[:4])
		for _, p := range x.etcds[:2] {
			if how == syscall.SIGSTOP {
				p.signal(syscall.SIGCONT)
			} else {
				<-p.done
				p.start()
			}
		}
		waitFor(t, "a winner", 60*time.Second, func() bool { return x.winnerOrNone() > 0 })
		x.hasLogged("etcd is back")
		x.mended("after-" + how.String()[:4])
		x.quiet(8)
	}
	x.finish()
}

// TestEtcdOutOfSpace fills etcd's quota with a foreign key, and then does what
// etcd's manual says.
func TestEtcdOutOfSpace(t *testing.T) {
	t.Parallel()
	x := newTrouble(t, startPlain(t, 3, plainEtcd{etcd: []string{"--quota-backend-bytes", "8388608"}}))
	junk := make([]byte, 1<<20)
	if _, err := rand.Read(junk); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "etcd to be full", 60*time.Second, func() bool {
		return strings.Contains(x.tryEtcdctl(string(junk), "put", "/foreign"), "database space exceeded")
	})
	x.begin()
	x.endures(3 * x.ttl)
	x.changes(1, "meanwhile")
	// Nodes that lose their lease now can't take another one.
	x.etcdctl("lease", "revoke", leaseOf(t, x.etcdctl("get", "/raftsman/default/nodes/2", "-w", "fields")))
	x.endures(2 * x.ttl)
	x.changes(2, "meanwhile")
	x.node(3).kill() // and one that starts does not either
	x.node(3).start()
	x.waitReady(3)
	x.endures(2 * x.ttl)

	x.etcdctl("del", "/foreign")
	revision := ""
	for line := range strings.SplitSeq(x.etcdctl("get", "/raftsman/default/meta", "-w", "fields"), "\n") {
		if rest, ok := strings.CutPrefix(line, `"Revision" : `); ok {
			revision = rest
		}
	}
	x.etcdctl("compact", revision)
	x.etcdctl("defrag")
	x.etcdctl("alarm", "disarm")
	x.mended("after")
	waitFor(t, "all nodes to be registered", 60*time.Second, func() bool {
		return strings.Count(x.etcdctl("get", "--prefix", "--keys-only", "/raftsman/default/nodes/"), "/nodes/") == 3
	})
	x.marks[2] = 0
	x.quiet(8)
	x.finish()
}

// tryEtcdctl runs etcdctl and returns what it says, also when it fails.
func (c *cluster) tryEtcdctl(stdin string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t, "etcdctl"), append([]string{"--endpoints", strings.Join(c.etcdURL, ",")}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	cmd.Stdin = strings.NewReader(stdin)
	out, _ := cmd.CombinedOutput() // what went wrong is in there
	return string(out)
}
