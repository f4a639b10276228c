package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// run is entries from one index to another, of one term.
type run struct{ from, to, term uint64 }

// value is what the entry at an index holds.
func value(index, term uint64) string { return fmt.Sprintf("%d@%d", index, term) }

// values are what committed runs leave in the state machine. Entry 1 is the
// configuration.
func values(runs ...run) (all []string) {
	for _, r := range runs {
		for i := r.from; i <= r.to; i++ {
			all = append(all, value(i, r.term))
		}
	}
	return all
}

// send sends entries of any terms behind an index, as a leader of fakeTerm.
func (f *fakeLeader) send(prev, prevTerm, commit uint64, runs ...run) bool {
	req := &raft.AppendEntriesRequest{
		RPCHeader: f.header(), Term: fakeTerm, PrevLogEntry: prev, PrevLogTerm: prevTerm, LeaderCommitIndex: commit,
	}
	for _, r := range runs {
		for i := r.from; i <= r.to; i++ {
			req.Entries = append(req.Entries, &raft.Log{Index: i, Term: r.term, Type: raft.LogCommand, Data: []byte(value(i, r.term))})
		}
	}
	var resp raft.AppendEntriesResponse
	return f.trans.AppendEntries("10", "10", req, &resp) == nil && resp.Success
}

// installAt sends a snapshot that ends at an entry.
func (f *fakeLeader) installAt(index, term uint64, state []string) error {
	manifest, err := json.Marshal(state)
	if err != nil {
		return err
	}
	members := raft.Configuration{}
	for _, id := range []raft.ServerID{"10", "20", "30"} {
		members.Servers = append(members.Servers, raft.Server{ID: id, Address: raft.ServerAddress(id)})
	}
	req := &raft.InstallSnapshotRequest{
		RPCHeader: f.header(), SnapshotVersion: raft.SnapshotVersionMax, Term: fakeTerm, Leader: []byte("20"), LastLogIndex: index,
		LastLogTerm: term, Configuration: raft.EncodeConfiguration(members), ConfigurationIndex: 1, Size: int64(len(manifest)),
	}
	var resp raft.InstallSnapshotResponse
	if err := f.trans.InstallSnapshot("10", "10", req, &resp, strings.NewReader(string(manifest))); err != nil {
		return err
	}
	if !resp.Success {
		return errors.New("not installed")
	}
	return nil
}

// follower is replica 10, on a disk that survives it, with a leader that is made up.
type follower struct {
	t      *testing.T
	h      *hosts
	mem    *vfs.Mem
	leader *fakeLeader
	host   *Host
	g      *Group
	list   *list
}

