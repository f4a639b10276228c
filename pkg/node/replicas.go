package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/replication"
)

// replicas opens and closes this node's replicas as the view says: one step at
// a time for a partition, several partitions at once.
//
// A replica is opened when an assignment names it with this node and this
// incarnation, and when it is on disk: one that no assignment names any more may
// still be needed, and goes on as it was. It is deleted only when a tombstone names
// its topic, or its group's leader has confirmed that it was removed (free.go); a
// key that is merely missing closes and deletes nothing.
//
// A partition may have two replicas here: one that is being removed, and a new one
// that came back under another id.
type replicas struct {
	fs          vfs.FS
	dir         string
	self        int32
	incarnation string
	host        *replication.Host
	segments    seglog.Options
	static      map[string]string // see staticConfig
	bases       atomic.Pointer[baseSettings]
	now         func() time.Time
	log         *slog.Logger
	onStatus    func(id partitionID, replica uint64, s replication.Status)
	// found is told when a replica that was opened and leads already can be found.
	found func()
	// stepped is told of each replica that was opened or removed.
	stepped func()
	// damaged is told of each damaged segment; closed is set if that keeps the
	// replica from being opened.
	damaged func(id partitionID, replica uint64, segment int64, err *seglog.DamageError, closed *partition.DamagedError)
	// compact is told of each replica that has something to compact.
	compact func(id partitionID, replica uint64)
	upkeep  time.Duration // partition.Config.UpkeepInterval
	metrics *partition.Metrics

	mu     sync.Mutex
	open   map[uint64]*opened
	list   []*opened                 // what open holds; nil when that has changed
	of     map[partitionID][]*opened // the open replicas of each partition
	busy   map[partitionID]bool      // being opened or removed
	opens  map[partitionID]bool      // a replica is being opened
	fail   map[partitionID]time.Time
	told   map[partitionID]string          // the failure that was logged
	onDisk map[uint64]replicaFile          // replicas with a directory
	aside  map[uint64]bool                 // replicas that are never opened again, see setaside.go
	freed  map[partitionID]map[uint64]bool // replicas whose data was removed, see freed.go
	// retired are replicas that a peer says are to be set aside, with what their
	// partition began anew as.
	retired map[uint64]uint64
}

type opened struct {
	id      partitionID
	topic   string
	replica uint64
	p       *partition.Partition
}

const (
	openWorkers = 8
	openRetry   = 5 * time.Second
)

// get returns the open replica of a partition; of two the one that leads, or else
// the newer.
func (r *replicas) get(id partitionID) (*partition.Partition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best *opened
	for _, o := range r.of[id] {
		if best == nil || o.p.Group().Status().Leading || o.replica > best.replica && !best.p.Group().Status().Leading {
			best = o
		}
	}
	if best == nil {
		return nil, false
	}
	return best.p, true
}

// opening says whether a replica of a partition is being opened. It may lead
// before it can be found.
func (r *replicas) opening(id partitionID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opens[id]
}

func (r *replicas) setOpening(id partitionID, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is {
		r.opens[id] = true
	} else {
		delete(r.opens, id)
	}
}

// count is the number of open replicas.
func (r *replicas) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// all returns the open replicas. The slice is shared: it is the same one until a
// replica was opened or closed, and must not be changed.
func (r *replicas) all() []*opened {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = slices.AppendSeq(make([]*opened, 0, len(r.open)), maps.Values(r.open))
	}
	return r.list
}

// each calls fn for all open replicas.
func (r *replicas) each(fn func(partitionID, *partition.Partition)) {
	for _, o := range r.all() {
		fn(o.id, o.p)
	}
}

// byReplica returns an open replica by its id.
func (r *replicas) byReplica(replica uint64) (*partition.Partition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.open[replica]
	if o == nil {
		return nil, false
	}
	return o.p, true
}

// openOf returns the open replicas of a partition.
func (r *replicas) openOf(id partitionID) []*opened {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.of[id])
}

func (r *replicas) add(o *opened) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[o.replica], r.list = o, nil
	r.of[o.id] = append(r.of[o.id], o)
	delete(r.opens, o.id)
}

// drop takes an open replica out, for the caller to close.
func (r *replicas) drop(replica uint64) *opened {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.open[replica]
	if o == nil {
		return nil
	}
	delete(r.open, replica)
	r.list = nil
	r.of[o.id] = slices.DeleteFunc(r.of[o.id], func(other *opened) bool { return other == o })
	if len(r.of[o.id]) == 0 {
		delete(r.of, o.id)
	}
	return o
}

