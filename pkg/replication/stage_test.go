package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func testSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 16
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	return seed
}

// TestReceivingOneAtATime: the newest leader stages, an older one is refused,
// and nothing is staged while a manifest is being installed.
func TestReceivingOneAtATime(t *testing.T) {
	var r receiving
	first, endFirst, err := r.begin(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.begin(t.Context(), 4); err == nil {
		t.Fatal("a leader of an older term was served")
	}
	if err := r.install(func() error { return nil }); err == nil {
		t.Fatal("a manifest was installed while another one's segments are being staged")
	}
	begun := make(chan func())
	go func() {
		_, end, err := r.begin(t.Context(), 5) // the same leader again: its connection broke
		if err != nil {
			t.Error(err)
		}
		begun <- end
	}()
	<-first.Done()
	if cause := context.Cause(first); !errors.Is(cause, errNewerStaging) {
		t.Fatalf("got %v", cause)
	}
	select {
	case <-begun:
		t.Fatal("two stagings run at once")
	default:
	}
	endFirst()
	endSecond := <-begun
	endSecond()

	refusal := errors.New("not staged")
	if err := r.install(func() error { return refusal }); !errors.Is(err, refusal) {
		t.Fatalf("got %v", err)
	}
	if err := r.install(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.begin(t.Context(), 6); err == nil {
		t.Fatal("staged while a manifest is being installed")
	}
	r.installed()
	third, endThird, err := r.begin(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { r.close(); close(closed) }()
	<-third.Done()
	endThird()
	<-closed
	if _, _, err := r.begin(t.Context(), 7); !errors.Is(err, errStageClosed) {
		t.Fatalf("got %v", err)
	}
}

// filed is a list whose manifests name files: its values, fetched one by one.
type filed struct {
	list
	mu      sync.Mutex
	held    []int64 // what the next sources hold
	opened  int
	closed  int
	staged  []string // survives an interrupted Stage
	ready   string   // the manifest that staged is complete for
	refused int
}

func (f *filed) Source(manifest []byte) (Source, error) {
	var values []string
	if err := json.Unmarshal(manifest, &values); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &filedSource{owner: f, values: values}
	if f.opened < len(f.held) {
		s.held = f.held[f.opened]
	}
	f.opened++
	return s, nil
}

type filedSource struct {
	owner  *filed
	values []string
	held   int64
	reads  int
}

func (s *filedSource) Held() int64 {
	if s.reads++; s.reads > 3 {
		return s.held
	}
	return 0
}

func (s *filedSource) ReadAt(file int64, p []byte, off int64) (int, error) {
	return copy(p, fmt.Sprintf("%-80s", s.values[file])[off:]), nil
}

func (s *filedSource) Close() error {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.owner.closed++
	return nil
}

func (f *filed) Stage(ctx context.Context, manifest []byte, fetch Fetch, progress func(done, total int64)) error {
	var values []string
	if err := json.Unmarshal(manifest, &values); err != nil {
		return err
	}
	for i := range values {
		f.mu.Lock()
		have := i < len(f.staged)
		f.mu.Unlock()
		if !have {
			p := make([]byte, 80)
			if _, err := fetch(int64(i), p, 0); err != nil {
				return err
			}
			f.mu.Lock()
			f.staged = append(f.staged, string(p))
			f.mu.Unlock()
		}
		progress(int64(i+1), int64(len(values)))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = string(manifest)
	return nil
}

func (f *filed) Staged(manifest []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ready != string(manifest) {
		f.refused++
		return errors.New("not staged")
	}
	return nil
}

// TestPinLimit: a leader lets go of pins that hold too much, and the follower
// goes on with what it has.
func TestPinLimit(t *testing.T) {
	h := startHosts(t, StoreWAL, 3)
	machines := make(map[int32]*filed)
	open := func(id int32) {
		m := &filed{held: []int64{1 << 40, 1 << 40}}
		g, err := h.up[id].OpenGroup(GroupConfig{Replica: uint64(id) * 10, Name: "list", Initial: []uint64{10, 20, 30}, StateMachine: m})
		if err != nil {
			t.Fatal(err)
		}
		machines[id], h.lists[id], h.group[id] = m, &m.list, g
	}
	for id := int32(1); id <= 3; id++ {
		open(id)
	}
	want := numbers(0, 10)
	h.propose(want...)
	h.wantAll(want)
	leader := h.leader()
	away := leader%3 + 1
	h.stop(away)
	for i := range 60 {
		v := fmt.Sprintf("%d %s", i, strings.Repeat("x", 64<<10))
		h.propose(v)
		want = append(want, v)
	}
	lead := h.group[leader]
	eventually(t, "release of the log", func() bool {
		first, err := lead.store.FirstIndex()
		return err == nil && first > 20
	})
	h.start(away)
	open(away)
	h.wantAll(want)
	m, follower := machines[leader], machines[away]
	eventually(t, "the pins to be let go", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.opened == m.closed
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	follower.mu.Lock()
	defer follower.mu.Unlock()
	if m.opened < 3 || follower.refused > 0 || follower.ready == "" {
		t.Fatalf("%d sources were opened, want three at least; %d manifests refused, ready for %d bytes", m.opened, follower.refused, len(follower.ready))
	}
	if !slices.ContainsFunc(want, func(v string) bool { return fmt.Sprintf("%-80s", v)[:80] == follower.staged[len(follower.staged)-1] }) {
		t.Fatal("what was staged is no value of the leader's")
	}
}

// TestOlderSnapshotIsRefused: a replica's own snapshot that was overtaken by an
// installed one does not take its place.
func TestOlderSnapshotIsRefused(t *testing.T) {
	h := startHosts(t, StoreWAL, 1)
	h.open(1, 1)
	h.propose(numbers(0, 5)...)
	g := h.group[1]
	own, err := g.snapshots.Create(1, 4, 1, raft.Configuration{}, 1, g.trans)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := g.snapshots.Create(1, 1000, 1, raft.Configuration{}, 1, g.trans)
	if err != nil {
		t.Fatal(err)
	}
	write := func(s raft.SnapshotSink, text string) {
		if _, err := io.WriteString(s, text); err != nil {
			t.Fatal(err)
		}
	}
	write(own, "old")
	write(newer, "new")
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := own.Close(); err == nil {
		t.Fatal("the older snapshot was taken")
	}
	if b, _, err := g.newestManifest(); err != nil || string(b) != "new" {
		t.Fatalf("got %q, %v", b, err)
	}
}

// TestIdleFollowerIsGivenUp: a round whose follower fetches nothing ends.
func TestIdleFollowerIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &round{ctx: ctx, cancel: cancel, throttle: newThrottle(-1), idle: time.AfterFunc(0, func() { cancel(errIdle) })}
	<-ctx.Done()
	r.sender = &stageSender{}
	if _, err := r.read(0, 0, 1); !errors.Is(err, errIdle) {
		t.Fatalf("got %v", err)
	}
}
