package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/manifest"
	"github.com/raftsman/raftsman/internal/raftnet"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/internal/wal"
)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("replication host is closed")

// Host is this process's share of many raft groups.
type Host struct {
	cfg       Config
	wal       *wal.Log // nil with StoreBoltDB
	manifests *manifest.Store
	net       *raftnet.Net
	failover  *failover
	sources   sources
	places    stagePlaces
	throttle  *throttle // of the segments that are sent to followers
	moves     moveThrottles

	metrics      *metrics
	stageMetrics *stageMetrics
	pressure     chan struct{} // the log needs snapshots now

	ctx    context.Context // ends at Close; parent of everything that the host runs
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	groups map[uint64]*Group // nil while a group is being opened
	list   []*Group          // the open ones of groups, never changed; nil: to be made anew
	closed bool
}

// Open opens the stores and starts listening to peers. Groups are opened one by one.
func Open(cfg Config) (_ *Host, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("replication config: %w", err)
	}
	cfg.setDefaults()
	id := identity.Identity{ClusterID: cfg.ClusterID, NodeID: cfg.NodeID, Incarnation: cfg.Incarnation}
	h := &Host{cfg: cfg, groups: make(map[uint64]*Group), pressure: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.failover = newFailover(h)
	h.places.max, h.throttle = cfg.CatchUps, newThrottle(cfg.CatchUpRate)
	h.moves = moveThrottles{out: newThrottle(cfg.MoveRate), in: newThrottle(cfg.MoveRate)}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.closeStores())
		}
	}()
	if cfg.Store == StoreWAL {
		h.wal, err = wal.Open(wal.Options{
			FS: cfg.FS, Dir: vfs.Join(cfg.Dir, "wal"), Identity: id, Logger: cfg.Logger,
			FileSize: cfg.WALFileSize, SizeLimit: cfg.WALSizeLimit, OnFatal: cfg.OnFatal, Registerer: cfg.Registerer,
			OnPressure: h.hastenSnapshots,
		})
		if err != nil {
			return nil, err
		}
	}
	if cfg.Store == StoreBoltDB {
		if err := cfg.FS.MkdirAll(filepath.Dir(h.boltPath(0))); err != nil {
			return nil, err
		}
	}
	h.manifests, err = manifest.Open(manifest.Options{
		FS: cfg.FS, Dir: vfs.Join(cfg.Dir, "manifests"), Identity: id, Logger: cfg.Logger, OnFatal: cfg.OnFatal,
	})
	if err != nil {
		return nil, err
	}
	h.net, err = raftnet.New(raftnet.Options{
		Identity: id, Listener: cfg.Listener, Dial: cfg.Dial, Resolver: cfg.Resolver, Logger: cfg.Logger,
		Registerer: cfg.Registerer, PingInterval: cfg.PingInterval, PingTimeout: cfg.PingTimeout, Healthy: h.Healthy,
		HeartbeatHold: cfg.HeartbeatTimeout / 2, HeartbeatRepeat: cfg.HeartbeatTimeout / 5,
	})
	if err != nil {
		return nil, err
	}
	if h.metrics, err = newMetrics(h, cfg.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if h.stageMetrics, err = newStageMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	h.handleStaging()
	h.net.Handle(byte(kindMembers), h.handleMembers)
	h.net.Handle(byte(kindReaders), h.handleReaders)
	h.failover.register()
	return h, nil
}

// Start begins to talk to peers, after all handlers were registered.
func (h *Host) Start() error {
	if err := h.net.Start(); err != nil {
		return fmt.Errorf("start peer network: %w", err)
	}
	h.wg.Go(func() { h.failover.run(h.ctx) })
	h.wg.Go(func() { h.snapshotLoop(h.ctx) })
	return nil
}

// spawn runs f on a goroutine that Close waits for; not after Close has begun.
func (h *Host) spawn(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.wg.Go(f)
	}
}

// stuckSync is how long one fsync of the log may last before the node counts
// as unhealthy: it then stops its heartbeats, and others take over.
const stuckSync = 2 * time.Second

