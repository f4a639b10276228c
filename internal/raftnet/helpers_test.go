package raftnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/identity"
)

// directory is a Resolver: replica 1203 is group 12 on node 3.
type directory struct {
	mu    sync.Mutex
	addrs map[int32]string
}

func (d *directory) NodeOf(replica uint64) (int32, bool) { return int32(replica % 100), true }

func (d *directory) PeerAddr(node int32) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.addrs[node]
	return a, ok
}

func (d *directory) Peers() []int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []int32
	for n := range d.addrs {
		all = append(all, n)
	}
	return all
}

func (d *directory) set(node int32, addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs[node] = addr
}

func (d *directory) remove(node int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.addrs, node)
}

func replica(group int, node int32) uint64 { return uint64(group*100) + uint64(node) }

func serverOf(r uint64) (raft.ServerID, raft.ServerAddress) {
	s := strconv.FormatUint(r, 10)
	return raft.ServerID(s), raft.ServerAddress(s)
}

// newDirectory also checks, when the test ends, that no goroutine is left.
func newDirectory(t testing.TB) *directory {
	t.Helper()
	t.Cleanup(func() {
		var left []string
		if !poll(5*time.Second, func() bool { left = ours(); return len(left) == 0 }) {
			t.Errorf("%d goroutines are left, the first:\n%s", len(left), left[0])
		}
	})
	return &directory{addrs: make(map[int32]string)}
}

// ours returns the goroutines that this package has started.
func ours() []string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var all []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && strings.Contains(g, "created by github.com/raftsman/raftsman/internal/raftnet.") && !strings.Contains(g, "testing.") {
			all = append(all, g)
		}
	}
	return all
}

func identityOf(node int32) identity.Identity {
	return identity.Identity{ClusterID: "c1", NodeID: node, Incarnation: fmt.Sprintf("i%d", node)}
}

// openNode opens a node at its address in the directory, or at a new one. It
// is not started.
func openNode(t testing.TB, d *directory, node int32, change func(*Options)) *Net {
	t.Helper()
	addr, ok := d.PeerAddr(node)
	if !ok {
		addr = "127.0.0.1:0"
	}
	var l net.Listener
	waitFor(t, "listen on "+addr, func() bool {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	d.set(node, l.Addr().String())
	o := Options{Identity: identityOf(node), Listener: l, Resolver: d, PingInterval: 50 * time.Millisecond, PingTimeout: 500 * time.Millisecond}
	if os.Getenv("RAFTNET_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", node)
	}
	if change != nil {
		change(&o)
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func startNode(t testing.TB, d *directory, node int32, change func(*Options)) *Net {
	t.Helper()
	n := openNode(t, d, node, change)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	return n
}

func openGroup(t testing.TB, n *Net, r uint64) *Transport {
	t.Helper()
	tr, err := n.Group(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// pair starts nodes 1 and 2, each with a replica of group 1, and waits until
// they see each other.
func pair(t testing.TB, change func(*Options)) (d *directory, a, b *Net, ta, tb *Transport) {
	t.Helper()
	d = newDirectory(t)
	a, b = startNode(t, d, 1, change), startNode(t, d, 2, change)
	a.Refresh()
	ta, tb = openGroup(t, a, replica(1, 1)), openGroup(t, b, replica(1, 2))
	waitUp(t, a, 2)
	waitUp(t, b, 1)
	return d, a, b, ta, tb
}

func waitUp(t testing.TB, n *Net, node int32) {
	t.Helper()
	waitFor(t, fmt.Sprintf("node %d up", node), func() bool { return n.Alive(node) })
}

func poll(most time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(most)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !poll(10*time.Second, ok) {
		buf := make([]byte, 1<<20)
		t.Fatalf("not in time: %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// within fails the test if f does not return in time.
func within(t testing.TB, most time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(most):
		buf := make([]byte, 1<<20)
		t.Fatalf("not within %s: %s\n%s", most, what, buf[:runtime.Stack(buf, true)])
	}
}

// respond answers a transport's RPCs as a follower that agrees to everything,
// until the transport is closed; see is told each command first and may be nil.
func respond(t testing.TB, tr *Transport, see func(cmd any)) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case rpc := <-tr.Consumer():
				if see != nil {
					see(rpc.Command)
				}
				rpc.Respond(agree(rpc))
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); wg.Wait() })
}

func agree(rpc raft.RPC) (any, error) {
	switch r := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		return &raft.AppendEntriesResponse{Term: r.Term, LastLog: r.PrevLogEntry + uint64(len(r.Entries)), Success: true}, nil
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{Term: r.Term, Granted: true}, nil
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{Term: r.Term, Granted: true}, nil
	case *raft.TimeoutNowRequest:
		return &raft.TimeoutNowResponse{}, nil
	case *raft.InstallSnapshotRequest:
		_, err := io.Copy(io.Discard, rpc.Reader)
		return &raft.InstallSnapshotResponse{Term: r.Term, Success: true}, err
	}
	return nil, errors.New("unexpected command")
}

// entries makes an append of count entries of size bytes each after prev.
func entries(prev uint64, count, size int) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3}, Term: 7, PrevLogEntry: prev, PrevLogTerm: 7, LeaderCommitIndex: prev}
	for i := range count {
		data := bytes.Repeat([]byte{byte(prev)}, size)
		r.Entries = append(r.Entries, &raft.Log{Index: prev + 1 + uint64(i), Term: 7, Data: data, Extensions: []byte("ext"), AppendedAt: time.Unix(1, 2)})
	}
	return r
}

