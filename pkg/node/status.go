package node

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/pkg/election"
)

const (
	// statusPause is the least time between two looks, and so between two writes:
	// others wait for what a node leads and what it has moved.
	statusPause = 200 * time.Millisecond
	// lagPause is how old the last write is at least when only who lags has changed.
	lagPause = time.Second
	// sizePause is the same for sizes and load, which always change.
	sizePause = 10 * time.Second
	// statusTimeout bounds one write.
	statusTimeout = 3 * time.Second
)

// statusPace decides when a status is written: at once what others wait for,
// seldom what they only look at, and nothing while nothing changes.
type statusPace struct {
	status cluster.NodeStatus // as it was written last
	self   cluster.Node
	by     *election.Session
	at     time.Time
}

// due says how long the write of a status has to wait; ok is false when there is
// nothing to write. newest is the revision of the newest assignment of a
// partition that the node leads: one that is unknown to the last status has to
// be answered, even if nothing else has changed.
func (p *statusPace) due(now time.Time, by *election.Session, s cluster.NodeStatus, self cluster.Node, newest int64) (wait time.Duration, ok bool) {
	old := p.status
	switch same := reflect.DeepEqual; {
	case by != p.by:
		return 0, true
	case !same(s.Leads, old.Leads), !same(s.Moving, old.Moving), !same(s.Freed, old.Freed), old.Assignments < newest, self.State != p.self.State:
		wait = statusPause
	case !same(s.Lagging, old.Lagging), self.Replicas != p.self.Replicas, self.EtcdMember != p.self.EtcdMember:
		wait = lagPause
	case !same(s.Bytes, old.Bytes), self.Load != p.self.Load:
		wait = sizePause
	default:
		return 0, false
	}
	return max(0, p.at.Add(wait).Sub(now)), true
}

// reportStatus keeps the node's status key and its registration true, until ctx
// ends.
func (n *Node) reportStatus(ctx context.Context) error {
	changed, cancel := n.store.Subscribe()
	defer cancel()
	var pace statusPace
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		n.turns.turned("status", turnPatience)
		select {
		case <-ctx.Done():
			return nil
		case <-n.kick:
		case <-changed:
		case <-next.C:
		}
		next.Reset(n.look(ctx, &pace))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statusPause):
		}
	}
}

// look writes the status if that is due, and returns when to look again at the
// latest.
func (n *Node) look(ctx context.Context, pace *statusPace) time.Duration {
	n.mu.Lock()
	session := n.session
	n.mu.Unlock()
	if session == nil {
		return sizePause // a new session wakes
	}
	now := time.Now()
	v := n.store.View()
	status, newest := n.status(v)
	if _, spoilt := v.Broken[fmt.Sprintf("status/%d", n.ID())]; spoilt {
		pace.by = nil // somebody has overwritten it
	}
	self := n.self()
	wait, ok := pace.due(now, session, status, self, newest)
	if ok && wait == 0 {
		err := n.writeStatus(ctx, session, status, pace, self)
		if err != nil {
			if ctx.Err() == nil {
				n.log.Debug("status could not be written", "err", err)
			}
			return lagPause
		}
		*pace = statusPace{status, self, session, now}
		ok = false
	}
	switch {
	case len(status.Moving) > 0:
		return statusPause // nobody tells when a group has arrived
	case ok:
		return min(wait, sizePause)
	}
	return sizePause
}

func (n *Node) writeStatus(ctx context.Context, session *election.Session, s cluster.NodeStatus, pace *statusPace, self cluster.Node) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := n.store.SetNodeStatus(ctx, session.Lease(), s)
	if session == pace.by && reflect.DeepEqual(self, pace.self) {
		return err
	}
	value, encodeErr := cluster.Encode(self)
	if encodeErr != nil {
		return encodeErr
	}
	return errors.Join(err, session.Update(ctx, n.store.Keys().Node(n.ID()), value))
}

// status is what the node knows of what it leads, by the assignments of a view.
func (n *Node) status(v *cluster.View) (s cluster.NodeStatus, newest int64) {
	s = cluster.NodeStatus{Node: n.ID(), Assignments: v.Revision}
	names := make(map[string]string, len(v.Topics))
	for name, t := range v.Topics {
		names[t.ID] = name
	}
	for id, l := range n.leaders.led() {
		topic, ok := names[id.topicID]
		if !ok {
			continue
		}
		put(&s.Leads, topic, id.index, l.term)
		p, here := n.replicas.get(id)
		if here {
			put(&s.Bytes, topic, id.index, rounded(p.Size()))
		}
		a, ok := v.Assignments[cluster.TopicPartition{Topic: topic, Partition: id.index}]
		if !ok || a.TopicID != id.topicID {
			continue
		}
		newest = max(newest, a.ModRevision)
		if here && !hasReached(p, a) {
			if s.Moving == nil {
				s.Moving = make(map[string][]int32)
			}
			s.Moving[topic] = append(s.Moving[topic], id.index)
		}
		var lagging []int32
		for _, r := range a.Replicas {
			if !slices.Contains(l.inSync, r.Node) {
				lagging = append(lagging, r.Node)
			}
		}
		if len(lagging) > 0 {
			put(&s.Lagging, topic, id.index, lagging)
		}
	}
	s.Freed = n.replicas.refused(v, names)
	for _, partitions := range s.Moving {
		slices.Sort(partitions)
	}
	return s, newest
}

func put[V any](m *map[string]map[int32]V, topic string, partition int32, v V) {
	if *m == nil {
		*m = make(map[string]map[int32]V)
	}
	if (*m)[topic] == nil {
		(*m)[topic] = make(map[int32]V)
	}
	(*m)[topic][partition] = v
}

// hasReached says whether a group's members are those of an assignment, or of a
// later one.
func hasReached(p interface {
	Reached() (epoch, generation int64)
}, a cluster.Assignment) bool {
	epoch, generation := p.Reached()
	return epoch > a.Epoch || epoch == a.Epoch && generation >= a.Generation
}

// rounded keeps two digits of a size or rate, so that it changes seldom.
func rounded(n int64) int64 {
	scale := int64(1)
	for n/scale >= 100 {
		scale *= 10
	}
	return (n + scale/2) / scale * scale
}
