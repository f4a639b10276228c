package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

const (
	mendRetry    = 5 * time.Second
	mendRetryMax = 5 * time.Minute
	// mendPatience is how often a peer is asked that may only be a moment behind.
	mendPatience = 3
	mendPause    = 300 * time.Millisecond
	// damagedTTL is how long what a node said of its damaged replicas counts; it
	// repeats that each second.
	damagedTTL = 5 * time.Second
)

// mender mends damaged segments of this node's replicas, one at a time: it
// fetches each from another replica, and takes it only if its checksum is that
// which the damaged replica itself has kept. A replica keeps its log and its
// votes meanwhile. What can't be mended now is tried again.
type mender struct {
	n    *Node
	log  *slog.Logger
	pace pace
	kick chan struct{}

	one      sync.Mutex              // held while a segment is mended
	standIns map[damagedSegment]bool // segments that wait for another replica's; guarded by one

	mu      sync.Mutex
	damaged map[damagedSegment]*damage
	others  map[int32]damagedReplicas // by node
	told    bool                      // the peers know of damage here

	mended prometheus.Counter
}

type damagedSegment struct {
	replica uint64
	segment int64 // base offset
}

// damage is a segment that waits to be mended.
type damage struct {
	id     partitionID
	err    *seglog.DamageError
	closed *partition.DamagedError // of a replica that could not be opened
	next   time.Time               // of the next try
	delay  time.Duration
}

type damagedReplicas struct {
	replicas []uint64
	at       time.Time
}

func (n *Node) newMender() (*mender, error) {
	m := &mender{
		n: n, log: n.log, pace: pace{rate: n.cfg.CatchUpRate}, kick: make(chan struct{}, 1),
		damaged: make(map[damagedSegment]*damage), standIns: make(map[damagedSegment]bool), others: make(map[int32]damagedReplicas),
		mended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raftsman_segments_mended_total", Help: "Damaged segments of this node that were mended from another replica."}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "raftsman_segments_damaged", Help: "Segments of this node that are known to be damaged and were not mended yet."},
		func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return float64(len(m.damaged))
		})
	for _, c := range []prometheus.Collector{m.mended, waiting} {
		if err := n.cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of damage: %w", err)
		}
		n.onClose("metric of damage", func() error { n.cfg.Registerer.Unregister(c); return nil })
	}
	return m, nil
}

// add notes damage; closed is set for a replica that could not be opened.
func (m *mender) add(id partitionID, replica uint64, segment int64, err *seglog.DamageError, closed *partition.DamagedError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := damagedSegment{replica, segment}
	if d := m.damaged[key]; d != nil {
		d.closed = closed
		return
	}
	m.damaged[key] = &damage{id: id, err: err, closed: closed, delay: mendRetry}
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// run mends what is damaged until ctx ends.
func (m *mender) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
		case <-tick.C:
		}
		for key, d := range m.due(time.Now()) {
			if ctx.Err() == nil {
				m.try(ctx, key, d)
			}
		}
		m.tell()
	}
}

func (m *mender) due(now time.Time) map[damagedSegment]damage {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due map[damagedSegment]damage
	for key, d := range m.damaged {
		if now.Before(d.next) {
			continue
		}
		if due == nil {
			due = make(map[damagedSegment]damage)
		}
		due[key] = *d
	}
	return due
}

// try mends one segment, or says why it can't be and when it is tried again.
func (m *mender) try(ctx context.Context, key damagedSegment, d damage) {
	if !m.n.replicas.holds(key.replica, d.id) {
		m.forget(key) // the replica was removed
		return
	}
	began := time.Now()
	mended, from, err := m.mend(ctx, d.id, key, d.closed)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		m.log.Error("a damaged segment can't be mended from the other replicas now, trying again; the replica does not count as in sync",
			"topic_id", d.id.topicID, "partition", d.id.index, "replica", key.replica,
			"file", d.err.File, "byte", d.err.Offset, "reason", d.err.Reason, "retry_in", d.delay, "err", err)
		m.mu.Lock()
		if now := m.damaged[key]; now != nil {
			now.next = time.Now().Add(now.delay)
			now.delay = min(2*now.delay, mendRetryMax)
		}
		m.mu.Unlock()
		return
	}
	m.forget(key)
	if mended {
		m.log.Info("mended a damaged segment; what was damaged is kept in the replica's directory, remove it when it is not needed",
			"topic_id", d.id.topicID, "partition", d.id.index, "replica", key.replica,
			"file", d.err.File, "byte", d.err.Offset, "from_node", from, "for", time.Since(began).Round(time.Millisecond))
	}
	if d.closed != nil {
		m.n.replicas.retry(d.id)
		m.one.Lock()
		again := m.standIns[key]
		delete(m.standIns, key)
		m.one.Unlock()
		if again {
			m.add(d.id, key.replica, key.segment, d.err, nil)
		}
	}
}

func (m *mender) forget(key damagedSegment) {
	m.mu.Lock()
	delete(m.damaged, key)
	m.mu.Unlock()
}

