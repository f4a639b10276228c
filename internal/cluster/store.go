package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/election"
)

// Options of a Store. Client and Cluster are required.
type Options struct {
	Client  *clientv3.Client
	Cluster string // its name
	Prefix  string // in etcd; default DefaultPrefix
	Name    string // of this node, for people
	// ClusterID is the cluster that the data directory belongs to; empty for a
	// new one.
	ClusterID string

	// FS and Dir are where view.json is kept; an empty Dir keeps none.
	// FS defaults to vfs.OS.
	FS  vfs.FS
	Dir string

	Logger *slog.Logger   // default: nowhere
	Clock  election.Clock // default: the real one

	// RequestTimeout bounds each request to etcd. Default 5 s.
	RequestTimeout time.Duration
	// ProbeInterval is how often etcd is asked whether it is still there and
	// still the same. Default 2 s.
	ProbeInterval time.Duration
	// SaveInterval is the shortest time between two writes of view.json.
	// Default 1 s.
	SaveInterval time.Duration
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.RequestTimeout, 5 * time.Second}, {&o.ProbeInterval, 2 * time.Second}, {&o.SaveInterval, time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	return o
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }
func (realClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// Store follows etcd and writes to it. Its methods may be called from any
// goroutine.
type Store struct {
	opts      Options
	keys      Keys
	view      atomic.Pointer[View]
	connected atomic.Bool
	retry     chan struct{} // try etcd again now
	awaySince time.Time     // when it was logged that etcd is away; zero: it is not. Only the follower looks.

	mu                     sync.Mutex
	items                  map[string]item // all keys, as etcd has them; only the follower changes it
	memory                 memory          // of the etcd that the view came from
	guard                  *Meta           // meta as last seen in etcd since the start; nil: not yet
	subs                   map[*subscription]bool
	ownProducers, ownNodes int64 // next of what this process has taken itself

	reported map[string]int64 // broken keys, and the revision that was logged
	dirty    bool             // view.json is behind
	told     bool             // of the freeze, since the start
	running  bool
	closed   bool
	stop     context.CancelFunc // of Run
	stopped  chan struct{}      // closed when Run has returned
}

type subscription struct{ wake chan struct{} }

// New returns a store with the view that is on disk, if there is one. It does
// not need etcd. A damaged view.json is renamed and reported; an error means
// that the directory can't be read, or belongs to another cluster.
func New(opts Options) (*Store, error) {
	opts = opts.withDefaults()
	keys, err := NewKeys(opts.Prefix, opts.Cluster)
	if err != nil {
		return nil, err
	}
	if opts.Client == nil {
		return nil, errors.New("open the cluster store: no etcd client")
	}
	s := &Store{
		opts: opts, keys: keys, retry: make(chan struct{}, 1),
		items: map[string]item{}, subs: map[*subscription]bool{}, reported: map[string]int64{},
	}
	s.view.Store(&View{})
	if opts.Dir == "" {
		return s, nil
	}
	p, ok, err := readPicture(opts.FS, opts.Dir, keys)
	if errors.Is(err, errDamaged) {
		aside := vfs.Join(opts.Dir, diskName+".damaged")
		opts.Logger.Error("the copy of the cluster's metadata is damaged and was set aside; this node needs etcd to start",
			"file", aside, "err", err)
		if err := opts.FS.Rename(vfs.Join(opts.Dir, diskName), aside); err != nil {
			return nil, fmt.Errorf("set the damaged view aside: %w", err)
		}
		return s, nil
	}
	if err != nil || !ok {
		return s, err
	}
	s.adopt(p)
	return s, nil
}

// adopt makes what was on disk the view.
func (s *Store) adopt(p picture) {
	d := reload(s.keys, &View{}, s.report)
	for rel, it := range p.items {
		if parseKey(rel).kind != kindCandidate { // who led then says nothing about now
			p.items[rel] = d.putItem(rel, it)
		}
	}
	d.next.Source, d.next.EtcdClusterID, d.next.Revision, d.next.Frozen = SourceDisk, p.etcdID, p.revision, p.frozen
	s.items, s.memory = p.items, p.memory
	s.memory.meta = d.next.Meta
	s.view.Store(&d.next)
	s.reportGone(s.goneLocked())
}

// Keys names the cluster's keys.
func (s *Store) Keys() Keys { return s.keys }

// View returns the newest view, never nil.
func (s *Store) View() *View { return s.view.Load() }

// Connected says whether the view follows etcd at this time. Silence is
// noticed within a ProbeInterval and a RequestTimeout.
func (s *Store) Connected() bool { return s.connected.Load() }

// Subscribe returns a channel that holds a value whenever the view may have
// changed since the last receive, and once at the start; cancel ends that.
func (s *Store) Subscribe() (wake <-chan struct{}, cancel func()) {
	sub := &subscription{wake: make(chan struct{}, 1)}
	sub.wake <- struct{}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = true
	return sub.wake, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, sub)
	}
}

