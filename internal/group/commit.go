package group

import (
	"math"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit
//
//	1    generation and member; a commit time for each partition, in this version alone
//	2-4  how long the offsets are to be kept
//	6    leader epochs (KIP-320)
//	7    static members (KIP-345)
//	9    GROUP_ID_NOT_FOUND where it was ILLEGAL_GENERATION
//	10   topic ids, beside the names that the caller has found
//
// Offsets are written as one batch, and seen by OffsetFetch once that is
// committed.

func (m *Machine) commit(w waiter, req *kmsg.OffsetCommitRequest) {
	g := m.groups[req.Group]
	if err := checkCommit(g, req); err != nil {
		m.reply(w, Refuse(req, err))
		return
	}
	if g == nil {
		g = m.open(req.Group)
		defer m.closeUnused(g)
	}
	if x := g.members[req.MemberID]; x != nil && g.state != completing {
		m.touch(x)
	}
	offers := m.offers(g, req)
	resp := commitResponse(req, offers)
	recs, accepted := encode(g, offers)
	if len(accepted) == 0 {
		m.reply(w, resp)
		return
	}
	m.write(g, recs, func(err error) {
		for _, o := range accepted {
			if err == nil {
				m.stats.Commits++
				o.slot.committed, o.slot.known = o.committed, true
			}
			g.settle(o.topic, o.partition, o.slot)
		}
		if err != nil {
			refuseCommits(resp, commitRefusal(err).Code)
		}
		m.reply(w, resp)
	})
}

// checkCommit is Kafka's check of who may commit: members of the generation, but
// not while it gets its assignment; and anybody without a generation if the
// group has no members, which is how groups are used that only store offsets.
func checkCommit(g *group, req *kmsg.OffsetCommitRequest) *kerr.Error {
	switch {
	case len(req.Group) > maxName:
		return kerr.InvalidGroupID
	case g == nil && req.Generation < 0:
		return nil
	case g == nil && req.Version >= 9:
		return kerr.GroupIDNotFound
	case g == nil:
		return kerr.IllegalGeneration
	case g.state == dead:
		return kerr.CoordinatorNotAvailable
	case g.state == empty && req.Generation < 0:
		return nil
	}
	if req.Generation < 0 && req.MemberID == "" && req.InstanceID == nil {
		return kerr.UnknownMemberID
	}
	if err := g.validate(req.MemberID, req.InstanceID); err != nil {
		return err
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration
	}
	if g.state == completing {
		return kerr.RebalanceInProgress
	}
	return nil
}

// offer is one partition's part in a commit.
type offer struct {
	place
	committed
	err  *kerr.Error
	slot *offset
}

// offers reads the partitions of a commit, in the request's order.
func (m *Machine) offers(g *group, req *kmsg.OffsetCommitRequest) []offer {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	now := m.now.UnixMilli()
	expires := int64(-1)
	if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		expires = now + min(req.RetentionTimeMillis, math.MaxInt64-now)
	}
	all := make([]offer, 0, n)
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			o := offer{place: place{t.Topic, p.Partition}}
			o.committed = committed{p.Offset, max(p.LeaderEpoch, -1), noMetadata, now, expires, t.TopicID}
			if req.Version == 1 && p.Timestamp >= 0 {
				o.at = p.Timestamp
			}
			if p.Metadata != nil {
				o.metadata = interned(*p.Metadata)
			}
			switch {
			case len(t.Topic) > maxName:
				o.err = kerr.UnknownTopicOrPartition
			case m.metadataTooLarge(*o.metadata):
				o.err = kerr.OffsetMetadataTooLarge
			}
			all = append(all, o)
		}
	}
	return all
}

// metadataTooLarge counts as Kafka does, in UTF-16 units.
func (m *Machine) metadataTooLarge(s string) bool {
	if len(s) <= m.cfg.MaxOffsetMetadata {
		return false
	}
	return len(s) > math.MaxInt16 || len(utf16.Encode([]rune(s))) > m.cfg.MaxOffsetMetadata
}

// encode makes the records of a commit, and returns the partitions that are in
// it.
func encode(g *group, offers []offer) ([]Record, []*offer) {
	size := 0
	for i := range offers {
		size += 64 + len(g.name) + len(offers[i].topic) + len(*offers[i].metadata)
	}
	var recs records
	recs.grow(len(offers), size)
	accepted := make([]*offer, 0, len(offers))
	for i := range offers {
		o := &offers[i]
		if o.err != nil {
			continue
		}
		recs.offset(g.name, o.topic, o.partition, &o.committed)
		o.slot = g.slot(o.topic, o.partition)
		o.slot.pending++
		accepted = append(accepted, o)
	}
	return recs.done(), accepted
}

func commitResponse(req *kmsg.OffsetCommitRequest, offers []offer) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	partitions := make([]kmsg.OffsetCommitResponseTopicPartition, len(offers))
	for i := range req.Topics {
		n := len(req.Topics[i].Partitions)
		t := &resp.Topics[i]
		t.Topic, t.TopicID, t.Partitions = req.Topics[i].Topic, req.Topics[i].TopicID, partitions[:n:n]
		for j := range t.Partitions {
			t.Partitions[j].Partition, t.Partitions[j].ErrorCode = offers[j].partition, code(offers[j].err)
		}
		partitions, offers = partitions[n:], offers[n:]
	}
	return resp
}

// refuseCommits gives an error to all partitions that had none.
func refuseCommits(resp *kmsg.OffsetCommitResponse, code int16) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = code
			}
		}
	}
}
