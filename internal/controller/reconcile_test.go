package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/controller"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

// logs collects what a term logs.
type logs struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logs) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), s)
}

// node is one candidate with a store of its own.
type node struct {
	store *cluster.Store
	logs  *logs
	log   *slog.Logger
}

func start(t *testing.T, c *clientv3.Client) node {
	t.Helper()
	l := &logs{}
	logger := slog.New(slog.NewTextHandler(l, nil))
	s, err := cluster.New(cluster.Options{Client: c, Cluster: "test", Logger: logger, ProbeInterval: 50 * time.Millisecond, RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureMeta(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() { s.Close(); <-done })
	return node{s, l, logger}
}

func (n node) sees(t *testing.T, what string, cond func(*cluster.View) bool) *cluster.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	v, err := n.store.WaitFor(ctx, cond)
	if err != nil {
		t.Fatalf("never saw %s; the view is %+v", what, n.store.View())
	}
	return v
}

func (n node) win(t *testing.T, c *clientv3.Client) (*election.Session, *election.Leadership) {
	t.Helper()
	s, err := election.NewSession(t.Context(), c, election.SessionConfig{TTL: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Close(ctx)
	})
	l, err := election.Campaign(t.Context(), s, n.store.Keys().Election(), []byte(`{"node":1}`))
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

// lead runs the controller until the test ends or its term does.
func (n node) lead(t *testing.T, l *election.Leadership) <-chan error {
	ctx, cancel := context.WithCancel(t.Context())
	done, returned := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(returned)
		done <- controller.Run(ctx, l, n.store, controller.Options{}, n.log)
	}()
	t.Cleanup(func() { cancel(); <-returned })
	return done
}

func register(t *testing.T, c *clientv3.Client, n node, id int32, incarnation string) {
	t.Helper()
	v, err := cluster.Encode(cluster.Node{Node: id, Incarnation: incarnation, State: cluster.StateReady})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), n.store.Keys().Node(id), string(v)); err != nil {
		t.Fatal(err)
	}
}

func assignments(n int) func(*cluster.View) bool {
	return func(v *cluster.View) bool { return len(v.Assignments) == n }
}

func TestTermOfAWinner(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	n := start(t, c)
	_, l := n.win(t, c)
	n.lead(t, l)

	// Not enough nodes, then enough.
	register(t, c, n, 1, "i1")
	if _, err := n.store.CreateTopic(t.Context(), "t", 100, 3, nil); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "blocked is said", func() bool { return n.logs.has("3 replicas need as many ready nodes") })
	register(t, c, n, 2, "i2")
	register(t, c, n, 3, "i3")
	v := n.sees(t, "every partition placed", assignments(100))
	if !n.logs.has("change=place topic=t partition=99") {
		t.Error("decisions are not logged")
	}
	if a := v.Assignments[cluster.TopicPartition{Topic: "t", Partition: 7}]; a.Fence != l.Token.CreateRevision || len(a.Replicas) != 3 {
		t.Fatalf("assignment %+v", a)
	}

	// A wiped disk.
	register(t, c, n, 2, "empty")
	n.sees(t, "replicas replaced", func(v *cluster.View) bool {
		for _, a := range v.Assignments {
			if a.Generation != 2 || len(a.Initial) != 3 {
				return false
			}
		}
		return true
	})

	// etcd goes and comes back: a term outlives that.
	e.Stop()
	testetcd.Eventually(t, "disconnected", func() bool { return !n.store.Connected() })
	e.Restart(t)
	testetcd.Eventually(t, "connected", n.store.Connected)
	if err := n.store.CreatePartitions(t.Context(), "t", 101); err != nil {
		t.Fatal(err)
	}
	n.sees(t, "the new partition placed", assignments(101))

	// Deletion, and an old tombstone.
	if _, err := c.Put(t.Context(), n.store.Keys().Deleted("OLD"), `{"topic":"old","deleted":"2020-01-01T00:00:00Z"}`); err != nil {
		t.Fatal(err)
	}
	if err := n.store.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	n.sees(t, "no assignments", assignments(0))
	n.sees(t, "one tombstone", func(v *cluster.View) bool { return len(v.Deleted) == 1 })
}

