package member

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/internal/vfs"
)

// one is a node's membership in a test.
type one struct {
	*Membership
	cfg  Config
	stop func() error // ends Run, and returns what it said
	wait func() error // waits until it has ended by itself

	leave atomic.Bool            // what Config.Retired says
	gone  atomic.Pointer[string] // of these
}

// newOne has ports of its own on loopback.
func newOne(t *testing.T, dir string) *one {
	t.Helper()
	var ports [2]int
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	o := &one{cfg: Config{FS: vfs.OS, DataDir: dir, Cluster: "default", Prefix: "/raftsman", ClientPort: ports[0], PeerPort: ports[1]}}
	o.cfg.Retired = func() (bool, []string) {
		if name := o.gone.Load(); name != nil {
			return o.leave.Load(), []string{*name}
		}
		return o.leave.Load(), nil
	}
	o.open(t)
	t.Cleanup(func() { o.close(t) })
	return o
}

func (o *one) open(t *testing.T) {
	t.Helper()
	var err error
	if o.Membership, err = Open(o.cfg); err != nil {
		t.Fatal(err)
	}
	o.Listen("127.0.0.1")
}

// run keeps it up until close, or stop.
func (o *one) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg  sync.WaitGroup
		err error
	)
	wg.Go(func() { err = o.Run(ctx) })
	o.wait = func() error { wg.Wait(); return err }
	o.stop = func() error { cancel(); return o.wait() }
}

func (o *one) close(t *testing.T) {
	t.Helper()
	if o.Membership == nil {
		return
	}
	if o.stop != nil {
		if err := o.stop(); err != nil {
			t.Error(err)
		}
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	o.Membership, o.stop = nil, nil
}

// first makes a cluster of one.
func first(t *testing.T) *one {
	t.Helper()
	o := newOne(t, t.TempDir())
	if err := o.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.Membership.Open(); err != nil {
		t.Fatal(err)
	}
	o.run(t)
	return o
}

// join joins the cluster of another.
func (o *one) join(t *testing.T, to *one) {
	t.Helper()
	r, _ := to.Record()
	if err := o.Joined("c1", true, r.Endpoints); err != nil {
		t.Fatal(err)
	}
	o.run(t)
}

// voters asks a member's etcd how many members have a vote, and how many there are.
func (o *one) members(t *testing.T) (haveVote, all int) {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{o.clientURLText()}, DialTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return 0, 0
	}
	return voters(list.Members), len(list.Members)
}

func (o *one) clientURLText() string {
	u := o.clientURL()
	return u.String()
}

// TestTheNextTwoExtendEtcd: the fourth is a client; a member is restarted from its
// data; one whose data is gone is replaced; one that was removed says so.
func TestTheNextTwoExtendEtcd(t *testing.T) {
	a := first(t)
	nodes := []*one{a}
	for range 3 {
		o := newOne(t, t.TempDir())
		o.join(t, a)
		nodes = append(nodes, o)
	}
	three := func() bool { v, all := a.members(t); return v == 3 && all == 3 }
	testetcd.Eventually(t, "three members with a vote", three)
	testetcd.Eventually(t, "all to know them", func() bool {
		for _, o := range nodes {
			if r, _ := o.Record(); len(r.Endpoints) != 3 {
				return false
			}
		}
		return true
	})
	var members []*one
	clients := 0
	for _, o := range nodes {
		if r, _ := o.Record(); r.Member == "" {
			clients++
		} else {
			members = append(members, o)
		}
	}
	if clients != 1 {
		t.Fatalf("%d of four nodes are clients", clients)
	}

	// A restart goes on from what is there, whoever is there.
	last := members[2]
	before, _ := last.Record()
	last.close(t)
	last.open(t)
	if err := last.Restart(); err != nil {
		t.Fatal(err)
	}
	last.run(t)
	testetcd.Eventually(t, "the restarted one to answer", func() bool { v, _ := last.members(t); return v == 3 })
	if r, _ := last.Record(); r.Member != before.Member {
		t.Errorf("it was member %s and is %s", before.Member, r.Member)
	}

	// One is decommissioned: it leaves by itself, and the client takes its place.
	left := members[1]
	r, _ := left.Record()
	left.leave.Store(true)
	for _, o := range nodes {
		o.gone.Store(&r.Member)
	}
	testetcd.Eventually(t, "the client to take the place of the decommissioned one", func() bool {
		now, _ := left.Record()
		if now.Member != "" || left.dir.hasEtcd() {
			return false
		}
		v, all := members[0].members(t)
		list := 0
		for _, o := range nodes {
			if r, _ := o.Record(); r.Member != "" {
				list++
			}
		}
		return v == 3 && all == 3 && list == 3
	})

	// A disk was replaced: the former self is removed, and the node is added anew.
	dir := last.cfg.DataDir
	last.close(t)
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	last.open(t)
	if err := last.Restart(); err != nil {
		t.Fatal(err)
	}
	last.run(t)
	testetcd.Eventually(t, "the node to be a member again", func() bool {
		r, _ := last.Record()
		v, all := last.members(t)
		return v == 3 && all == 3 && r.Member != "" && r.Member != before.Member
	})
}

