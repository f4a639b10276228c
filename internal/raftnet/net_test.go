package raftnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/identity"
)

const (
	kindEcho = FirstUserKind + iota
	kindFail
	kindNote
	kindSlow
	kindNobody
)

func TestHandshakeRefusals(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		reason string
	}{
		"another cluster": {func(o *Options) { o.Identity.ClusterID = "c2" }, "this is cluster c1, not c2"},
		"same node id":    {func(o *Options) { o.Identity = identity.Identity{ClusterID: "c1", NodeID: 2, Incarnation: "other"} }, ""},
		"old incarnation": {func(o *Options) { o.Identity.Incarnation = "wiped" }, "incarnation wiped of node 1 is gone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			startNode(t, d, 2, func(o *Options) {
				o.CheckPeer = func(node int32, incarnation string) error {
					if incarnation != fmt.Sprintf("i%d", node) {
						return fmt.Errorf("incarnation %s of node %d is gone", incarnation, node)
					}
					return nil
				}
			})
			var log syncBuffer
			n := startNode(t, d, 1, func(o *Options) {
				test.change(o)
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			if test.reason == "" {
				return // the node takes itself for node 2 and dials nobody; see below
			}
			waitFor(t, "the reason", func() bool { return strings.Contains(log.String(), test.reason) })
			before := dials(n, "refused")
			waitFor(t, "more attempts", func() bool { n.Refresh(); return dials(n, "refused") > before+5 })
			if c := strings.Count(log.String(), test.reason); c != 1 {
				t.Errorf("the reason was logged %d times:\n%s", c, log.String())
			}
			if n.Alive(2) {
				t.Error("it is up")
			}
		})
	}
	t.Run("judge", func(t *testing.T) {
		h := hello{version: 1, lowest: 1, from: identityOf(2), target: 2}
		if _, reason := judge(h, identityOf(2), nil); !strings.Contains(reason, "two nodes have the same id") {
			t.Error(reason)
		}
		h = hello{version: 1, lowest: 1, from: identityOf(1), target: 3}
		if _, reason := judge(h, identityOf(2), nil); !strings.Contains(reason, "this is node 2, not node 3") {
			t.Error(reason)
		}
	})
}

func TestWrongNodeAtTheAddress(t *testing.T) {
	d := newDirectory(t)
	startNode(t, d, 2, nil)
	addr, _ := d.PeerAddr(2)
	d.set(3, addr)
	var log syncBuffer
	startNode(t, d, 1, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	waitFor(t, "the reason", func() bool { return strings.Contains(log.String(), "this is node 2, not node 3") })
}

func TestGarbageOnTheListener(t *testing.T) {
	d := newDirectory(t)
	n := startNode(t, d, 1, nil)
	addr, _ := d.PeerAddr(1)
	for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", magic + "\x00\x01\x00\x01\xff\xff", magic} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(b))
		defer c.Close()
	}
	within(t, 2*time.Second, "Close with a silent dialler", func() { n.Close() })
	n.Close()
}

