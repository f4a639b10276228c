package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

var keySnapshotIndex = []byte("SnapshotIndex")

// recordedSnapshots also notes the index of the newest snapshot in the group's
// log, so that a manifest that was lost is noticed at the next start. It takes
// no snapshot older than the newest one, and no leader's manifest whose files
// are not staged.
type recordedSnapshots struct {
	raft.SnapshotStore
	stable raft.StableStore
	log    raft.LogStore
	end    *snapshotEnd // of the newest one
	// ready is asked before a leader's manifest becomes durable.
	ready func(manifest []byte) error

	mu sync.Mutex // one snapshot becomes durable at a time
}

func (h *Host) recordedSnapshots(replica uint64, st store, end *snapshotEnd, ready func(manifest []byte) error) *recordedSnapshots {
	return &recordedSnapshots{SnapshotStore: h.manifests.Group(replica), stable: st, log: st, end: end, ready: ready}
}

func (s *recordedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &recordedSink{SnapshotSink: sink, snapshots: s, index: index, term: term}, nil
}

type recordedSink struct {
	raft.SnapshotSink
	snapshots *recordedSnapshots
	index     uint64
	term      uint64
	own       bool         // it describes this replica's live state
	manifest  bytes.Buffer // of a leader
	done      bool
}

func (s *recordedSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	if !s.own {
		s.manifest.Write(p[:n])
	}
	return n, err
}

func (s *recordedSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.snapshots.mu.Lock()
	defer s.snapshots.mu.Unlock()
	if err := s.check(); err != nil {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	s.snapshots.end.set(s.index, s.term)
	if !s.own {
		if err := dropForeign(s.snapshots.log, s.snapshots.end.get()); err != nil {
			return err
		}
	}
	return s.snapshots.stable.SetUint64(keySnapshotIndex, s.index)
}

// check refuses what would leave the replica without the files of its newest
// manifest. A snapshot of its own may be overtaken by one of the leader's while
// its segments are being synced; those it names may be gone then.
func (s *recordedSink) check() error {
	list, err := s.snapshots.List()
	if err != nil {
		return err
	}
	if len(list) > 0 && list[0].Index > s.index {
		return fmt.Errorf("snapshot at index %d: one at %d is there already", s.index, list[0].Index)
	}
	if s.own || s.snapshots.ready == nil {
		return nil
	}
	return s.snapshots.ready(s.manifest.Bytes())
}

func (s *recordedSink) Cancel() error {
	s.done = true
	return s.SnapshotSink.Cancel()
}

const (
	snapshotCheck = 500 * time.Millisecond
	// snapshotsAtOnce share the syncs of their segments, one fsync of the log of
	// manifests and one of the write-ahead log; each is a waiting goroutine.
	snapshotsAtOnce = 256
	// stagingFactor times SnapshotBytes may gather in the log of a group that
	// is sending segments to a follower, before it takes a snapshot regardless.
	stagingFactor = 4
)

// snapshotLoop takes snapshots of groups whose live log has grown, the largest
// first, and all that are due together: what they cost in syncs does not grow
// with their number.
func (h *Host) snapshotLoop(ctx context.Context) {
	tick := time.NewTicker(snapshotCheck)
	defer tick.Stop()
	var rest rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if h.wal != nil && rest.holds(h.wal.Written(), time.Now()) {
				continue
			}
		case <-h.pressure:
		}
		due := h.dueSnapshots()
		rest.note(len(due))
		var wg sync.WaitGroup
		slots := make(chan struct{}, snapshotsAtOnce)
		for _, g := range due {
			if ctx.Err() != nil {
				break
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := g.Snapshot(); err != nil && ctx.Err() == nil && !errors.Is(err, syscall.ENOSPC) { // who found no space says so
					g.log.Warn("snapshot failed, the log can't be released; trying again", "err", err)
				}
			})
		}
		wg.Wait()
	}
}

// rest keeps snapshotLoop from looking at all groups while their logs do not grow.
type rest struct {
	written uint64 // by the log, at the last look
	looked  time.Time
	none    bool // was due then
}

// longestRest is when groups are looked at although nothing was written: a
// group's limit falls when it has sent its segments to a follower.
const longestRest = 10 * time.Second