// A winner that hears nothing of its loss, because it was stopped, meets etcd.
func TestStaleWinnerIsFenced(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	a := start(t, c)
	sa, la := a.win(t, c)
	for id := range int32(3) {
		register(t, c, a, id+1, fmt.Sprintf("i%d", id+1))
	}
	if _, err := a.store.CreateTopic(t.Context(), "t", 4, 3, nil); err != nil {
		t.Fatal(err)
	}
	view := a.sees(t, "its victory", func(v *cluster.View) bool { return v.Winner != nil && len(v.Topics) == 1 && len(v.Nodes) == 3 })
	plan := controller.Plan(view, controller.Facts{})
	if len(plan) != 4 {
		t.Fatalf("plan %v", plan)
	}

	// It is stopped here, and another one wins and works.
	if err := sa.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := start(t, c)
	_, lb := b.win(t, c)
	b.lead(t, lb)
	before := b.sees(t, "placement by the other", assignments(4))

	// It resumes with the plan it had.
	_, err := a.store.Fenced(la.Token).Apply(t.Context(), plan)
	var fenced *cluster.FencedError
	if !errors.As(err, &fenced) || fenced.Winner == nil || fenced.Winner.CreateRevision != lb.Token.CreateRevision {
		t.Fatalf("stale winner: %v", err)
	}
	resp, err := c.Get(t.Context(), a.store.Keys().Base(), clientv3.WithPrefix(), clientv3.WithMinModRev(before.Revision+1))
	if err != nil || len(resp.Kvs) != 0 {
		t.Fatalf("changed: %v, %v", resp.Kvs, err)
	}
	if err := controller.Run(t.Context(), la, a.store, controller.Options{}, a.log); err != nil {
		t.Fatalf("a term that is over: %v", err)
	}
}

// deaf is a client's watcher that hears nothing.
type deaf struct{ clientv3.Watcher }

func (deaf) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	silence := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(silence) })
	return silence
}

// The moment after it resumed: its view and its session are those of before.
func TestTermEndsWhenFenced(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c, paused := e.Client(t), e.Client(t)
	paused.Watcher = deaf{paused.Watcher}
	b := start(t, c)
	sa, la := b.win(t, paused)
	register(t, c, b, 1, "i1")
	if _, err := b.store.CreateTopic(t.Context(), "t", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	a := start(t, paused)
	a.sees(t, "its victory", func(v *cluster.View) bool { return v.Winner != nil && len(v.Topics) == 1 })

	if _, err := c.Revoke(t.Context(), sa.Lease()); err != nil {
		t.Fatal(err)
	}
	_, lb := b.win(t, c)
	if !la.Valid() {
		t.Fatal("the test wants a winner that believes in itself")
	}
	if err := controller.Run(t.Context(), la, a.store, controller.Options{}, a.log); !errors.Is(err, cluster.ErrFenced) {
		t.Fatalf("term ended with %v", err)
	}
	for _, s := range []string{"refused: another node has won",
		fmt.Sprintf("token_revision=%d", la.Token.CreateRevision), fmt.Sprintf("winner_revision=%d", lb.Token.CreateRevision)} {
		if !a.logs.has(s) {
			t.Errorf("the log lacks %q:\n%s", s, a.logs.all.String())
		}
	}
	b.sees(t, "nothing", func(v *cluster.View) bool {
		return v.Winner != nil && v.Winner.CreateRevision == lb.Token.CreateRevision && len(v.Assignments) == 0
	})
}

// Everything together: candidates under election.Run, the winner killed.
func TestAnotherNodeTakesOver(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	nodes := make([]node, 2)
	stop := make([]context.CancelFunc, 2)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for i := range nodes {
		n := start(t, c)
		nodes[i] = n
		ctx, cancel := context.WithCancel(t.Context())
		stop[i] = cancel
		t.Cleanup(cancel)
		value, _ := cluster.Encode(cluster.Candidate{Node: int32(i + 1)})
		reg, _ := cluster.Encode(cluster.Node{Node: int32(i + 1), Incarnation: fmt.Sprint("i", i+1), State: cluster.StateReady})
		wg.Go(func() {
			if err := election.Run(ctx, c, election.Config{
				Session:    election.SessionConfig{TTL: time.Second, Logger: n.log},
				MinBackoff: 10 * time.Millisecond,
				Register: func() []election.Registration {
					return []election.Registration{{Key: n.store.Keys().Node(int32(i + 1)), Value: reg}}
				},
				Name: n.store.Keys().Election(), Value: value,
				Lead: func(ctx context.Context, l *election.Leadership) error {
					return controller.Run(ctx, l, n.store, controller.Options{}, n.log)
				},
			}); err != nil {
				t.Error(err)
			}
		})
	}
	v := nodes[0].sees(t, "two nodes and a winner", func(v *cluster.View) bool { return len(v.Nodes) == 2 && v.Winner != nil })
	if _, err := nodes[0].store.CreateTopic(t.Context(), "t", 3, 2, nil); err != nil {
		t.Fatal(err)
	}
	nodes[0].sees(t, "placement", assignments(3))
	first := v.Winner.Node
	stop[first-1]()
	other := nodes[2-first]
	other.sees(t, "another winner", func(v *cluster.View) bool { return v.Winner != nil && v.Winner.Node != first && len(v.Nodes) == 1 })
	if _, err := other.store.CreateTopic(t.Context(), "u", 3, 1, nil); err != nil {
		t.Fatal(err)
	}
	v = other.sees(t, "placement by the other", assignments(6))
	if a := v.Assignments[cluster.TopicPartition{Topic: "u"}]; a.Fence != v.Winner.CreateRevision {
		t.Fatalf("assignment %+v by winner %+v", a, v.Winner)
	}
}
