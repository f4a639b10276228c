package replication

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// list is a state machine: the entries that it was given.
type list struct {
	mu      sync.Mutex
	values  []string
	reached [2]int64
}

func (l *list) ApplyBatch(entries []*raft.Log) []any {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]any, len(entries))
	for i, e := range entries {
		if e.Type != raft.LogCommand {
			continue
		}
		if len(e.Extensions) > 0 {
			_ = json.Unmarshal(e.Extensions, &l.reached)
			continue
		}
		l.values = append(l.values, string(e.Data))
		out[i] = len(l.values)
	}
	return out
}

func (l *list) Snapshot() (raft.FSMSnapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := json.Marshal(l.values)
	return listSnapshot(b), err
}

type listSnapshot []byte

func (s listSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return err
	}
	return sink.Close()
}
func (listSnapshot) Release() {}

func (l *list) Restore(r io.ReadCloser) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values = nil
	return json.NewDecoder(r).Decode(&l.values)
}

func (l *list) Reached() (int64, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached[0], l.reached[1]
}

func (l *list) EncodeReached(epoch, generation int64) ([]byte, []byte) {
	ext, _ := json.Marshal([2]int64{epoch, generation})
	return nil, ext
}

func (l *list) snapshot() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.values)
}

// hosts is a cluster of hosts. Replica ids are 10 times the node id.
type hosts struct {
	t     *testing.T
	store string
	dir   string
	mu    sync.Mutex
	addrs map[int32]string
	up    map[int32]*Host
	lists map[int32]*list
	group map[int32]*Group
}

func (h *hosts) NodeOf(replica uint64) (int32, bool) { return int32(replica / 10), true }
func (h *hosts) PeerAddr(node int32) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.addrs[node]
	return a, ok
}
func (h *hosts) Peers() []int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []int32
	for id := range h.addrs {
		ids = append(ids, id)
	}
	return ids
}

func startHosts(t *testing.T, store string, n int32) *hosts {
	h := &hosts{t: t, store: store, dir: t.TempDir(), addrs: make(map[int32]string), up: make(map[int32]*Host), lists: make(map[int32]*list), group: make(map[int32]*Group)}
	t.Cleanup(func() {
		for id := range h.up {
			h.stop(id)
		}
	})
	for id := int32(1); id <= n; id++ {
		h.start(id)
	}
	return h
}