// TestDiscarded: what was made and not opened leaves nothing, and what somebody has
// written to is not removed.
func TestDiscarded(t *testing.T) {
	o := newOne(t, t.TempDir())
	if err := o.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.Membership.Open(); err != nil {
		t.Fatal(err)
	}
	if err := o.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, known := o.Record(); known {
		t.Error("there is a record left")
	}
	for _, name := range []string{"etcd", "membership.json"} {
		if _, err := os.Stat(filepath.Join(o.cfg.DataDir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if err := o.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	cli, err := o.client()
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	if _, err := cli.Put(t.Context(), "somebody", "was here"); err != nil {
		t.Fatal(err)
	}
	if err := o.Discard(); err == nil || !strings.Contains(err.Error(), "written to") {
		t.Errorf("discarded all the same: %v", err)
	}
}

// TestCrashWhileMaking: a start removes what was never open.
func TestCrashWhileMaking(t *testing.T) {
	o := newOne(t, t.TempDir())
	if err := o.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.close(t)
	o.open(t)
	if r, known := o.Record(); known || o.dir.hasEtcd() {
		t.Errorf("left: %+v", r)
	}
}

func TestRefused(t *testing.T) {
	o := first(t)
	if _, err := Open(o.cfg); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second process: %v", err)
	}
	taken := newOne(t, t.TempDir())
	taken.cfg.ClientPort = o.cfg.ClientPort
	taken.close(t)
	taken.open(t)
	if err := taken.Make(t.Context()); err == nil || !strings.Contains(err.Error(), "--etcd-client-port") {
		t.Errorf("a port that is taken: %v", err)
	}
	o.close(t)
	other := o.cfg
	other.Cluster = "another"
	if _, err := Open(other); err == nil || !strings.Contains(err.Error(), `belongs to the cluster named "default"`) {
		t.Errorf("another name: %v", err)
	}
	for _, text := range []string{"", "{", "{}", `{"state":"open","cluster":"default"}`, `{"state":"king","cluster":"default","endpoints":["x"]}`} {
		if err := os.WriteFile(filepath.Join(o.cfg.DataDir, "membership.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o.cfg); err == nil || !strings.Contains(err.Error(), "membership.json") {
			t.Errorf("record %q: %v", text, err)
		}
	}
	big := fmt.Sprintf(`{"state":"open","cluster":%q}`, strings.Repeat("x", maxRecord))
	if err := os.WriteFile(filepath.Join(o.cfg.DataDir, "membership.json"), []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o.cfg); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("a record of %d bytes: %v", len(big), err)
	}
}

// TestRemovedMemberSaysSo: a member that an operator has removed does not go on in
// silence.
func TestRemovedMemberSaysSo(t *testing.T) {
	a := first(t)
	nodes := []*one{a}
	for range 2 {
		o := newOne(t, t.TempDir())
		o.join(t, a)
		nodes = append(nodes, o)
	}
	testetcd.Eventually(t, "three members", func() bool { v, _ := a.members(t); return v == 3 })
	gone := nodes[2]
	r, _ := gone.Record()
	cli, err := a.client()
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	list, err := cli.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := find(list.Members, r.Member, "").ID
	testetcd.Eventually(t, "etcd to let go of a member", func() bool { // not before they all have been connected for 5 s
		_, err := cli.MemberRemove(t.Context(), id)
		return err == nil
	})
	if err := gone.wait(); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("it said %v", err)
	}
	gone.stop = nil
}
