package replication

import (
	"context"
	"errors"
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
	reached    atomic.Pointer[Target]    // a target that needs no more steps
	moving     atomic.Bool               // a membership step is under way
	orphanedAt atomic.Pointer[time.Time] // since when there is no leader; nil: there is one, or nobody knows
	appliedIn  uint64                    // all before this term of its own is applied; belongs to moving
	leaving    atomic.Bool               // the leadership is being handed over
	newest     atomic.Pointer[members]
	sendingTo  sync.Map // followers that raft has no entries for: they are sent segments
	end        snapshotEnd
	electable
	care    leaderCare
	lag     lag
	readers readers
	rounds  rounds // of followers, by which they are promoted and counted on
	// staging counts followers that are being sent segments; snapshots are
	// rarer meanwhile, and until lingers has passed, so that the log still
	// reaches back to their manifest.
	staging   atomic.Int32
	lingers   atomic.Int64 // Unix nanoseconds
	receiving receiving
	wanted    wanted

	life      context.Context // until Close
	cancel    context.CancelFunc
	done      chan struct{}
	closeOnce sync.Once
	closeErr  error
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
	g.host.metrics.changed(g, old, now)
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