// mend asks the other replicas of a partition, one after the other.
func (m *mender) mend(ctx context.Context, id partitionID, key damagedSegment, closed *partition.DamagedError) (mended bool, from int32, err error) {
	m.one.Lock()
	defer m.one.Unlock()
	peers := m.peersOf(id, key.replica)
	if len(peers) == 0 {
		return false, 0, errors.New("the partition has no other replica")
	}
	for round := range mendPatience {
		var errs []error
		for _, r := range peers {
			q := segmentRequest{TopicID: id.topicID, Partition: id.index, Replica: r.ID}
			if closed != nil {
				q.Last, q.Generation = closed.Segment.LastOffset, closed.Segment.Generation
			} else if p, err := m.n.replica(id.topicID, id.index, key.replica); err == nil {
				q.Generation = p.Segment(key.segment).Generation
			}
			mended, err = m.from(id, key, closed, m.n.fetchSegment(ctx, r.Node, q))
			if err == nil {
				if mended {
					m.mended.Inc()
				}
				return mended, r.Node, nil
			}
			errs = append(errs, fmt.Errorf("replica %d on node %d: %w", r.ID, r.Node, err))
			if done, err := m.compacted(ctx, id, key, closed, r, q); err != nil {
				errs = append(errs, fmt.Errorf("replica %d on node %d: %w", r.ID, r.Node, err))
			} else if done {
				return !m.standIns[key], r.Node, nil
			}
		}
		err = errors.Join(errs...)
		if round < mendPatience-1 && pause(ctx, mendPause) != nil {
			break
		}
	}
	return false, 0, err
}

func (m *mender) from(id partitionID, key damagedSegment, closed *partition.DamagedError, fetch seglog.Fetch) (bool, error) {
	if closed != nil {
		r := m.n.replicas
		dir := r.replicaDir(key.replica)
		err := partition.MendClosed(r.fs, dir, closed.Segment, fetch)
		if errors.Is(err, errLetGo) && !closed.Active {
			m.log.Info("a damaged segment lies below the other replicas' log start by now: opening the replica without it", "replica", key.replica, "segment", key.segment)
			return false, partition.StandIn(r.fs, dir, closed.Segment)
		}
		return true, err
	}
	p, err := m.n.replica(id.topicID, id.index, key.replica)
	if err != nil {
		return false, err
	}
	return p.Mend(key.segment, fetch)
}

// peersOf returns a partition's other replicas, those on living nodes first.
func (m *mender) peersOf(id partitionID, replica uint64) []cluster.Replica {
	v := m.n.store.View()
	topic, _, ok := v.TopicByID(id.topicID)
	if !ok {
		return nil
	}
	peers := slices.Clone(v.Assignments[cluster.TopicPartition{Topic: topic, Partition: id.index}].Replicas)
	peers = slices.DeleteFunc(peers, func(r cluster.Replica) bool { return r.ID == replica || r.Node == m.n.ID() })
	slices.SortStableFunc(peers, func(a, b cluster.Replica) int {
		switch x, y := m.n.alive(a.Node), m.n.alive(b.Node); {
		case x && !y:
			return -1
		case y && !x:
			return 1
		}
		return 0
	})
	return peers
}

// mendSegment has a segment of this node's mended now, because an operator
// wants that.
func (n *Node) mendSegment(ctx context.Context, r segmentRequest) (mendReply, error) {
	id := partitionID{r.TopicID, r.Partition}
	p, err := n.replica(r.TopicID, r.Partition, r.Replica)
	if err != nil {
		return mendReply{}, err
	}
	mended, _, err := n.mender.mend(ctx, id, damagedSegment{r.Replica, r.Segment}, nil)
	key := damagedSegment{r.Replica, r.Segment}
	if err != nil {
		file := partition.SegmentFile(n.replicas.replicaDir(r.Replica), r.Segment, p.Segment(r.Segment).Generation)
		n.mender.add(id, r.Replica, r.Segment, &seglog.DamageError{File: file, Reason: "found by a verification"}, nil)
		return mendReply{}, err
	}
	n.mender.forget(key)
	return mendReply{Mended: mended}, nil
}

// tell has the peers not count this node's damaged replicas as in sync.
func (m *mender) tell() {
	m.mu.Lock()
	replicas := m.ownLocked()
	tell := len(replicas) > 0 || m.told
	m.told = len(replicas) > 0
	m.mu.Unlock()
	if !tell {
		return
	}
	msg, err := json.Marshal(replicas)
	if err != nil {
		panic(fmt.Sprintf("BUG: encode damaged replicas: %v", err)) // plain numbers
	}
	for _, peer := range m.n.peers.Peers() {
		m.n.host.Net().Send(peer, byte(kindDamaged), msg)
	}
}

func (m *mender) ownLocked() []uint64 {
	var replicas []uint64
	for key := range m.damaged {
		if !slices.Contains(replicas, key.replica) {
			replicas = append(replicas, key.replica)
		}
	}
	return replicas
}

// hear takes in what another node says of its replicas.
func (m *mender) hear(from int32, msg []byte) ([]byte, error) {
	var replicas []uint64
	if err := json.Unmarshal(msg, &replicas); err != nil {
		return nil, fmt.Errorf("damaged replicas of node %d: %w", from, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.others[from] = damagedReplicas{replicas, time.Now()}
	return nil, nil
}

// isDamaged says whether a replica, here or elsewhere, is known to be damaged.
func (m *mender) isDamaged(replica uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.ownLocked(), replica) {
		return true
	}
	for _, o := range m.others {
		if time.Since(o.at) < damagedTTL && slices.Contains(o.replicas, replica) {
			return true
		}
	}
	return false
}

// holds says whether a replica of that partition is on this node's disk.
func (r *replicas) holds(replica uint64, id partitionID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, ok := r.onDisk[replica]
	return ok && held.id() == id
}

// retry has a replica that could not be opened opened soon.
func (r *replicas) retry(id partitionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fail, id)
}