func dials(n *Net, result string) float64 {
	return metricValue(n.metrics.dials.WithLabelValues(result))
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestUnknownReplica(t *testing.T) {
	_, _, _, ta, _ := pair(t, func(o *Options) { o.UnknownRetry = 100 * time.Millisecond })
	id, addr := serverOf(replica(9, 2)) // on node 2, which does not hold it
	start := time.Now()
	err := ta.RequestVote(id, addr, &raft.RequestVoteRequest{Term: 1}, &raft.RequestVoteResponse{})
	if !errors.Is(err, ErrUnknownReplica) {
		t.Errorf("vote: %v", err)
	}
	beat := make(chan error, 1) // waits for the replica until it is removed
	go func() {
		beat <- ta.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{})
	}()
	waitFor(t, "the heartbeat to wait", func() bool { ta.mu.Lock(); defer ta.mu.Unlock(); return ta.signals[replica(9, 2)] != nil })
	ta.Forget(replica(9, 2), 1)
	if err := <-beat; !errors.Is(err, ErrUnknownReplica) {
		t.Errorf("heartbeat: %v", err)
	}
	err = ta.AppendEntries(id, addr, entries(1, 1, 10), &raft.AppendEntriesResponse{})
	if !errors.Is(err, ErrUnknownReplica) {
		t.Errorf("append: %v", err)
	}
	t.Logf("refusals took %s", time.Since(start))
	p, err := ta.AppendEntriesPipeline(id, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.AppendEntries(entries(1, 1, 10), &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	f := <-p.Consumer()
	if f.Response().Success || f.Response().Term != 0 || !errors.Is(f.Error(), ErrUnknownReplica) {
		t.Errorf("%+v, %v", f.Response(), f.Error())
	}
	if err := ta.RequestVote("nonsense", addr, &raft.RequestVoteRequest{Term: 1}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrUnknownReplica) {
		t.Errorf("id that is no number: %v", err)
	}
	id, addr = serverOf(replica(1, 44))
	if err := ta.AppendEntries(id, addr, entries(1, 1, 10), &raft.AppendEntriesResponse{}); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("replica on an unknown node: %v", err)
	}
}

func TestAppendWaitsForAGroupThatOpensLate(t *testing.T) {
	_, _, b, ta, _ := pair(t, func(o *Options) { o.UnknownRetry = 5 * time.Second })
	id, addr := serverOf(replica(9, 2))
	done := make(chan error, 1)
	go func() { done <- ta.AppendEntries(id, addr, entries(1, 1, 10), &raft.AppendEntriesResponse{}) }()
	waitFor(t, "a refusal", func() bool { return metricValue(b.metrics.dropped.WithLabelValues("unknown replica")) > 0 })
	respond(t, openGroup(t, b, replica(9, 2)), nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGroupOpensOnce(t *testing.T) {
	_, a, _, ta, _ := pair(t, nil)
	if _, err := a.Group(replica(1, 1)); err == nil {
		t.Error("opened twice")
	}
	ta.Close()
	ta.Close()
	again := openGroup(t, a, replica(1, 1))
	id, addr := serverOf(replica(1, 2))
	if err := ta.RequestVote(id, addr, &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrClosed) {
		t.Errorf("on a closed transport: %v", err)
	}
	if _, err := ta.AppendEntriesPipeline(id, addr); !errors.Is(err, ErrClosed) {
		t.Errorf("pipeline on a closed transport: %v", err)
	}
	if _, err := ta.Deliver(&raft.TimeoutNowRequest{}); !errors.Is(err, ErrClosed) {
		t.Errorf("deliver to a closed transport: %v", err)
	}
	ta.Interrupt()
	if again.LocalAddr() != "101" || string(again.EncodePeer("5", "5")) != "5" || again.DecodePeer([]byte("5")) != "5" {
		t.Error("addresses are not decimal replica ids")
	}
	a.Close()
	if _, err := a.Group(5); !errors.Is(err, ErrClosed) {
		t.Errorf("group of a closed net: %v", err)
	}
}

func TestBlockedGroupDoesNotBlockOthers(t *testing.T) {
	_, a, b, ta, tb := pair(t, func(o *Options) { o.InboxBytes = 1 << 20 })
	// Group 1 has no raft that reads; group 2 has. One data connection or the
	// other, sooner or later both are used.
	_ = tb
	blocked := openPipeline(t, ta, replica(1, 2))
	for range 8 { // 8 * 256 KiB are more than fit
		if _, err := blocked.AppendEntries(entries(1, 1, 256<<10), &raft.AppendEntriesResponse{}); err != nil {
			break
		}
	}
	for g := 2; g < 6; g++ {
		t2, tb2 := openGroup(t, a, replica(g, 1)), openGroup(t, b, replica(g, 2))
		respond(t, tb2, nil)
		id2, addr2 := serverOf(replica(g, 2))
		var resp raft.AppendEntriesResponse
		if err := t2.AppendEntries(id2, addr2, entries(1, 1, 1000), &resp); err != nil || !resp.Success {
			t.Fatalf("append beside a blocked group: %v", err)
		}
	}
	waitFor(t, "busy", func() bool { return metricValue(b.metrics.dropped.WithLabelValues("busy")) > 0 })
	// The group reads again: what was accepted is answered, the rest was refused.
	respond(t, tb, nil)
	ok, refused := 0, 0
	for ok+refused < 4 {
		f := <-blocked.Consumer()
		if f.Response().Success {
			ok++
		} else {
			refused++
		}
		if refused > 0 {
			break
		}
	}
	if ok == 0 || refused == 0 {
		t.Errorf("%d were taken, %d refused", ok, refused)
	}
}

func TestBulkDoesNotDelayVotes(t *testing.T) {
	var handled atomic.Int32
	release := make(chan struct{})
	d := newDirectory(t)
	a := startNode(t, d, 1, nil)
	b := openNode(t, d, 2, nil)
	b.Handle(kindSlow, func(_ int32, p []byte) ([]byte, error) {
		handled.Add(1)
		<-release
		return p[:1000], nil
	})
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	a.Refresh()
	waitUp(t, a, 2)
	ta, tb := openGroup(t, a, replica(1, 1)), openGroup(t, b, replica(1, 2))
	respond(t, tb, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if _, err := a.Call(ctx, 2, Bulk, kindSlow, make([]byte, 4<<20)); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "bulk handlers", func() bool { return handled.Load() == bulkHandlers })
	id, addr := serverOf(replica(1, 2))
	for range 100 {
		if err := ta.RequestVote(id, addr, &raft.RequestVoteRequest{Term: 1}, &raft.RequestVoteResponse{}); err != nil {
			t.Fatal(err) // it has a second
		}
	}
	close(release)
	wg.Wait()
}

func TestCallsAndMessages(t *testing.T) {
	d := newDirectory(t)
	a := startNode(t, d, 1, nil)
	b := openNode(t, d, 2, nil)
	var mu sync.Mutex
	var notes []byte
	b.Handle(kindEcho, func(from int32, p []byte) ([]byte, error) { return append([]byte{byte(from)}, p...), nil })
	b.Handle(kindFail, func(int32, []byte) ([]byte, error) { return nil, errors.New("no such thing") })
	b.Handle(kindNote, func(_ int32, p []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, p...)
		return nil, nil
	})
	block := make(chan struct{})
	b.Handle(kindSlow, func(int32, []byte) ([]byte, error) { <-block; return nil, nil })
	defer close(block)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	a.Refresh()
	waitUp(t, a, 2)
	ctx := context.Background()
	for _, class := range []Class{Control, Bulk} {
		for _, size := range []int{0, 10, 5000, 3 << 20} {
			payload := bytes.Repeat([]byte{7}, size)
			reply, err := a.Call(ctx, 2, class, kindEcho, payload)
			if err != nil || !bytes.Equal(reply, append([]byte{1}, payload...)) {
				t.Errorf("%s, %d bytes: %d bytes, %v", class, size, len(reply), err)
			}
		}
		var remote *RemoteError
		if _, err := a.Call(ctx, 2, class, kindFail, nil); !errors.As(err, &remote) || remote.Text != "no such thing" {
			t.Error(err)
		}
		if _, err := a.Call(ctx, 2, class, kindNobody, nil); !errors.Is(err, ErrNoHandler) {
			t.Error(err)
		}
		if _, err := a.Call(ctx, 2, class, kindEcho, make([]byte, MaxPayload+1)); err == nil {
			t.Error("payload above the limit was sent")
		}
	}
	for i := range 100 {
		a.Send(2, kindNote, []byte{byte(i)})
	}
	waitFor(t, "all notes", func() bool { mu.Lock(); defer mu.Unlock(); return len(notes) == 100 })
	for i, n := range notes {
		if int(n) != i {
			t.Fatalf("note %d came as number %d", n, i)
		}
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := a.Call(short, 2, Bulk, kindSlow, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := a.Call(ctx, 3, Control, kindEcho, nil); !errors.Is(err, ErrUnknownNode) {
		t.Error(err)
	}
	if _, err := a.Call(ctx, 1, Control, kindEcho, nil); !errors.Is(err, ErrUnknownNode) {
		t.Error(err)
	}
	a.Send(3, kindNote, nil)
}

// watch collects a net's events.
func watch(n *Net) <-chan PeerEvent {
	ch := make(chan PeerEvent, 100)
	n.Watch(func(ev PeerEvent) { ch <- ev })
	return ch
}

func expectEvent(t *testing.T, ch <-chan PeerEvent, up bool, most time.Duration) PeerEvent {
	t.Helper()
	select {
	case ev := <-ch:
		if ev.Up != up {
			t.Fatalf("event %+v, want up=%v", ev, up)
		}
		return ev
	case <-time.After(most):
		t.Fatalf("no event within %s", most)
	}
	return PeerEvent{}
}

func TestDownAtOnceWhenThePeerCloses(t *testing.T) {
	d, a, b, _, _ := pair(t, nil)
	events := watch(a)
	start := time.Now()
	b.Close()
	ev := expectEvent(t, events, false, time.Second)
	t.Logf("down after %s: %s", time.Since(start), ev.Reason)
	if a.Alive(2) {
		t.Error("alive")
	}
	start = time.Now()
	startNode(t, d, 2, nil)
	expectEvent(t, events, true, time.Second)
	t.Logf("up after %s", time.Since(start))
	if _, ok := a.LastPong(2); !ok {
		t.Error("no pong")
	}
	d.remove(2)
	a.Refresh()
	if a.Alive(2) {
		t.Error("alive after it was removed")
	}
	expectEvent(t, events, false, time.Second)
}

func TestOneRedialMakesABreakNoDown(t *testing.T) {
	var c cutter
	d := newDirectory(t)
	a := startNode(t, d, 1, func(o *Options) { o.Dial = c.dial })
	startNode(t, d, 2, nil)
	a.Refresh()
	waitUp(t, a, 2)
	waitFor(t, "all connections", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.conns) == 3 })
	events := watch(a)
	before := dials(a, "ok")
	c.cut()
	waitFor(t, "redials", func() bool { return dials(a, "ok") >= before+3 })
	id, _ := a.peer(2)
	waitFor(t, "the control connection", func() bool { _, err := id.controlConn(); return err == nil })
	select {
	case ev := <-events:
		t.Errorf("event %+v", ev)
	default:
	}
	c.refuse.Store(true)
	start := time.Now()
	c.cut()
	expectEvent(t, events, false, time.Second)
	t.Logf("down after %s", time.Since(start))
}

func TestDownWithoutPongs(t *testing.T) {
	var c cutter
	d := newDirectory(t)
	a := startNode(t, d, 1, func(o *Options) { o.Dial = c.dial; o.PingTimeout = 200 * time.Millisecond })
	b := startNode(t, d, 2, nil)
	a.Refresh()
	waitUp(t, a, 2)
	ta, tb := openGroup(t, a, replica(1, 1)), openGroup(t, b, replica(1, 2))
	respond(t, tb, nil)
	events := watch(a)
	start := time.Now()
	c.mute.Store(true)
	ev := expectEvent(t, events, false, 2*time.Second)
	t.Logf("down after %s: %s", time.Since(start), ev.Reason)
	if !strings.Contains(ev.Reason, "no pong") {
		t.Error(ev.Reason)
	}
	id, addr := serverOf(replica(1, 2))
	err := ta.RequestVote(id, addr, &raft.RequestVoteRequest{Term: 1}, &raft.RequestVoteResponse{})
	if !errors.Is(err, ErrNodeDown) {
		t.Errorf("vote: %v", err)
	}
	c.mute.Store(false)
	expectEvent(t, events, true, 3*time.Second)
}

func TestUnhealthyNodeLooksDead(t *testing.T) {
	var sick atomic.Bool
	d := newDirectory(t)
	a := startNode(t, d, 1, func(o *Options) { o.PingTimeout = time.Minute }) // it learns by its connections
	b := startNode(t, d, 2, func(o *Options) { o.Healthy = func() bool { return !sick.Load() } })
	a.Refresh()
	waitUp(t, a, 2)
	waitUp(t, b, 1)
	ta, tb := openGroup(t, a, replica(1, 1)), openGroup(t, b, replica(1, 2))
	respond(t, ta, nil)
	events := watch(a)
	sick.Store(true)
	id, addr := serverOf(replica(1, 1))
	if _, err := tb.AppendEntriesPipeline(id, addr); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("pipeline: %v", err)
	}
	done := make(chan error, 2)
	go func() { done <- tb.AppendEntries(id, addr, entries(1, 1, 10), &raft.AppendEntriesResponse{}) }()
	go func() {
		done <- tb.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: 7}, &raft.AppendEntriesResponse{})
	}()
	expectEvent(t, events, false, 2*time.Second)
	select {
	case err := <-done:
		t.Errorf("an append or a heartbeat went out: %v", err)
	default:
	}
	sick.Store(false)
	expectEvent(t, events, true, 3*time.Second)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAppendWaitsUntilTheNodeIsUp(t *testing.T) {
	d, a, b, ta, _ := pair(t, nil)
	id, addr := serverOf(replica(1, 2))
	b.Close()
	waitFor(t, "down", func() bool { return !a.Alive(2) })
	done := make(chan error, 1)
	call := func(req *raft.AppendEntriesRequest) {
		go func() { done <- ta.AppendEntries(id, addr, req, &raft.AppendEntriesResponse{}) }()
	}
	call(entries(1, 1, 10))
	waitFor(t, "the call to begin", func() bool { ta.mu.Lock(); defer ta.mu.Unlock(); return ta.sentTerm == 7 })
	ta.Interrupt()
	if err := <-done; !errors.Is(err, ErrInterrupted) {
		t.Errorf("interrupted append: %v", err)
	}
	call(entries(1, 1, 10)) // of the interrupted term
	if err := <-done; !errors.Is(err, ErrNodeDown) {
		t.Errorf("append of an interrupted term: %v", err)
	}
	next := entries(1, 1, 10)
	next.Term = 8
	call(next)
	b = startNode(t, d, 2, nil)
	respond(t, openGroup(t, b, replica(1, 2)), nil)
	call(&raft.AppendEntriesRequest{Term: 8})
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("append and heartbeat across a restart: %v", err)
		}
	}
	if match, _, ok := ta.Progress(replica(1, 2)); !ok || match != 2 {
		t.Errorf("progress %d, %v", match, ok)
	}
	b.Close()
	waitFor(t, "down", func() bool { return !a.Alive(2) })
	call(next)
	a.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("append across Close: %v", err)
	}
}

