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
	// Hold, if set, has the proposer wait before the leadership is handed over:
	// it returns once nothing that was proposed is in flight any more, or ctx has
	// ended, and nothing more is proposed until release is called.
	Hold func(ctx context.Context) (release func())
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
	target     atomic.Pointer[Target]
	reached    atomic.Pointer[Target] // a target that needs no more steps
	moving     atomic.Bool            // a membership step is under way
	appliedIn  uint64                 // all before this term of its own is applied; belongs to moving
	leaving    atomic.Bool            // the leadership is being handed over
	newest     atomic.Pointer[members]
	sendingTo  sync.Map // followers that raft has no entries for: they are sent segments
	end        snapshotEnd
	electable
	care   leaderCare
	lag    lag
	rounds rounds // of followers, by which they are promoted and counted on
	// staging counts followers that are being sent segments; snapshots are
	// rarer meanwhile, and until lingers has passed, so that the log still
	// reaches back to their manifest.
	staging   atomic.Int32
	lingers   atomic.Int64 // Unix nanoseconds
	receiving receiving

	life      context.Context // until Close
	cancel    context.CancelFunc
	done      chan struct{}
	closeOnce sync.Once
	closeErr  error
}

// maxAppendEntries keeps a message within about 16 MiB: entries hold up to 1 MiB.
const maxAppendEntries = 16

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
	g.snapshots = h.recordedSnapshots(cfg.Replica, g.store, &g.end, g.beginInstall)
	if g.trans, err = h.net.Group(cfg.Replica); err != nil {
		return nil, err
	}
	g.trans.SetInstaller(func(ctx context.Context, peer uint64, manifest []byte, send func() error) error {
		g.sendingTo.Store(peer, true)
		defer g.sendingTo.Delete(peer)
		return g.stageAt(ctx, peer, manifest, send)
	})
	g.trans.SetPacer(g.paceHistory)
	if err := g.bootstrapOnce(); err != nil {
		return nil, err
	}
	if err := g.checkReach(); err != nil {
		return nil, err
	}
	if g.raft, err = raft.NewRaft(g.raftConfig(), fsm{cfg.StateMachine, g}, groupLog{g.store, &g.end}, g.store, g.snapshots, g.trans); err != nil {
		return nil, err
	}
	g.trans.SetCommitted(g.raft.CommitIndex)
	g.trans.SetScreen(g.screen)
	g.raft.RegisterObserver(raft.NewObserver(g.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	}))
	g.life, g.cancel = context.WithCancel(h.ctx)
	go g.run(g.life)
	if err := h.publish(g); err != nil {
		g.stop()
		return nil, err
	}
	h.failover.poke()
	return g, nil
}

func (g *Group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = serverID(g.replica)
	c.HeartbeatTimeout = g.host.cfg.HeartbeatTimeout
	c.ElectionTimeout = g.host.cfg.ElectionTimeout
	c.LeaderLeaseTimeout = g.host.cfg.HeartbeatTimeout / 2 // ours is checkMajority
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
		g.end.set(have, list[0].Term)
	}
	if have < recorded {
		return fmt.Errorf("the newest manifest is at index %d, but one at %d was durable: the log of manifests is damaged; remove the replica and let it be rebuilt", have, recorded)
	}
	// A snapshot may have been installed and the log before it not removed yet.
	if err := dropForeign(g.store, g.end.get()); err != nil {
		return err
	}
	first, err := g.store.FirstIndex()
	if err != nil {
		return err
	}
	if first > have+1 {
		return fmt.Errorf("the log begins at index %d and the newest manifest ends at %d: entries between are missing; remove the replica and let it be rebuilt", first, have)
	}
	return nil
}

// run follows raft's leadership and moves the membership, until ctx ends.
func (g *Group) run(ctx context.Context) {
	defer close(g.done)
	var steps sync.WaitGroup
	defer steps.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.notify:
		case <-g.observed:
		case <-g.kick:
			// A step may take as long as its entry needs to be committed.
			if g.moving.CompareAndSwap(false, true) {
				steps.Go(func() {
					defer g.moving.Store(false)
					g.moveMembership(ctx)
				})
			}
		}
		g.refreshStatus()
	}
}

func (g *Group) refreshStatus() {
	now := g.lookUp()
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
	if old.Leading && now.Term != old.Term || old.Leading && !now.Leading {
		// A replication goroutine of the lost term may wait for a follower
		// that is down. By now this replica may lead in a later one.
		g.trans.InterruptTo(old.Term)
	}
	if now.Leader == 0 {
		g.host.failover.poke()
	}
	if g.cfg.OnStatus != nil {
		g.cfg.OnStatus(now)
	}
}

// lookUp reads raft's leader and term as they belong together.
func (g *Group) lookUp() Status {
	for {
		term := g.raft.CurrentTerm()
		_, id := g.raft.LeaderWithID()
		leading := g.raft.State() == raft.Leader
		if g.raft.CurrentTerm() == term {
			return Status{Leader: replicaOf(id), Term: term, Leading: leading}
		}
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
func (g *Group) VerifyLeader() error {
	defer g.trans.Hurry()()
	return g.raft.VerifyLeader().Error()
}

// AppliedIndex is the index of the last applied entry.
func (g *Group) AppliedIndex() uint64 { return g.raft.AppliedIndex() }

// LastIndex is the index of the last entry of the log, committed or not.
func (g *Group) LastIndex() uint64 { return g.raft.LastIndex() }

// isStaging says whether a follower is being sent segments.
func (g *Group) isStaging(follower uint64) bool {
	_, is := g.sendingTo.Load(follower)
	return is
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
	g.receiving.close()
	// Raft waits for its goroutines, and those may be in the transport; run waits
	// for a membership step, which may wait for raft.
	shutdown := g.raft.Shutdown()
	err := errors.Join(g.trans.Close(), shutdown.Error())
	<-g.done
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