// Healthy reports whether the write-ahead log answers. It is false while a
// disk hangs (and for ever after a failed write).
func (h *Host) Healthy() bool {
	if h.wal == nil {
		return true
	}
	if h.wal.Failed() {
		return false
	}
	started, running := h.wal.LastSync()
	return !running || time.Since(started) < stuckSync
}

// WrittenBytes is how much was written to the write-ahead log since it was
// opened; 0 with another store.
func (h *Host) WrittenBytes() uint64 {
	if h.wal == nil {
		return 0
	}
	return h.wal.Stats().WrittenBytes
}

// Fsyncs is how long fsyncs of the write-ahead log took since it was opened; nil
// with another store.
func (h *Host) Fsyncs() prometheus.Metric {
	if h.wal == nil {
		return nil
	}
	return h.wal.Fsyncs()
}

// CommitLatency is how long writes of the write-ahead log, each with its fsync,
// took since a time. It says nothing with StoreBoltDB.
func (h *Host) CommitLatency(since time.Time) wal.Latency {
	if h.wal == nil {
		return wal.Latency{}
	}
	return h.wal.Latency(since)
}

// Net is the network between the nodes, for messages that belong to no group.
func (h *Host) Net() *raftnet.Net { return h.net }

// Group returns an open group.
func (h *Host) Group(replica uint64) (*Group, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[replica]
	return g, g != nil
}

// Groups returns all open groups, in no order. The slice is not to be changed.
func (h *Host) Groups() []*Group {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.groupsLocked()
}

func (h *Host) groupsLocked() []*Group {
	if h.list == nil {
		h.list = make([]*Group, 0, len(h.groups))
		for _, g := range h.groups {
			if g != nil {
				h.list = append(h.list, g)
			}
		}
	}
	return h.list
}

// reserve makes sure that a replica is opened once.
func (h *Host) reserve(replica uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if _, ok := h.groups[replica]; ok {
		return fmt.Errorf("replica %d is open already", replica)
	}
	h.groups[replica] = nil
	return nil
}

// publish makes an opened group visible; it fails if the host was closed meanwhile.
func (h *Host) publish(g *Group) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.groups[g.replica], h.list = g, nil
	return nil
}

func (h *Host) remove(replica uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.groups, replica)
	h.list = nil
}

// Drop forgets all that the stores hold of a closed group, durably. The caller
// is sure that the replica is no longer wanted.
func (h *Host) Drop(replica uint64) error {
	if _, open := h.Group(replica); open {
		return fmt.Errorf("BUG: drop of replica %d while it is open", replica)
	}
	// The manifest goes last: a log without it is a replica that begins anew
	// from its own log, a manifest without a log is one that lost entries.
	var err error
	if h.wal != nil {
		err = h.wal.Drop(replica)
	} else {
		err = h.cfg.FS.RemoveAll(h.boltPath(replica))
	}
	if err != nil {
		return fmt.Errorf("drop replica %d: %w", replica, err)
	}
	if err := h.manifests.Drop(replica); err != nil {
		return fmt.Errorf("drop replica %d: %w", replica, err)
	}
	return nil
}

// Close closes all groups, the network and the stores, in this order, and
// waits for everything that the host started.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	groups := h.groupsLocked()
	h.mu.Unlock()

	h.cancel()
	h.wg.Wait()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for _, g := range groups {
		wg.Go(func() {
			if err := g.Close(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, h.closeStores())...)
}

func (h *Host) closeStores() error {
	h.cancel()
	h.stageMetrics.unregister()
	h.metrics.unregister()
	var errs []error
	if h.net != nil {
		errs = append(errs, h.net.Close())
	}
	if h.manifests != nil {
		errs = append(errs, h.manifests.Close())
	}
	if h.wal != nil {
		errs = append(errs, h.wal.Close())
	}
	return errors.Join(errs...)
}

// logger of a group.
func (h *Host) logger(name string, replica uint64) *slog.Logger {
	return h.cfg.Logger.With("partition", name, "replica", replica)
}