// cutter is a Dial whose connections can be broken, silenced or forbidden.
type cutter struct {
	mu     sync.Mutex
	conns  map[*cutConn]struct{}
	refuse atomic.Bool
	mute   atomic.Bool // writes are swallowed, reads get nothing
}

type cutConn struct {
	net.Conn
	c *cutter
}

func (c *cutter) dial(ctx context.Context, addr string) (net.Conn, error) {
	if c.refuse.Load() {
		return nil, errors.New("dial is forbidden")
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	cc := &cutConn{nc, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		c.conns = make(map[*cutConn]struct{})
	}
	c.conns[cc] = struct{}{}
	return cc, nil
}

func (c *cutConn) Close() error {
	c.c.mu.Lock()
	delete(c.c.conns, c)
	c.c.mu.Unlock()
	return c.Conn.Close()
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.c.mute.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *cutter) cut() {
	c.mu.Lock()
	var all []*cutConn
	for cc := range c.conns {
		all = append(all, cc)
	}
	c.mu.Unlock()
	for _, cc := range all {
		cc.Conn.Close()
	}
}

// machine is a state machine that counts and adds up.
type machine struct {
	mu      sync.Mutex
	applied int
	sum     uint64
}

func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied++
	for _, b := range l.Data {
		m.sum = m.sum*31 + uint64(b)
	}
	return nil
}

func (m *machine) state() (int, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, m.sum
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	n, sum := m.state()
	return &machineSnapshot{fmt.Sprintf("%d %d", n, sum)}, nil
}

func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := fmt.Fscan(r, &m.applied, &m.sum)
	return err
}

type machineSnapshot struct{ s string }

func (s *machineSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := io.WriteString(sink, s.s); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s *machineSnapshot) Release() {}

// member is one replica with stores that outlive restarts.
type member struct {
	id    uint64
	store *raft.InmemStore
	snaps *raft.InmemSnapshotStore
	fsm   *machine
	trans *Transport
	raft  *raft.Raft
}

func newMember(id uint64) *member {
	return &member{id: id, store: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore()}
}

func (m *member) start(t testing.TB, n *Net, heartbeat time.Duration, bootstrap []uint64) {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID, _ = serverOf(m.id)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = heartbeat, heartbeat, heartbeat
	c.CommitTimeout = 10 * time.Millisecond
	c.MaxAppendEntries = 512
	c.NoLegacyTelemetry = true
	c.TrailingLogs = 10
	c.Logger = hclog.NewNullLogger()
	if os.Getenv("RAFT_LOG") != "" {
		c.Logger = hclog.New(&hclog.LoggerOptions{Name: fmt.Sprint(m.id), Level: hclog.Debug})
	}
	var err error
	if m.trans, err = n.Group(m.id); err != nil {
		t.Fatal(err)
	}
	m.fsm = &machine{}
	if bootstrap != nil {
		var conf raft.Configuration
		for _, r := range bootstrap {
			id, addr := serverOf(r)
			conf.Servers = append(conf.Servers, raft.Server{ID: id, Address: addr})
		}
		if err := raft.BootstrapCluster(c, m.store, m.store, m.snaps, m.trans, conf); err != nil {
			t.Fatal(err)
		}
	}
	if m.raft, err = raft.NewRaft(c, m.fsm, m.store, m.store, m.snaps, m.trans); err != nil {
		t.Fatal(err)
	}
}

func (m *member) stop(t testing.TB) {
	t.Helper()
	if m.raft == nil {
		return
	}
	r := m.raft
	m.raft = nil
	m.trans.Interrupt()
	f := r.Shutdown()
	m.trans.Close()
	within(t, 10*time.Second, fmt.Sprintf("shutdown of raft %d", m.id), func() { f.Error() })
}

func leaderOf(members []*member) *member {
	for _, m := range members {
		if m.raft != nil && m.raft.State() == raft.Leader {
			return m
		}
	}
	return nil
}