func testLogger() *slog.Logger {
	if os.Getenv("RAFTSMAN_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (h *hosts) start(id int32) {
	h.t.Helper()
	addr, ok := h.PeerAddr(id)
	if !ok {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	h.addrs[id] = ln.Addr().String()
	h.mu.Unlock()
	host, err := Open(Config{
		Dir: filepath.Join(h.dir, fmt.Sprint(id)), ClusterID: "test", NodeID: id, Incarnation: fmt.Sprint("i", id),
		Store: h.store, Listener: ln, Resolver: h, Logger: testLogger().With("node", id),
		// Raft's own timers do nothing while a test runs: what they do is done per node.
		HeartbeatTimeout: time.Hour, CommitTimeout: time.Hour, LeaderLease: 300 * time.Millisecond,
		SnapshotBytes: 1 << 20, TrailingBytes: 1 << 18, WALFileSize: 4 << 20, WALSizeLimit: 32 << 20,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.up[id] = host
}

// open opens a node's replica; initial are nodes.
func (h *hosts) open(id int32, initial ...int32) {
	h.t.Helper()
	l := &list{}
	var replicas []uint64
	for _, n := range initial {
		replicas = append(replicas, uint64(n)*10)
	}
	g, err := h.up[id].OpenGroup(GroupConfig{Replica: uint64(id) * 10, Name: "list", Initial: replicas, StateMachine: l, Membership: l})
	if err != nil {
		h.t.Fatal(err)
	}
	h.lists[id], h.group[id] = l, g
}

func (h *hosts) stop(id int32) {
	h.t.Helper()
	if err := h.up[id].Close(); err != nil {
		h.t.Errorf("close host %d: %v", id, err)
	}
	delete(h.up, id)
	delete(h.group, id)
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("no %s within 30 s", what)
		case <-poll.C:
		}
	}
}

func (h *hosts) leader() (id int32) {
	h.t.Helper()
	eventually(h.t, "leader", func() bool {
		for n, g := range h.group {
			if g.Status().Leading {
				id = n
				return true
			}
		}
		return false
	})
	return id
}

// propose puts values in through whoever leads.
func (h *hosts) propose(values ...string) {
	h.t.Helper()
	for _, v := range values {
		eventually(h.t, "commit of "+v[:min(len(v), 10)], func() bool {
			return h.group[h.leader()].Propose([]byte(v), nil).Error() == nil
		})
	}
}

func (h *hosts) wantAll(want []string) {
	h.t.Helper()
	for id := range h.group {
		eventually(h.t, fmt.Sprintf("agreement of node %d", id), func() bool {
			// A proposal whose leader was lost may have been committed, and was repeated.
			return slices.Equal(slices.Compact(h.lists[id].snapshot()), want)
		})
	}
}

func numbers(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func eachStore(t *testing.T, fn func(t *testing.T, store string)) {
	for _, store := range []string{StoreWAL, StoreBoltDB} {
		t.Run(store, func(t *testing.T) { fn(t, store) })
	}
}

func TestReplicateAndRestart(t *testing.T) {
	eachStore(t, func(t *testing.T, store string) {
		h := startHosts(t, store, 3)
		for id := int32(1); id <= 3; id++ {
			h.open(id, 1, 2, 3)
		}
		h.propose(numbers(0, 50)...)
		h.wantAll(numbers(0, 50))
		for id := int32(1); id <= 3; id++ {
			h.stop(id)
		}
		for id := int32(1); id <= 3; id++ {
			h.start(id)
			h.open(id, 1, 2, 3)
		}
		h.propose(numbers(50, 60)...)
		h.wantAll(numbers(0, 60))
	})
}

// TestLostNode stops the leader's node: another one leads long before raft's
// own timers would have it.
func TestLostNode(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	for id := int32(1); id <= 3; id++ {
		h.open(id, 1, 2, 3)
	}
	total := 0
	for range 3 {
		h.propose(numbers(total, total+10)...)
		total += 10
		h.wantAll(numbers(0, total))
		old := h.leader()
		h.stop(old)
		began := time.Now()
		h.leader()
		t.Logf("led again after %v", time.Since(began).Round(time.Millisecond))
		h.propose(numbers(total, total+1)...)
		total++
		h.start(old)
		h.open(old, 1, 2, 3)
	}
	h.wantAll(numbers(0, total))
}

func TestMoveMembership(t *testing.T) {
	h := startHosts(t, StoreWAL, 4)
	for id := int32(1); id <= 3; id++ {
		h.open(id, 1, 2, 3)
	}
	h.propose(numbers(0, 20)...)
	h.open(4)
	for _, g := range h.group {
		g.SetTarget(Target{Epoch: 1, Generation: 2, Replicas: []uint64{20, 30, 40}})
	}
	eventually(t, "the new membership", func() bool {
		_, generation := h.lists[4].Reached()
		return generation == 2
	})
	voters, learners := h.group[4].Members()
	slices.Sort(voters)
	if !slices.Equal(voters, []uint64{20, 30, 40}) || len(learners) > 0 {
		t.Fatalf("voters %v, learners %v", voters, learners)
	}
	h.stop(1)
	h.propose(numbers(20, 30)...)
	h.wantAll(numbers(0, 30))
	// An older target changes nothing.
	for _, g := range h.group {
		g.SetTarget(Target{Epoch: 1, Generation: 1, Replicas: []uint64{10, 20, 30}})
	}
	h.propose(numbers(30, 35)...)
	voters, _ = h.group[h.leader()].Members()
	slices.Sort(voters)
	if !slices.Equal(voters, []uint64{20, 30, 40}) {
		t.Fatalf("an older target led to voters %v", voters)
	}
}

// TestSnapshotForAFollower lets a follower fall behind what the log holds.
func TestSnapshotForAFollower(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	for id := int32(1); id <= 3; id++ {
		h.open(id, 1, 2, 3)
	}
	h.propose(numbers(0, 10)...)
	h.wantAll(numbers(0, 10))
	var away int32
	for id := range h.group {
		if id != h.leader() {
			away = id
		}
	}
	h.stop(away)
	want := numbers(0, 10)
	for i := range 80 {
		v := fmt.Sprintf("%d %s", i, strings.Repeat("x", 64<<10))
		h.propose(v)
		want = append(want, v)
	}
	leader := h.group[h.leader()]
	eventually(t, "release of the log", func() bool {
		first, err := leader.store.FirstIndex()
		return err == nil && first > 20
	})
	h.start(away)
	h.open(away, 1, 2, 3)
	h.wantAll(want)
}

func TestLostManifestIsNoticed(t *testing.T) {
	h := startHosts(t, StoreWAL, 1)
	h.open(1, 1)
	h.propose(numbers(0, 10)...)
	if err := h.group[1].Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := h.up[1].manifests.Drop(10); err != nil {
		t.Fatal(err)
	}
	h.stop(1)
	h.start(1)
	if _, err := h.up[1].OpenGroup(GroupConfig{Replica: 10, Name: "list", Initial: []uint64{10}, StateMachine: &list{}}); err == nil {
		t.Fatal("a replica whose manifest is lost was opened")
	}
}
