package replication

import (
	"context"
	"errors"
	"sort"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var keySnapshotIndex = []byte("SnapshotIndex")

// recordedSnapshots also notes the index of the newest snapshot in the group's
// log, so that a manifest that was lost is noticed at the next start.
type recordedSnapshots struct {
	raft.SnapshotStore
	stable raft.StableStore
}

func (s *recordedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &recordedSink{SnapshotSink: sink, stable: s.stable, index: index}, nil
}

type recordedSink struct {
	raft.SnapshotSink
	stable raft.StableStore
	index  uint64
	done   bool
}

func (s *recordedSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return s.stable.SetUint64(keySnapshotIndex, s.index)
}

func (s *recordedSink) Cancel() error {
	s.done = true
	return s.SnapshotSink.Cancel()
}

const (
	snapshotCheck   = 500 * time.Millisecond
	snapshotWorkers = 2
	// stagingFactor times SnapshotBytes may gather in the log of a group that
	// is sending segments to a follower, before it takes a snapshot regardless.
	stagingFactor = 4
)

// snapshotLoop takes snapshots of groups whose live log has grown, the largest first.
func (h *Host) snapshotLoop(ctx context.Context) {
	tick := time.NewTicker(snapshotCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := h.dueSnapshots()
		var wg sync.WaitGroup
		slots := make(chan struct{}, snapshotWorkers)
		for _, g := range due {
			if ctx.Err() != nil {
				break
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := g.Snapshot(); err != nil && ctx.Err() == nil {
					g.log.Warn("snapshot failed, the log can't be released; trying again", "err", err)
				}
			})
		}
		wg.Wait()
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
		if g.staging.Load() > 0 {
			limit *= stagingFactor
		}
		if _, bytes := s.Size(); bytes > limit || g.replica == pinning {
			due = append(due, item{g, bytes})
		}
	}
	sort.Slice(due, func(i, j int) bool { return due[i].bytes > due[j].bytes })
	groups = groups[:0]
	for _, d := range due {
		groups = append(groups, d.g)
	}
	return groups
}

// leastSnapshot is the live log in bytes below which a snapshot frees too
// little to be worth its fsyncs.
const leastSnapshot = 1 << 20

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
		err := g.raft.ReloadConfig(raft.ReloadableConfig{
			TrailingLogs:      g.trailing(s),
			SnapshotInterval:  24 * time.Hour,
			SnapshotThreshold: 1 << 60,
			HeartbeatTimeout:  g.host.cfg.HeartbeatTimeout,
			ElectionTimeout:   g.host.cfg.ElectionTimeout,
		})
		if err != nil {
			return err
		}
	}
	err := g.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) || errors.Is(err, raft.ErrRaftShutdown) {
		return nil
	}
	return err
}

// trailing is the number of entries whose bytes fit into TrailingBytes, or into
// the group's share of the log if that is less.
func (g *Group) trailing(s sized) uint64 {
	first, err := g.store.FirstIndex()
	if err != nil || first == 0 {
		return 1
	}
	last, err := g.store.LastIndex()
	if err != nil {
		return 1
	}
	g.host.mu.Lock()
	groups := len(g.host.groups)
	g.host.mu.Unlock()
	keep := min(g.host.cfg.TrailingBytes, max(g.host.cfg.WALSizeLimit/8/int64(max(groups, 1)), 64<<10))
	n := sort.Search(int(last-first+1), func(i int) bool {
		return s.BytesFrom(first+uint64(i)) <= keep
	})
	return max(1, last-first+1-uint64(n))
}
