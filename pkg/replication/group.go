package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/raftnet"
)

// GroupConfig describes one replica of a group.
type GroupConfig struct {
	// Replica is this replica's id.
	Replica uint64
	// Name is for logs.
	Name string
	// Initial are the replicas of the group's first configuration, in preference
	// order. If this replica is one of them and holds nothing yet it bootstraps
	// the group, once: that it did is recorded durably.
	Initial []uint64
	// StateMachine is what the group replicates.
	StateMachine StateMachine
	// OnStatus is told each change of leadership as this replica sees it, one
	// call at a time. It must not block.
	OnStatus func(Status)
	// Membership connects targets with the group's replicated state; nil if the
	// group's membership never changes.
	Membership Membership
}

// Status is what a replica knows of its group's leadership.
type Status struct {
	Leader  uint64 // replica id, 0 when none is known
	Term    uint64
	Leading bool // this replica leads
}

// leadership is a replica's term as the leader.
type leadership struct{ leader, term uint64 }

// Group is one open replica of a replicated state machine.
type Group struct {
	host    *Host
	cfg     GroupConfig
	replica uint64
	log     *slog.Logger

	store     store
	snapshots raft.SnapshotStore
	trans     *raftnet.Transport
	raft      *raft.Raft
	notify    chan bool
	observed  chan raft.Observation
	kick      chan struct{} // a new target, or something that may unblock a step

	status     atomic.Pointer[Status]
	leadership atomic.Pointer[leadership] // the last that was known
	fresh      bool                       // it bootstrapped now and is to be the first leader
	target     atomic.Pointer[Target]
	// staging counts followers that are being sent segments; no snapshot is
	// taken meanwhile, so that the log still reaches back to their manifest.
	staging atomic.Int32

	cancel    context.CancelFunc
	done      chan struct{}
	closeOnce sync.Once
	closeErr  error
}

// maxAppendEntries keeps a message within about 16 MiB: entries hold up to 1 MiB.
const maxAppendEntries = 16

const (
	firstElection     = 40 * time.Millisecond // between the tries of a new group's preferred leader
	maxFirstElections = 50
)

// OpenGroup opens a replica. It returns when the state machine was restored
// from the newest manifest; the rest of the log is applied once the group has
// a leader.
func (h *Host) OpenGroup(cfg GroupConfig) (_ *Group, err error) {
	g := &Group{
		host: h, cfg: cfg, replica: cfg.Replica, log: h.logger(cfg.Name, cfg.Replica),
		notify: make(chan bool, 8), observed: make(chan raft.Observation, 16), kick: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	g.status.Store(&Status{})
	g.leadership.Store(&leadership{})
	if err := h.reserve(cfg.Replica); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.remove(cfg.Replica)
			if g.trans != nil {
				err = errors.Join(err, g.trans.Close())
			}
			if g.store != nil {
				err = errors.Join(err, g.store.Close())
			}
			err = fmt.Errorf("open replica %d of %s: %w", cfg.Replica, cfg.Name, err)
		}
	}()
	if g.store, err = h.openStore(cfg.Replica); err != nil {
		return nil, err
	}
	g.snapshots = &recordedSnapshots{SnapshotStore: h.manifests.Group(cfg.Replica), stable: g.store}
	if g.trans, err = h.net.Group(cfg.Replica); err != nil {
		return nil, err
	}
	g.trans.SetInstaller(g.stageAt)
	if err := g.bootstrapOnce(); err != nil {
		return nil, err
	}
	if err := g.checkReach(); err != nil {
		return nil, err
	}
	if g.raft, err = raft.NewRaft(g.raftConfig(), fsm{cfg.StateMachine}, g.store, g.store, g.snapshots, g.trans); err != nil {
		return nil, err
	}
	g.raft.RegisterObserver(raft.NewObserver(g.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	}))
	ctx, cancel := context.WithCancel(h.ctx)
	g.cancel = cancel
	go g.run(ctx)
	if err := h.publish(g); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

func (g *Group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = serverID(g.replica)
	c.HeartbeatTimeout = g.host.cfg.HeartbeatTimeout
	c.ElectionTimeout = g.host.cfg.ElectionTimeout
	c.LeaderLeaseTimeout = g.host.cfg.LeaderLease
	c.CommitTimeout = g.host.cfg.CommitTimeout
	c.MaxAppendEntries = maxAppendEntries
	// Entries that wait in a buffered channel when raft shuts down are never
	// answered; a proposer that blocks gathers larger ones meanwhile.
	c.BatchApplyCh = false
	c.NotifyCh = g.notify
	c.Logger = &raftLogger{log: g.log}
	c.NoLegacyTelemetry = true
	// Snapshots are taken by snapshotLoop, by bytes; these two only keep raft
	// from taking them on its own.
	c.SnapshotInterval = 24 * time.Hour
	c.SnapshotThreshold = 1 << 60
	c.TrailingLogs = 1024
	if g.host.wal == nil {
		// raft-boltdb does not say how many bytes it holds: raft counts entries.
		c.SnapshotInterval = 30 * time.Second
		c.SnapshotThreshold = 4096
	}
	return c
}

var keyBootstrapped = []byte("Bootstrapped")

