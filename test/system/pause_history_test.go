//go:build system

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const keyBase = "/raftsman/default/"

// history replays what was written to etcd, revision by revision, and judges
// each assignment by who had won when it was written.
type history struct {
	client *clientv3.Client
	done   chan struct{}

	mu         sync.Mutex
	candidates map[string]int64 // keys of the election and their create revisions
	fence      int64            // of the last assignment
	last       int64            // revision
	wrong      []string
	writes     int // of assignments
	winners    map[int64]bool
	restarts   int // of the watch
}

func etcdClient(t *testing.T, c *cluster) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.etcdURL, DialTimeout: 2 * time.Second, DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// startHistory begins with what is there, and checks that it is consistent.
func startHistory(t *testing.T, client *clientv3.Client) *history {
	t.Helper()
	h := &history{client: client, done: make(chan struct{}), candidates: map[string]int64{}, winners: map[int64]bool{}}
	ctx, cancel := contextOf(t, 20*time.Second)
	defer cancel()
	got, err := client.Get(ctx, keyBase, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	h.last = got.Header.Revision
	for _, kv := range got.Kvs {
		key := strings.TrimPrefix(string(kv.Key), keyBase)
		if strings.HasPrefix(key, "leader/") {
			h.candidates[key] = kv.CreateRevision
		}
		if strings.HasPrefix(key, "assignments/") {
			h.fence = max(h.fence, fenceOf(kv.Value))
		}
	}
	watching, stop := context.WithCancel(context.Background())
	go h.run(watching)
	t.Cleanup(func() {
		stop()
		<-h.done
		for _, w := range h.wrong { // of a round that did not end
			t.Error(w)
		}
	})
	return h
}

// fenceOf is the election revision in an assignment, 0 for none.
func fenceOf(value []byte) int64 {
	var a struct {
		Fence int64 `json:"fence"`
	}
	if json.Unmarshal(value, &a) != nil {
		return 0
	}
	return a.Fence
}

// run watches until ctx ends. A watch that breaks goes on after the last
// revision that was seen.
func (h *history) run(ctx context.Context) {
	defer close(h.done)
	for ctx.Err() == nil {
		h.mu.Lock()
		from := h.last + 1
		h.mu.Unlock()
		watching, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for resp := range h.client.Watch(watching, keyBase, clientv3.WithPrefix(), clientv3.WithRev(from)) {
			if resp.CompactRevision > 0 {
				h.note("revisions up to %d were compacted, the watch was at %d", resp.CompactRevision, from)
				stop()
				return
			}
			if resp.Err() != nil {
				break
			}
			h.take(resp.Events)
		}
		stop()
		h.mu.Lock()
		h.restarts++
		h.mu.Unlock()
	}
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// take replays events; those of one revision come together and in order of
// revisions.
func (h *history) take(events []*clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(events) > 0 {
		rev := events[0].Kv.ModRevision
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == rev {
			n++
		}
		if rev <= h.last {
			h.wrong = append(h.wrong, fmt.Sprintf("revision %d came after %d", rev, h.last))
		}
		h.replayLocked(rev, events[:n])
		h.last, events = rev, events[n:]
	}
}

// replayLocked takes one revision: a transaction's conditions are about the
// state before it, so its assignments are judged first.
func (h *history) replayLocked(rev int64, events []*clientv3.Event) {
	for _, e := range events {
		if key := strings.TrimPrefix(string(e.Kv.Key), keyBase); strings.HasPrefix(key, "assignments/") && e.Type == clientv3.EventTypePut {
			h.judgeLocked(rev, key, fenceOf(e.Kv.Value))
		}
	}
	for _, e := range events {
		key := strings.TrimPrefix(string(e.Kv.Key), keyBase)
		switch {
		case !strings.HasPrefix(key, "leader/"):
		case e.Type == clientv3.EventTypeDelete:
			delete(h.candidates, key)
		default:
			h.candidates[key] = e.Kv.CreateRevision
		}
	}
}

func (h *history) judgeLocked(rev int64, key string, fence int64) {
	winner := int64(0)
	for _, created := range h.candidates {
		if winner == 0 || created < winner {
			winner = created
		}
	}
	h.writes++
	h.winners[fence] = true
	if fence != winner {
		h.wrong = append(h.wrong, fmt.Sprintf("revision %d: %s was written by the winner of revision %d, and that of %d had won (candidates %v)", rev, key, fence, winner, h.candidates))
	}
	if fence < h.fence {
		h.wrong = append(h.wrong, fmt.Sprintf("revision %d: %s was written by the winner of revision %d, after that of %d had written", rev, key, fence, h.fence))
	}
	h.fence = max(h.fence, fence)
}

// check waits until all that was written by now has been seen, and reports what
// is wrong with it, once.
func (h *history) check(t *testing.T) {
	t.Helper()
	ctx, cancel := contextOf(t, 30*time.Second)
	defer cancel()
	newest, err := h.client.Get(ctx, keyBase, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	if err != nil || len(newest.Kvs) == 0 {
		t.Fatalf("the newest key of etcd: %v", err)
	}
	waitFor(t, "the watch of etcd", 60*time.Second, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.last >= newest.Kvs[0].ModRevision || len(h.wrong) > 0
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.wrong {
		t.Error(w)
	}
	h.wrong = nil
}

func (h *history) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d assignments written by %d winners, up to revision %d; the watch was begun anew %d times", h.writes, len(h.winners), h.last, h.restarts)
}
