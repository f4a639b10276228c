package node

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/internal/kafka"
)

var _ kafka.Groups = backend{}

// GroupCoordinator implements kafka.Groups.
func (b backend) GroupCoordinator(ctx context.Context, name string) (int32, error) {
	retry := time.NewTicker(freshEcho)
	defer retry.Stop()
	for {
		changed := b.n.changes.wait()
		v := b.n.store.View()
		if t, ok := v.Topics[offsetsTopic]; !ok {
			b.n.groups.create()
			if !b.n.store.Connected() {
				return 0, kafka.Errorf(kerr.CoordinatorNotAvailable, "%s does not exist yet, and etcd is away", offsetsTopic)
			}
		} else if l, alive := b.leader(v, offsetsTopic, partitionID{t.ID, group.Coordinates(name, t.Partitions)}); alive {
			// A client that has lost its coordinator comes before the loss is noticed.
			if l.node == b.NodeID() || b.n.verifier.answer(ctx, map[int32]bool{l.node: true}) {
				return l.node, nil
			}
		}
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			return 0, kafka.Errorf(kerr.CoordinatorNotAvailable, "%s", b.n.groups.why())
		}
	}
}

// Coordinate implements kafka.Groups.
func (b backend) Coordinate(name string, c kafka.GroupClient, req kmsg.Request, done func(kmsg.Response, error)) {
	t, ok := b.n.store.View().Topics[offsetsTopic]
	if !ok {
		done(nil, kerr.NotCoordinator)
		return
	}
	index := group.Coordinates(name, t.Partitions)
	if co := b.n.groups.of(index); co != nil {
		co.Do(group.Client(c), req, done)
		return
	}
	if p, here := b.n.replicas.get(partitionID{t.ID, index}); here && p.Takes() {
		done(nil, kerr.CoordinatorLoadInProgress) // elected just now
		return
	}
	done(nil, kerr.NotCoordinator)
}

// ListGroups implements kafka.Groups. Partitions that this node does not lead any
// more are another one's to list.
func (b backend) ListGroups(c kafka.GroupClient, req *kmsg.ListGroupsRequest, done func([]kmsg.ListGroupsResponseGroup, error)) {
	all := b.n.groups.all()
	var (
		mu     sync.Mutex
		left   = len(all) + 1
		listed []kmsg.ListGroupsResponseGroup
		failed error
	)
	if t := b.n.store.View().Topics[offsetsTopic]; b.leadsWithout(t) {
		failed = kerr.CoordinatorLoadInProgress
	}
	settle := func(resp kmsg.Response, err error) {
		mu.Lock()
		if r, ok := resp.(*kmsg.ListGroupsResponse); ok && err == nil {
			if err = kerr.ErrorForCode(r.ErrorCode); err == nil {
				listed = append(listed, r.Groups...)
			}
		}
		if err != nil && err != kerr.NotCoordinator {
			failed = err
		}
		left--
		last := left == 0
		mu.Unlock()
		if last {
			done(listed, failed)
		}
	}
	for _, co := range all {
		co.Do(group.Client(c), req, settle)
	}
	settle(nil, nil)
}

// leadsWithout says whether this node was elected for a partition of
// __consumer_offsets just now, and has no coordinator for it yet.
func (b backend) leadsWithout(t cluster.Topic) bool {
	for i := range t.Partitions {
		if p, here := b.n.replicas.get(partitionID{t.ID, i}); here && p.Takes() && b.n.groups.of(i) == nil {
			return true
		}
	}
	return false
}