// bootstrapOnce writes the group's first configuration if this replica belongs
// to it and never did so.
func (g *Group) bootstrapOnce() error {
	done, err := getUint64(g.store, keyBootstrapped)
	if err != nil {
		return err
	}
	exists, err := raft.HasExistingState(g.store, g.store, g.snapshots)
	if err != nil {
		return err
	}
	if done == 1 {
		if !exists {
			return errors.New("it was bootstrapped once and its log is empty now: the log was lost; remove the replica and let it be rebuilt")
		}
		return nil
	}
	var configuration raft.Configuration
	mine := false
	for _, id := range g.cfg.Initial {
		mine = mine || id == g.replica
		configuration.Servers = append(configuration.Servers, raft.Server{Suffrage: raft.Voter, ID: serverID(id), Address: serverAddr(id)})
	}
	if !mine {
		return nil
	}
	if !exists {
		if err := raft.BootstrapCluster(g.raftConfig(), g.store, g.store, g.snapshots, g.trans, configuration); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		g.fresh = g.cfg.Initial[0] == g.replica
	}
	return g.store.SetUint64(keyBootstrapped, 1)
}

// checkReach refuses a log that does not reach back to the newest manifest:
// raft would apply what there is and leave a hole.
func (g *Group) checkReach() error {
	recorded, err := getUint64(g.store, keySnapshotIndex)
	if err != nil {
		return err
	}
	list, err := g.snapshots.List()
	if err != nil {
		return err
	}
	var have uint64
	if len(list) > 0 {
		have = list[0].Index
	}
	if have < recorded {
		return fmt.Errorf("the newest manifest is at index %d, but one at %d was durable: the log of manifests is damaged; remove the replica and let it be rebuilt", have, recorded)
	}
	first, err := g.store.FirstIndex()
	if err != nil {
		return err
	}
	last, err := g.store.LastIndex()
	if err != nil {
		return err
	}
	if last != 0 && have >= last {
		// A snapshot was installed and the log behind it was not removed yet.
		// What raft appends next would not follow it.
		return g.store.DeleteRange(first, last)
	}
	if first > have+1 {
		return fmt.Errorf("the log begins at index %d and the newest manifest ends at %d: entries between are missing; remove the replica and let it be rebuilt", first, have)
	}
	return nil
}

// run follows raft's leadership and moves the membership, until ctx ends.
func (g *Group) run(ctx context.Context) {
	defer close(g.done)
	steps := time.NewTicker(250 * time.Millisecond)
	defer steps.Stop()
	first := time.NewTicker(firstElection)
	defer first.Stop()
	if !g.fresh {
		first.Stop()
	}
	for try := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-first.C:
			// A new group's preferred leader does not wait for timers, only for
			// the others to open their replicas.
			if try++; g.leadership.Load().leader != 0 || try > maxFirstElections {
				first.Stop()
				continue
			}
			g.stand(try > 1)
		case <-g.notify:
		case <-g.observed:
		case <-g.kick:
			g.moveMembership(ctx)
		case <-steps.C:
			if g.target.Load() == nil && g.status.Load().Leader != 0 {
				continue // nothing to do, nothing to pay
			}
			g.moveMembership(ctx)
		}
		g.refreshStatus()
	}
}

func (g *Group) refreshStatus() {
	_, id := g.raft.LeaderWithID()
	now := Status{Leader: replicaOf(id), Term: g.raft.CurrentTerm(), Leading: g.raft.State() == raft.Leader}
	if now.Leading {
		now.Leader = g.replica
	} else if now.Leader == g.replica {
		now.Leader = 0
	}
	old := *g.status.Load()
	if now == old {
		return
	}
	g.status.Store(&now)
	if now.Leader != 0 {
		g.leadership.Store(&leadership{now.Leader, now.Term})
	}
	if old.Leading && !now.Leading {
		// A replication goroutine of the lost term may wait for a follower
		// that is down.
		g.trans.Interrupt()
	}
	if g.cfg.OnStatus != nil {
		g.cfg.OnStatus(now)
	}
}

// Replica returns the replica's id.
func (g *Group) Replica() uint64 { return g.replica }

// Status returns what is known of the leadership.
func (g *Group) Status() Status { return *g.status.Load() }

// Propose hands an entry to raft. It returns when the entry is queued; the
// future answers when the entry was applied here, with the state machine's
// response, or when it is known that this replica does not lead. With
// raft.ErrLeadershipLost the outcome is unknown. data and ext are read until
// the last follower has them: never change them.
func (g *Group) Propose(data, ext []byte) raft.ApplyFuture {
	return g.raft.ApplyLog(raft.Log{Data: data, Extensions: ext}, 0)
}

// VerifyLeader returns nil once a majority has confirmed that this replica leads.
func (g *Group) VerifyLeader() error { return g.raft.VerifyLeader().Error() }

// AppliedIndex is the index of the last applied entry.
func (g *Group) AppliedIndex() uint64 { return g.raft.AppliedIndex() }

// LastIndex is the index of the last entry of the log, committed or not.
func (g *Group) LastIndex() uint64 { return g.raft.LastIndex() }

// Transfer hands the leadership to another replica, and returns when it was
// handed over or can't be.
func (g *Group) Transfer(to uint64) error {
	return g.raft.LeadershipTransferToServer(serverID(to), serverAddr(to)).Error()
}

// Close stops the replica and waits for all that it started.
func (g *Group) Close() error {
	g.closeOnce.Do(func() {
		g.closeErr = errors.Join(g.stop(), g.store.Close())
		g.host.remove(g.replica)
		g.status.Store(&Status{})
	})
	return g.closeErr
}

func (g *Group) stop() error {
	g.cancel()
	<-g.done
	shutdown := g.raft.Shutdown()
	// Raft waits for its goroutines, and those may be in the transport.
	err := errors.Join(g.trans.Close(), shutdown.Error())
	g.drain()
	return err
}

// drain empties the notify channel, which raft may have filled while it stopped.
func (g *Group) drain() {
	for {
		select {
		case <-g.notify:
		default:
			return
		}
	}
}