func startFollower(t *testing.T) *follower {
	t.Helper()
	f := &follower{t: t, h: startHosts(t, StoreWAL, 0), mem: vfs.NewMem()}
	f.h.start(2)
	trans, err := f.h.up[2].net.Group(20)
	if err != nil {
		t.Fatal(err)
	}
	f.leader = &fakeLeader{t: t, trans: trans}
	if err := errors.Join(f.mem.MkdirAll("/data"), f.mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	f.open()
	t.Cleanup(func() { _ = f.host.Close() })
	return f
}

func (f *follower) open() {
	f.t.Helper()
	var err error
	if f.host, f.g, f.list, err = f.h.openOn(f.mem); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) restart() {
	f.t.Helper()
	if err := f.host.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

// takes waits until the follower accepts an append.
func (f *follower) takes(what string, prev, prevTerm, commit uint64, runs ...run) {
	f.t.Helper()
	eventually(f.t, what, func() bool { return f.leader.send(prev, prevTerm, commit, runs...) })
}

// applies waits for a state, and checks that raft's idea of the log is the store's.
func (f *follower) applies(want []string) {
	f.t.Helper()
	eventually(f.t, "the entries to be applied", func() bool { return slices.Equal(f.list.snapshot(), want) })
	last, err := f.g.store.LastIndex()
	if err != nil {
		f.t.Fatal(err)
	}
	if got := f.g.raft.LastIndex(); got != last {
		f.t.Errorf("raft's last index is %d, the log's %d", got, last)
	}
	first, err := f.g.store.FirstIndex()
	if err != nil {
		f.t.Fatal(err)
	}
	var before uint64
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := f.g.store.GetLog(i, &l); err != nil || l.Term < before {
			f.t.Errorf("entry %d: %v, term %d after %d", i, err, l.Term, before)
		}
		before = l.Term
	}
}

// withoutScreen lets raft see all that the leader sends.
func (f *follower) withoutScreen() { f.g.trans.SetScreen(func(any) any { return nil }) }

// TestSnapshotIntoLog: a leader that does not know what a follower has sends it a
// snapshot that ends within the follower's log. Raft alone would reject whatever
// follows it for ever, and claim entries that are gone when it stands for election.
func TestSnapshotIntoLog(t *testing.T) {
	for _, screened := range []bool{true, false} {
		for _, test := range []struct {
			name string
			has  run // the follower's, not committed
			keep bool
		}{
			{"same history", run{2, 40, 5}, true},
			{"another history", run{2, 40, 3}, false},
			{"another history that is shorter", run{2, 15, 3}, false},
			{"its end alone", run{2, 20, 5}, true},
			{"shorter", run{2, 15, 5}, false},
			{"one entry more", run{2, 21, 3}, false},
		} {
			t.Run(fmt.Sprintf("%s/screened=%t", test.name, screened), func(t *testing.T) {
				f := startFollower(t)
				f.takes("entries", 1, 1, 1, test.has)
				if !screened {
					f.withoutScreen()
				}
				state := values(run{2, 20, 5})
				eventually(t, "the snapshot", func() bool { return f.leader.installAt(20, 5, state) == nil })
				if last, err := f.g.store.LastIndex(); err != nil || test.keep && last != test.has.to {
					t.Errorf("the follower has entries up to %d now, %v; it had %d", last, err, test.has.to)
				}
				f.takes("an entry behind the snapshot", 20, 5, 21, run{21, 21, 5})
				f.applies(values(run{2, 21, 5}))
				f.restart()
				if !screened {
					f.withoutScreen()
				}
				f.takes("entries after a restart", 21, 5, 23, run{22, 23, fakeTerm})
				f.applies(values(run{2, 21, 5}, run{22, 23, fakeTerm}))
			})
		}
	}
}

// TestLeaderBehind: a leader goes back to what a follower's own snapshot covers.
// It is told what the follower has, and nothing is taken back.
func TestLeaderBehind(t *testing.T) {
	f := startFollower(t)
	f.takes("entries", 1, 1, 30, run{2, 40, 5})
	eventually(t, "30 entries to be applied", func() bool { return len(f.list.snapshot()) == 29 })
	if err := f.g.raft.ReloadConfig(raft.ReloadableConfig{TrailingLogs: 1, SnapshotInterval: raft.DefaultConfig().SnapshotInterval,
		SnapshotThreshold: 1 << 60, HeartbeatTimeout: f.host.cfg.HeartbeatTimeout, ElectionTimeout: f.host.cfg.ElectionTimeout}); err != nil {
		t.Fatal(err)
	}
	if err := f.g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first, err := f.g.store.FirstIndex(); err != nil || first != 31 {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	for _, prev := range []uint64{10, 29, 30} {
		f.takes(fmt.Sprint("entries behind ", prev), prev, 5, 30, run{prev + 1, 40, 5})
		f.takes(fmt.Sprint("nothing behind ", prev), prev, 5, 30)
		f.takes(fmt.Sprint("covered entries behind ", prev), prev, 5, 30, run{prev + 1, min(prev+3, 30), 5})
	}
	f.takes("all entries", 0, 0, 30, run{1, 40, 5})
	eventually(t, "an older snapshot", func() bool { return f.leader.installAt(20, 5, values(run{2, 20, 5})) == nil })
	eventually(t, "a snapshot that ends in the log", func() bool { return f.leader.installAt(35, 5, values(run{2, 35, 5})) == nil })
	if got := len(f.list.snapshot()); got != 29 {
		t.Errorf("%d entries are applied now, 29 were", got)
	}
	f.takes("a new entry", 40, 5, 41, run{41, 41, fakeTerm})
	f.applies(values(run{2, 40, 5}, run{41, 41, fakeTerm}))
}