// holds says whether another look can wait. If not, it is made now.
func (r *rest) holds(written uint64, now time.Time) bool {
	if r.none && written == r.written && now.Sub(r.looked) < longestRest {
		return true
	}
	r.written, r.looked = written, now
	return false
}

// note says how many snapshots the look found due.
func (r *rest) note(due int) { r.none = due == 0 }

// hastenSnapshots is called by the log. It never blocks.
func (h *Host) hastenSnapshots() {
	select {
	case h.pressure <- struct{}{}:
	default:
	}
}

func (h *Host) dueSnapshots() []*Group {
	type item struct {
		g     *Group
		bytes int64
	}
	var due []item
	groups := h.Groups()
	base, pinning := h.snapshotLimit(len(groups))
	for _, g := range groups {
		s, ok := g.store.(sized)
		if !ok || g.raft == nil {
			continue
		}
		limit := base
		if g.sending(time.Now()) {
			limit *= stagingFactor
		}
		if _, bytes := s.Size(); bytes > limit || g.replica == pinning || g.wanted.due(time.Now()) {
			due = append(due, item{g, bytes})
		}
	}
	sort.Slice(due, func(i, j int) bool { return due[i].bytes > due[j].bytes })
	sorted := make([]*Group, len(due))
	for i, d := range due {
		sorted[i] = d.g
	}
	return sorted
}

// leastSnapshot is the live log in bytes below which a snapshot frees too
// little to be worth its fsyncs.
const leastSnapshot = 64 << 10

// snapshotLimit is the size of a group's live log above which it is due. When
// the whole log is past half its limit each group has a share only, and the one
// that pins the oldest file is due in any case.
func (h *Host) snapshotLimit(groups int) (limit int64, pinning uint64) {
	limit = h.cfg.SnapshotBytes
	if h.wal == nil {
		return limit, 0
	}
	stats := h.wal.Stats()
	if stats.SizeBytes < h.cfg.WALSizeLimit/2 {
		return limit, 0
	}
	share := h.cfg.WALSizeLimit / 8 / int64(max(groups, 1))
	return min(limit, max(share, leastSnapshot)), stats.PinnedBy
}

// Snapshot takes a snapshot now, and releases the log behind it but for what
// followers may still need. That there is nothing new is no error.
func (g *Group) Snapshot() error {
	if s, ok := g.store.(sized); ok {
		if err := g.raft.ReloadConfig(g.reloadable(g.trailing(s))); err != nil {
			return err
		}
	}
	err := g.raft.Snapshot().Error()
	g.wanted.taken(err != nil)
	if errors.Is(err, raft.ErrNothingNewToSnapshot) || errors.Is(err, raft.ErrRaftShutdown) {
		return nil
	}
	return err
}

// reloadable is raft's configuration with so many entries kept behind a snapshot.
func (g *Group) reloadable(trailing uint64) raft.ReloadableConfig {
	return raft.ReloadableConfig{
		TrailingLogs:      trailing,
		SnapshotInterval:  24 * time.Hour,
		SnapshotThreshold: 1 << 60,
		HeartbeatTimeout:  g.host.cfg.HeartbeatTimeout,
		ElectionTimeout:   g.host.cfg.ElectionTimeout,
	}
}

// trailing is the number of entries whose bytes fit into TrailingBytes, or into
// the group's share of the log if that is less.
func (g *Group) trailing(s sized) uint64 {
	g.host.mu.Lock()
	groups := len(g.host.groups)
	g.host.mu.Unlock()
	return g.newestWithin(s, min(g.host.cfg.TrailingBytes, max(g.host.cfg.WALSizeLimit/8/int64(max(groups, 1)), 64<<10)))
}

// newestWithin is how many of the newest entries fit into so many bytes, at least 1.
func (g *Group) newestWithin(s sized, bytes int64) uint64 {
	first, err := g.store.FirstIndex()
	if err != nil || first == 0 {
		return 1
	}
	last, err := g.store.LastIndex()
	if err != nil {
		return 1
	}
	n := sort.Search(int(last-first+1), func(i int) bool {
		return s.BytesFrom(first+uint64(i)) <= bytes
	})
	return max(1, last-first+1-uint64(n))
}
