package replication

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/raftnet"
	"github.com/raftsman/raftsman/internal/vfs"
)

// openOn opens node 1, which never stands for election by itself, with its stores on a disk that can crash, and its replica 10.
func (h *hosts) openOn(mem *vfs.Mem) (*Host, *Group, *list, error) {
	addr, ok := h.PeerAddr(1)
	if !ok {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, nil, err
	}
	h.mu.Lock()
	h.addrs[1] = ln.Addr().String()
	h.mu.Unlock()
	host, err := Open(Config{
		Dir: "/data", ClusterID: "test", NodeID: 1, Incarnation: "i1", Store: StoreWAL, Listener: ln, Resolver: h, FS: mem,
		WALFileSize: 1 << 20, WALSizeLimit: 8 << 20, HeartbeatTimeout: time.Minute, Logger: testLogger().With("node", 1),
	})
	if err != nil {
		return nil, nil, nil, err
	}
	if err := host.Start(); err != nil {
		return nil, nil, nil, errors.Join(err, host.Close())
	}
	l := &list{}
	g, err := host.OpenGroup(GroupConfig{Replica: 10, Name: "list", Initial: []uint64{20, 10, 30}, StateMachine: l})
	if err != nil {
		return nil, nil, nil, errors.Join(err, host.Close())
	}
	return host, g, l, nil
}

// fakeLeader speaks as replica 20 to replica 10.
type fakeLeader struct {
	t     *testing.T
	trans *raftnet.Transport
}

const fakeTerm = 7

func (f *fakeLeader) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("20"), Addr: []byte("20")}
}

// append sends values as the entries behind an index.
func (f *fakeLeader) append(prev, prevTerm uint64, values ...string) bool {
	req := &raft.AppendEntriesRequest{RPCHeader: f.header(), Term: fakeTerm, PrevLogEntry: prev, PrevLogTerm: prevTerm}
	for i, v := range values {
		req.Entries = append(req.Entries, &raft.Log{Index: prev + 1 + uint64(i), Term: fakeTerm, Type: raft.LogCommand, Data: []byte(v)})
	}
	req.LeaderCommitIndex = prev + uint64(len(values))
	var resp raft.AppendEntriesResponse
	return f.trans.AppendEntries("10", "10", req, &resp) == nil && resp.Success
}

const fakeIndex = 100 // of the snapshot

func (f *fakeLeader) install(values []string) error { return f.installAt(fakeIndex, fakeTerm, values) }

// TestInstallCrashes loses power at every write and sync of the installation of
// a leader's snapshot. The replica always opens again, takes the snapshot, and
// what is appended behind it.
func TestInstallCrashes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(testSeed(t), 3))
	h := startHosts(t, StoreWAL, 0)
	h.start(2)
	trans, err := h.up[2].net.Group(20)
	if err != nil {
		t.Fatal(err)
	}
	leader := &fakeLeader{t: t, trans: trans}
	installed := numbers(0, 99)
	crashes, again := 0, 0
	for n, calm := int64(1), 0; calm < 12; n++ {
		if calm > 0 && n > 12 {
			n = 1 // again, with another part of what was not synced
		}
		mem := vfs.NewMem()
		if err := errors.Join(mem.MkdirAll("/data"), mem.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		host, _, _, err := h.openOn(mem)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "entries at the follower", func() bool { return leader.append(1, 1, numbers(1000, 1020)...) })
		mem.ArmCrash(n)
		// The first tries may meet the connection to the process before.
		eventually(t, "the installation or the crash", func() bool { return leader.install(installed) == nil || mem.Crashed() })
		if !mem.Crashed() {
			calm++
			crashes--
			mem.ArmCrash(1) // whatever Close would still write is lost
		}
		crashes++
		_ = host.Close() // its disk is gone
		var r *rand.Rand
		if n%2 == 0 {
			r = rnd
		}
		mem.Crash(r)

		host, g, l, err := h.openOn(mem)
		if err != nil {
			t.Fatalf("crash at op %d: %v", n, err)
		}
		have, err := g.snapshots.List()
		if err != nil {
			t.Fatal(err)
		}
		if len(have) == 0 { // else the leader has no reason to send it again
			again++
			eventually(t, "the snapshot, sent again", func() bool { return leader.install(installed) == nil })
		}
		// An answer may be lost with the connection to the process before: the
		// entry counts if it is there.
		eventually(t, "an entry behind the snapshot", func() bool {
			return g.raft.LastIndex() == fakeIndex+1 || leader.append(fakeIndex, fakeTerm, "after")
		})
		want := append(slices.Clone(installed), "after")
		eventually(t, "the entry to be applied", func() bool {
			leader.append(fakeIndex+1, fakeTerm) // tells the commit index
			return slices.Equal(l.snapshot(), want)
		})
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d crashes during the installation, %d of them before the snapshot was durable", crashes, again)
}
