package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

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
	c.LeaderLeaseTimeout = g.host.cfg.HeartbeatTimeout // ours is checkMajority; raft looks the less often the longer it is
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