// WaitFor returns the first view that satisfies cond, or why ctx ended.
func (s *Store) WaitFor(ctx context.Context, cond func(*View) bool) (*View, error) {
	wake, cancel := s.Subscribe()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-wake:
			if v := s.View(); cond(v) {
				return v, nil
			}
		}
	}
}

// publishLocked makes v the view and wakes everyone who waits for one.
func (s *Store) publishLocked(v *View) {
	s.reportMended(s.view.Load(), v)
	s.view.Store(v)
	s.dirty = true
	s.wakeLocked()
}

func (s *Store) wakeLocked() {
	for sub := range s.subs {
		select {
		case sub.wake <- struct{}{}:
		default: // it has a wake-up that it has not seen yet
		}
	}
}

func (s *Store) setConnected(yes bool) (was bool) {
	if was = s.connected.Swap(yes); was != yes {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wakeLocked()
	}
	return was
}

// report logs a value that makes no sense, once per revision of its key.
func (s *Store) report(rel string, it item, err error) {
	if s.reported[rel] == it.modRevision {
		return
	}
	s.reported[rel] = it.modRevision
	s.opts.Logger.Error("a key in etcd makes no sense; its last good value stays in use until it is mended",
		"key", s.keys.base+rel, "revision", it.modRevision, "err", err)
}

// noteLocked logs, once, that the key frozen stops changes, or that nothing does
// any more.
func (s *Store) noteLocked(halted string) {
	switch was := s.view.Load().Frozen; {
	case halted != "" && !s.told:
		s.told = true
		s.opts.Logger.Error("changes are refused, data is served on", "reason", halted, "key", s.keys.Frozen(),
			"do", "see the log of the node that says so; if etcd has lost what it held: raftsman cluster restore-metadata")
	case halted == "" && was != "":
		s.told = false
		s.opts.Logger.Info("etcd holds the metadata again: changes are accepted", "was", was)
	}
}

// freeze refuses all changes from now on, for the given reason.
func (s *Store) freeze(reason string, sticky bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told {
		s.told = true
		s.opts.Logger.Error("etcd does not hold what it held: changes are refused, data is served on",
			"reason", reason,
			"do", "point the nodes at the right etcd, or bring back its latest data; if it is lost, rewrite it from what the nodes know: raftsman cluster restore-metadata")
	}
	// The first verdict that only a restore can lift is the one that stays: later
	// ones differ in numbers that grow.
	if s.memory.sticky && sticky || s.memory.frozen == reason && s.memory.sticky == sticky {
		return
	}
	s.memory.frozen, s.memory.sticky = reason, sticky
	v := *s.view.Load()
	v.Frozen = reason
	s.publishLocked(&v)
}

// recall returns what is remembered now.
func (s *Store) recall() memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.memory
	m.clusterID = s.opts.ClusterID
	v := s.view.Load()
	m.counters = map[string]Counter{"producer-ids": v.ProducerIDs, "replica-ids": v.ReplicaIDs, "node-ids": v.NodeIDs}
	return m
}

// see judges an answer of etcd and freezes if it must; it returns an ErrFrozen
// then. asked is what was remembered when the question was sent: what the view
// has learnt since does not make the answer a step back.
func (s *Store) see(asked memory, seen sighting) error {
	reason, sticky := judge(asked, seen)
	if reason == "" {
		return nil
	}
	s.freeze(reason, sticky)
	return fmt.Errorf("%w: %s", ErrFrozen, reason)
}