// reconcile brings the open replicas in line with a view, and returns when it
// has done what can be done now; pending says that something failed and is to
// be tried again.
func (r *replicas) reconcile(ctx context.Context, v *cluster.View) (pending bool) {
	var jobs []job
	add := func(id partitionID, do func() error) {
		ok, later := r.begin(id)
		if pending = pending || later; ok {
			jobs = append(jobs, job{id, do})
		}
	}
	named := make(map[uint64]bool)
	for tp, a := range v.Assignments {
		id := partitionID{a.TopicID, tp.Partition}
		if _, deleted := v.Deleted[a.TopicID]; deleted {
			continue
		}
		settings := r.settings(v, tp.Topic)
		replica, mine, freed := r.mine(id, a)
		if freed {
			r.refuse(id, tp.Topic, replica)
		}
		named[replica] = mine
		if up := r.givenUp(id, a); len(up) > 0 {
			add(id, func() error {
				if err := r.setAside(id, tp.Topic, up); err != nil {
					return err
				}
				if replica, mine, _ := r.mine(id, a); mine { // not one that was just set aside
					return r.openOne(id, tp.Topic, replica, a, settings)
				}
				return nil
			})
			continue
		}
		for _, o := range r.openOf(id) {
			o.p.SetSettings(settings)
			o.p.Group().SetTarget(target(a))
			mine = mine && o.replica != replica
		}
		if mine {
			add(id, func() error { return r.openOne(id, tp.Topic, replica, a, settings) })
		}
	}
	for replica, f := range r.closedFormer(v, named) {
		id := f.id()
		a := v.Assignments[cluster.TopicPartition{Topic: f.Topic, Partition: f.Index}]
		add(id, func() error { return r.openFormer(f, replica, a, r.settings(v, f.Topic)) })
	}
	for replica, id := range r.doomed(v) {
		add(id, func() error { return r.deleteOne(id, replica, "its topic was deleted") })
	}
	for replica, id := range r.halfFreed() {
		add(id, func() error { return r.finishFreed(id, replica) })
	}
	failed := r.do(ctx, jobs)
	if err := r.forgetFreed(v); err != nil {
		r.log.Warn("a note of a deleted topic stays", "err", err)
	}
	return failed || pending
}

// job is a step for one partition.
type job struct {
	id partitionID
	do func() error
}

// begin says whether a step may be taken for a partition now, which end ends, or
// whether it is to be tried later.
func (r *replicas) begin(id partitionID) (ok, later bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[id] {
		return false, true
	}
	if at, failed := r.fail[id]; failed && time.Since(at) < openRetry {
		return false, true
	}
	r.busy[id] = true
	return true, false
}

func (r *replicas) end(id partitionID, err error) {
	r.mu.Lock()
	delete(r.busy, id)
	delete(r.fail, id)
	if err != nil {
		r.fail[id] = time.Now()
	}
	r.mu.Unlock()
	if r.sayOnce(id, err) {
		r.log.Error("replica can't be opened or removed, trying again", "topic_id", id.topicID, "partition", id.index, "err", err)
	}
}

// do takes steps, several at once; failed says that some are to be tried again.
func (r *replicas) do(ctx context.Context, jobs []job) bool {
	slots := make(chan struct{}, openWorkers)
	var wg sync.WaitGroup
	var failed atomic.Bool
	for _, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if ctx.Err() == nil {
				err = j.do()
			}
			r.end(j.id, err)
			r.stepped()
			if err != nil {
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	return failed.Load()
}

// mine is the replica of a partition that this node shall have; freed says that it
// must not, for it had it before.
func (r *replicas) mine(id partitionID, a cluster.Assignment) (replica uint64, mine, freed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rep := range a.Replicas {
		if rep.Node == r.self && rep.Incarnation == r.incarnation && !r.aside[rep.ID] {
			freed = r.wasFreedLocked(id, rep.ID)
			return rep.ID, !freed, freed
		}
	}
	return 0, false, false
}

func target(a cluster.Assignment) replication.Target {
	return replication.Target{Epoch: a.Epoch, Generation: a.Generation, Replicas: replicaIDs(a.Replicas), Former: replicaIDs(a.Former)}
}

func replicaIDs(rs []cluster.Replica) []uint64 {
	ids := make([]uint64, len(rs))
	for i, r := range rs {
		ids[i] = r.ID
	}
	return ids
}

// close closes all replicas.
func (r *replicas) close() error {
	r.mu.Lock()
	all := r.open
	r.open, r.list, r.of = make(map[uint64]*opened), nil, make(map[partitionID][]*opened)
	r.mu.Unlock()
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	for _, o := range all {
		wg.Go(func() {
			if err := o.p.Close(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
