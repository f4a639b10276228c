package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/replication"
)

// A replica that its partition's assignment no longer names is still a member of
// its group until the group's leader has removed it, and may be needed until
// then. Its data goes only when the group's present leader confirms, beside the
// assignment, that the committed members do not include it. A key that is
// missing, or a node that can't be asked, removes nothing.

const (
	freeCheck = 250 * time.Millisecond
	// A leader that still has the replica as a member is asked less and less often.
	askFirst, askMost = 250 * time.Millisecond, 10 * time.Second
	askTimeout        = 10 * time.Second
	asksAtOnce        = 8

	// kindHolds tells a peer which replicas a node has that no assignment names.
	kindHolds = replication.KindUser + 8
)

// freer removes replicas that were replaced.
type freer struct {
	n     *Node
	freed prometheus.Counter

	// What follows belongs to run.
	asked map[uint64]asked // by replica
	// idle are the view and the open replicas of a round that found nothing.
	idle struct {
		view *cluster.View
		open []*opened
	}
}

type asked struct {
	pause time.Duration
	again time.Time
}

func (n *Node) newFreer() (*freer, error) {
	f := &freer{n: n, asked: make(map[uint64]asked), freed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "raftsman_replicas_freed_total",
		Help: "Replicas whose data was removed since their group's leader had confirmed that they are no members any more."})}
	if err := n.cfg.Registerer.Register(f.freed); err != nil {
		return nil, fmt.Errorf("register metric of freed replicas: %w", err)
	}
	n.onClose("metric of freed replicas", func() error { n.cfg.Registerer.Unregister(f.freed); return nil })
	return f, nil
}

// run looks for replaced replicas until ctx ends.
func (f *freer) run(ctx context.Context) {
	tick := time.NewTicker(freeCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.round(ctx, f.n.store.View(), time.Now())
	}
}

// replaced is a replica that its partition's assignment does not name.
type replaced struct {
	*opened
	by cluster.Assignment
}

// replacedOf returns the open replicas that were replaced, by what a view says.
func replacedOf(v *cluster.View, open []*opened) (all []replaced) {
	if v.Frozen != "" {
		return nil
	}
	for _, o := range open {
		tp := cluster.TopicPartition{Topic: o.topic, Partition: o.id.index}
		a, ok := v.Assignments[tp]
		if !ok || a.TopicID != o.id.topicID || v.IsBroken(tp) || slices.Contains(replicaIDs(a.Replicas), o.replica) {
			continue
		}
		if a.Recovered != nil && slices.Contains(a.Recovered.GivenUp, o.replica) {
			continue // it is set aside, and kept
		}
		all = append(all, replaced{o, a})
	}
	return all
}

func (f *freer) round(ctx context.Context, v *cluster.View, now time.Time) {
	open := f.n.replicas.all()
	if v == f.idle.view && same(open, f.idle.open) {
		return
	}
	all := replacedOf(v, open)
	if len(all) == 0 {
		clear(f.asked)
		f.idle.view, f.idle.open = v, open
		return
	}
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, asksAtOnce)
	)
	for _, r := range all {
		a := f.asked[r.replica]
		if now.Before(a.again) {
			continue
		}
		a.pause = min(max(2*a.pause, askFirst), askMost)
		a.again = now.Add(a.pause)
		f.asked[r.replica] = a
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f.try(ctx, r)
		})
	}
	wg.Wait()
}

// same says whether two results of replicas.all are one.
func same(a, b []*opened) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// try asks the leader and removes the replica if it may.
func (f *freer) try(ctx context.Context, r replaced) {
	n := f.n
	node, leader := f.leaderOf(r)
	if leader == 0 || leader == r.replica {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := n.host.AskMembers(ctx, node, leader, r.replica)
	if err != nil {
		n.log.Debug("a replica that no assignment names: its leader could not be asked", "topic", r.topic, "partition", r.id.index, "replica", r.replica, "node", node, "err", err)
		return
	}
	if !gone(c, r) {
		return
	}
	ok, _ := n.replicas.begin(r.id)
	if !ok {
		return
	}
	done, err := f.free(ctx, r, node, leader)
	n.replicas.end(r.id, err)
	if done {
		f.freed.Inc()
		n.wake()
	} else {
		n.rescan() // it is opened again
	}
}

// free closes a replica and asks again: it may have become a member again since
// the first answer, by a later assignment, but a closed one acknowledges nothing
// and votes for nobody. If it is still none it is removed.
func (f *freer) free(ctx context.Context, r replaced, node int32, leader uint64) (done bool, err error) {
	n := f.n
	if err := n.replicas.closeOne(r.replica); err != nil {
		return false, fmt.Errorf("close replica %d: %w", r.replica, err)
	}
	c, err := n.host.AskMembers(ctx, node, leader, r.replica)
	if err != nil || !gone(c, r) {
		n.log.Debug("a replica that no assignment names: its leader did not confirm a second time", "topic", r.topic, "partition", r.id.index, "replica", r.replica, "node", node, "err", err)
		return false, nil
	}
	if err := n.replicas.writeFreed(r.id, r.topic, r.replica); err != nil {
		return false, fmt.Errorf("note that replica %d is freed: %w", r.replica, err)
	}
	err = n.replicas.deleteOne(r.id, r.replica, "its group's leader has confirmed that it was replaced",
		"topic", r.topic, "leader", leader, "node", node, "term", c.Term, "committed_index", c.Index)
	if err != nil {
		return false, err
	}
	return true, n.replicas.pruneFreed(r.id)
}

// gone says whether a confirmation frees a replica: the group has reached the
// assignment that does not name it, or a later one, and it is no member.
func gone(c replication.Confirmation, r replaced) bool {
	reached := c.Epoch > r.by.Epoch || c.Epoch == r.by.Epoch && c.Generation >= r.by.Generation
	return reached && !c.Has(r.replica)
}

// leaderOf returns the node and replica that lead the partition, as far as is
// known: 0 when nobody does, or none that the assignment names.
func (f *freer) leaderOf(r replaced) (node int32, leader uint64) {
	l, ok := f.n.leaders.of(r.id)
	if !ok {
		return 0, 0
	}
	for _, a := range r.by.Replicas {
		if a.Node == l.node {
			return a.Node, a.ID
		}
	}
	return 0, 0
}

// tellHolds tells a peer of replicas here that no assignment names: it may lead
// their group, and have been restarted since it last saw where they are.
func (n *Node) tellHolds(peer int32) {
	v := n.store.View()
	var ids []uint64
	for replica, f := range n.replicas.stored() {
		a, ok := v.Assignments[cluster.TopicPartition{Topic: f.Topic, Partition: f.Partition}]
		if !ok || !slices.Contains(replicaIDs(a.Replicas), replica) {
			ids = append(ids, replica)
		}
	}
	if len(ids) == 0 {
		return
	}
	msg, err := json.Marshal(ids)
	if err != nil {
		panic(fmt.Sprintf("BUG: encode replica ids: %v", err)) // plain numbers
	}
	n.host.Net().Send(peer, byte(kindHolds), msg)
}

func (n *Node) hearHolds(from int32, msg []byte) ([]byte, error) {
	var ids []uint64
	if err := json.Unmarshal(msg, &ids); err != nil {
		return nil, fmt.Errorf("replicas of node %d: %w", from, err)
	}
	n.peers.holds(from, ids)
	return nil, nil
}
