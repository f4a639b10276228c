package cluster_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

const base = "/raftsman/test/"

// logs collects log lines of a store and passes them to the test.
type logs struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.all.String(), s)
}

type running struct {
	*cluster.Store
	logs *logs
}

// open returns a store that is not running yet.
func open(t *testing.T, c *clientv3.Client, dir string) running {
	t.Helper()
	l := &logs{}
	s, err := cluster.New(cluster.Options{
		Client: c, Cluster: "test", Dir: dir,
		Logger:         slog.New(slog.NewTextHandler(l, nil)),
		RequestTimeout: 500 * time.Millisecond, ProbeInterval: 50 * time.Millisecond, SaveInterval: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return running{s, l}
}

// run opens a store and lets it follow etcd until the test ends.
func run(t *testing.T, c *clientv3.Client, dir string) running {
	t.Helper()
	s := open(t, c, dir)
	s.start(t)
	return s
}

func (s running) start(t *testing.T) {
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// made runs a store on a cluster that exists.
func made(t *testing.T, c *clientv3.Client, dir string) running {
	t.Helper()
	s := open(t, c, dir)
	if _, err := s.EnsureMeta(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.sees(t, "the cluster", func(v *cluster.View) bool { return v.Meta != nil && v.Source == cluster.SourceEtcd })
	return s
}

func (s running) sees(t *testing.T, what string, cond func(*cluster.View) bool) *cluster.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	v, err := s.WaitFor(ctx, cond)
	if err != nil {
		t.Fatalf("never saw %s; the view is %+v\n%s", what, s.View(), s.logs.all.String())
	}
	return v
}

func put(t *testing.T, c *clientv3.Client, key string, v any) {
	t.Helper()
	value, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		value = string(b)
	}
	if _, err := c.Put(t.Context(), base+key, value); err != nil {
		t.Fatal(err)
	}
}

// win elects a node of the test's cluster.
func win(t *testing.T, c *clientv3.Client, s *cluster.Store, node int) (*election.Session, *election.Leadership) {
	t.Helper()
	es, err := election.NewSession(t.Context(), c, election.SessionConfig{TTL: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		es.Close(ctx)
	})
	value, _ := cluster.Encode(cluster.Candidate{Node: int32(node)})
	l, err := election.Campaign(t.Context(), es, s.Keys().Election(), value)
	if err != nil {
		t.Fatal(err)
	}
	return es, l
}

func topics(n int) func(*cluster.View) bool {
	return func(v *cluster.View) bool { return len(v.Topics) == n }
}

var eventually = testetcd.Eventually
