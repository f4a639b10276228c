package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
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
// incarnation. It is deleted only when a tombstone names its topic; a key that
// is merely missing closes nothing.
type replicas struct {
	fs          vfs.FS
	dir         string
	self        int32
	incarnation string
	host        *replication.Host
	segments    seglog.Options
	defaults    partition.Settings
	now         func() time.Time
	log         *slog.Logger
	onStatus    func(partitionID, replication.Status)

	mu     sync.Mutex
	open   map[partitionID]*opened
	busy   map[partitionID]bool // being opened or removed
	fail   map[partitionID]time.Time
	onDisk map[uint64]partitionID // replicas with a directory
}

type opened struct {
	topic   string
	replica uint64
	p       *partition.Partition
}

const (
	openWorkers = 8
	openRetry   = 5 * time.Second
)

// get returns the open replica of a partition.
func (r *replicas) get(id partitionID) (*partition.Partition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.open[id]
	if !ok {
		return nil, false
	}
	return o.p, true
}

// count is the number of open replicas.
func (r *replicas) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// each calls fn for all open replicas.
func (r *replicas) each(fn func(partitionID, *partition.Partition)) {
	r.mu.Lock()
	all := make(map[partitionID]*partition.Partition, len(r.open))
	for id, o := range r.open {
		all[id] = o.p
	}
	r.mu.Unlock()
	for id, p := range all {
		fn(id, p)
	}
}

// reconcile brings the open replicas in line with a view, and returns when it
// has done what can be done now; pending says that something failed and is to
// be tried again.
func (r *replicas) reconcile(ctx context.Context, v *cluster.View) (pending bool) {
	type job func() error
	var (
		jobs []job
		ids  []partitionID
	)
	add := func(id partitionID, j job) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.busy[id] {
			return
		}
		if at, failed := r.fail[id]; failed && time.Since(at) < openRetry {
			pending = true
			return
		}
		r.busy[id] = true
		jobs, ids = append(jobs, j), append(ids, id)
	}
	for tp, a := range v.Assignments {
		id := partitionID{a.TopicID, tp.Partition}
		if _, deleted := v.Deleted[a.TopicID]; deleted {
			continue
		}
		settings := r.settings(v.Topics[tp.Topic].Config)
		r.mu.Lock()
		o := r.open[id]
		r.mu.Unlock()
		if o != nil {
			o.p.SetSettings(settings)
			o.p.Group().SetTarget(target(a))
			continue
		}
		if replica, ok := r.mine(a); ok {
			add(id, func() error { return r.openOne(id, tp.Topic, replica, a, settings) })
		}
	}
	for replica, id := range r.doomed(v) {
		add(id, func() error { return r.deleteOne(id, replica) })
	}

	slots := make(chan struct{}, openWorkers)
	var wg sync.WaitGroup
	var failed sync.Map
	for i, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if ctx.Err() == nil {
				err = j()
			}
			r.mu.Lock()
			delete(r.busy, ids[i])
			delete(r.fail, ids[i])
			if err != nil {
				r.fail[ids[i]] = time.Now()
			}
			r.mu.Unlock()
			if err != nil {
				failed.Store(i, true)
				r.log.Error("replica can't be opened or removed, trying again", "topic_id", ids[i].topicID, "partition", ids[i].index, "err", err)
			}
		})
	}
	wg.Wait()
	failed.Range(func(any, any) bool { pending = true; return false })
	return pending
}

func (r *replicas) mine(a cluster.Assignment) (uint64, bool) {
	for _, rep := range a.Replicas {
		if rep.Node == r.self && rep.Incarnation == r.incarnation {
			return rep.ID, true
		}
	}
	return 0, false
}

func target(a cluster.Assignment) replication.Target {
	return replication.Target{Epoch: a.Epoch, Generation: a.Generation, Replicas: replicaIDs(a.Replicas)}
}

func replicaIDs(rs []cluster.Replica) []uint64 {
	ids := make([]uint64, len(rs))
	for i, r := range rs {
		ids[i] = r.ID
	}
	return ids
}

func (r *replicas) replicaDir(replica uint64) string {
	return vfs.Join(r.dir, strconv.FormatUint(replica, 10))
}

func (r *replicas) openOne(id partitionID, topic string, replica uint64, a cluster.Assignment, settings partition.Settings) error {
	initial := a.Initial
	if len(initial) == 0 {
		initial = a.Replicas
	}
	err := r.writeReplicaFile(replicaFile{Topic: topic, TopicID: id.topicID, Index: id.index, Replica: replica})
	if err != nil {
		return fmt.Errorf("open %s/%d: %w", topic, id.index, err)
	}
	r.mu.Lock()
	r.onDisk[replica] = id
	r.mu.Unlock()
	p, err := partition.Open(partition.Config{
		Topic: topic, TopicID: id.topicID, Index: id.index, Replica: replica, Initial: replicaIDs(initial),
		Dir: r.replicaDir(replica), Host: r.host, Segments: r.segments, Settings: settings,
		OnStatus: func(s replication.Status) { r.onStatus(id, s) }, Logger: r.log, Now: r.now,
	})
	if err != nil {
		return fmt.Errorf("open %s/%d: %w", topic, id.index, err)
	}
	p.Group().SetTarget(target(a))
	r.mu.Lock()
	r.open[id] = &opened{topic, replica, p}
	r.mu.Unlock()
	r.log.Debug("opened a replica", "topic", topic, "partition", id.index, "replica", replica)
	return nil
}

// deleteOne removes a replica whose topic was deleted.
func (r *replicas) deleteOne(id partitionID, replica uint64) error {
	r.mu.Lock()
	o := r.open[id]
	r.mu.Unlock()
	if o != nil && o.replica == replica {
		if err := o.p.Close(); err != nil {
			return fmt.Errorf("close replica %d: %w", replica, err)
		}
		r.mu.Lock()
		delete(r.open, id)
		r.mu.Unlock()
	}
	if err := r.host.Drop(replica); err != nil {
		return err
	}
	if err := r.fs.RemoveAll(r.replicaDir(replica)); err != nil {
		return fmt.Errorf("remove replica %d: %w", replica, err)
	}
	r.mu.Lock()
	delete(r.onDisk, replica)
	r.mu.Unlock()
	r.log.Info("removed a replica, its topic was deleted", "topic_id", id.topicID, "partition", id.index, "replica", replica)
	return nil
}

// close closes all replicas.
func (r *replicas) close() error {
	r.mu.Lock()
	all := r.open
	r.open = make(map[partitionID]*opened)
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

// settings reads a topic's configuration over the node's defaults. Values were
// validated when they were written; what can't be read counts as not set.
func (r *replicas) settings(config map[string]string) partition.Settings {
	s := r.defaults
	number := func(key string, set func(int64)) {
		if text, ok := config[key]; ok {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				set(n)
			}
		}
	}
	number("segment.bytes", func(n int64) { s.SegmentBytes = n })
	number("retention.bytes", func(n int64) { s.RetentionBytes = n })
	number("max.message.bytes", func(n int64) { s.MaxMessageBytes = int32(n) })
	number("retention.ms", func(n int64) {
		s.RetentionTime = time.Duration(n) * time.Millisecond
		if n < 0 || n > int64(1<<63-1)/int64(time.Millisecond) {
			s.RetentionTime = -1
		}
	})
	return s
}
