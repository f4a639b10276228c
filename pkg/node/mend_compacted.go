package node

import (
	"context"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

// compacted mends a segment that could not be fetched from a peer because the peer
// has compacted it meanwhile: nobody may ever have these bytes again. The
// beginning of the damaged replica's log is replaced by the peer's. A replica that
// is closed is opened with a stand-in for the segment first, and mended then.
func (m *mender) compacted(ctx context.Context, id partitionID, key damagedSegment, closed *partition.DamagedError, peer cluster.Replica, q segmentRequest) (done bool, err error) {
	reply, err := m.n.ask(ctx, peer.Node, verifyRequest{TopicID: id.topicID, Partition: id.index, Replica: peer.ID, Layout: true})
	if err != nil || reply.Layout == nil {
		return false, err
	}
	from := reply.Layout.Log
	if closed != nil {
		if closed.Active || !compactedAway(closed.Segment, from) {
			return false, nil
		}
		m.log.Info("the other replicas have compacted a damaged segment: opening the replica without it, to take theirs", "replica", key.replica, "segment", key.segment)
		if err := partition.StandIn(m.n.replicas.fs, m.n.replicas.replicaDir(key.replica), closed.Segment); err != nil {
			return false, err
		}
		m.standIns[key] = true
		return true, nil
	}
	p, err := m.n.replica(id.topicID, id.index, key.replica)
	if err != nil {
		return false, err
	}
	if !compactedAway(p.Segment(key.segment), from) {
		return false, nil
	}
	q.Generation = 0 // the peer is open: it knows its segments by their base
	if err := p.Graft(ctx, key.segment, from, m.n.fetchSegment(ctx, peer.Node, q)); err != nil {
		return false, err
	}
	return true, nil
}

// compactedAway says whether another log has something else in a segment's place.
func compactedAway(info seglog.SegmentInfo, other seglog.State) bool {
	if info.Base >= other.Compacted.UpTo && info.Base >= other.Compacted.Done {
		return false
	}
	there, ok := other.Segment(info.Base)
	return !ok || !there.Same(info)
}