func TestLateReplyFailsTheAppend(t *testing.T) {
	_, _, _, ta, tb := pair(t, func(o *Options) { o.DataTimeout = 150 * time.Millisecond; o.VoteTimeout = 50 * time.Millisecond })
	id, addr := serverOf(replica(1, 2))
	if err := ta.AppendEntries(id, addr, entries(1, 1, 10), &raft.AppendEntriesResponse{}); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	if err := ta.RequestVote(id, addr, &raft.RequestVoteRequest{Term: 1}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	if n := len(tb.Consumer()); n != 2 {
		t.Errorf("%d requests wait for raft", n)
	}
}

func TestDeliver(t *testing.T) {
	_, _, _, ta, _ := pair(t, nil)
	respond(t, ta, nil)
	resp, err := ta.Deliver(&raft.TimeoutNowRequest{})
	if err != nil || resp.Error != nil {
		t.Fatal(err, resp.Error)
	}
	if _, ok := resp.Response.(*raft.TimeoutNowResponse); !ok {
		t.Errorf("%T", resp.Response)
	}
}

func TestInstallSnapshotIsInterrupted(t *testing.T) {
	_, _, _, ta, _ := pair(t, nil)
	began := make(chan struct{})
	ta.SetInstaller(func(ctx context.Context, _ uint64, _ []byte, _ func() error) error {
		close(began)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	id, addr := serverOf(replica(1, 2))
	done := make(chan error, 1)
	go func() {
		req := &raft.InstallSnapshotRequest{Size: 3}
		for {
			err := ta.InstallSnapshot(id, addr, req, &raft.InstallSnapshotResponse{}, strings.NewReader("abc"))
			select {
			case <-began:
				done <- err
				return
			default: // the peer did not answer its pings for a while
			}
		}
	}()
	<-began
	ta.Interrupt()
	if err := <-done; !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	req := &raft.InstallSnapshotRequest{Size: 4}
	if err := ta.InstallSnapshot(id, addr, req, &raft.InstallSnapshotResponse{}, strings.NewReader("abc")); err == nil {
		t.Error("a short manifest was sent")
	}
	req.Size = 1 << 40
	if err := ta.InstallSnapshot(id, addr, req, &raft.InstallSnapshotResponse{}, strings.NewReader("abc")); err == nil {
		t.Error("a manifest above the limit was read")
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	d := newDirectory(t)
	a := startNode(t, d, 1, func(o *Options) { o.Registerer = r })
	startNode(t, d, 2, nil)
	a.Refresh()
	waitUp(t, a, 2)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range all {
		names = append(names, strings.TrimPrefix(f.GetName(), "raftsman_raftnet_"))
	}
	if got, want := strings.Join(names, " "), "bytes_total connections dials_total frames_total peer_up ping_rtt_seconds"; got != want {
		t.Errorf("metrics %s, want %s", got, want)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Identity: identityOf(1), Listener: l, Resolver: d, Registerer: r}); err == nil {
		t.Error("the same metrics were registered twice")
	}
	a.Close()
	if all, _ := r.Gather(); len(all) != 0 {
		t.Errorf("%d metrics are left after Close", len(all))
	}
}

// Bulk handlers that call back must not use up what their own calls need,
// however many run in both directions.
func TestBulkHandlersCallBack(t *testing.T) {
	d := newDirectory(t)
	nets := map[int32]*Net{1: openNode(t, d, 1, nil), 2: openNode(t, d, 2, nil)}
	for _, n := range nets {
		n.Handle(kindEcho, func(_ int32, p []byte) ([]byte, error) { return p, nil })
		n.Handle(kindSlow, func(from int32, p []byte) ([]byte, error) {
			return n.Call(context.Background(), from, Bulk, kindEcho, p)
		})
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	waitUp(t, nets[1], 2)
	waitUp(t, nets[2], 1)
	var wg sync.WaitGroup
	for node, n := range nets {
		for range 5 * bulkHandlers {
			wg.Go(func() {
				reply, err := n.Call(context.Background(), 3-node, Bulk, kindSlow, []byte("x"))
				if err != nil || string(reply) != "x" {
					t.Errorf("%q, %v", reply, err)
				}
			})
		}
	}
	within(t, 10*time.Second, "all calls", wg.Wait)
}
