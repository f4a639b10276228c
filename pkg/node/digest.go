package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/raftnet"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/pkg/replication"
)

// Messages about what replicas store. See docs/formats.md.
const (
	kindVerify  = replication.KindUser + 9  // how far a replica is, digests, checksums: JSON
	kindSegment = replication.KindUser + 10 // part of a segment: JSON, answered with the bytes
	kindMend    = replication.KindUser + 11 // mend a segment of yours: JSON
	kindDamaged = replication.KindUser + 12 // one way: which replicas of mine are damaged
)

const (
	// digestBytes and digestBatches bound one digest, and detailBatches a list.
	digestBytes   = 4 << 20
	digestBatches = 4096
	detailBatches = 4 * digestBatches
	segmentPart   = 1 << 20 // bytes of a segment in one message
	mendTimeout   = 10 * time.Minute
)

// verifyRequest asks a replica's node about it.
type verifyRequest struct {
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	Replica   uint64 `json:"replica"`
	// Digest or Prove (a segment's base offset) may be set.
	Digest *seglog.DigestRequest `json:"digest,omitempty"`
	Prove  *int64                `json:"prove,omitempty"`
	// So may one of these, for what was compacted.
	Layout bool                  `json:"layout,omitempty"`
	Values *seglog.ValuesRequest `json:"values,omitempty"`
}

// verifyReply is about one replica.
type verifyReply struct {
	Applied       uint64         `json:"applied,omitempty"` // raft index
	Start         int64          `json:"start"`
	HighWatermark int64          `json:"high_watermark,omitempty"`
	Digest        *seglog.Digest `json:"digest,omitempty"`
	Damage        string         `json:"damage,omitempty"` // of the segment that was to be proved

	Layout *partition.Layout `json:"layout,omitempty"`
	Values *seglog.Values    `json:"values,omitempty"`
}

// segmentRequest asks for part of a segment, or to have it mended.
type segmentRequest struct {
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	Replica   uint64 `json:"replica"`
	Segment   int64  `json:"segment"` // base offset
	// Generation of the segment, for a replica that is not open there.
	Generation int64 `json:"generation,omitempty"`
	Pos        int64 `json:"pos,omitempty"`
	Bytes      int   `json:"bytes,omitempty"`
	// Last is the segment's last offset, if whoever asks wants to know that it is
	// below the log start: the answer is empty then.
	Last int64 `json:"last,omitempty"`
}

// errLetGo says that a segment lies below another replica's log start.
var errLetGo = errors.New("the segment lies below the log start there")

type mendReply struct {
	Mended bool `json:"mended"` // false: it was whole
}

// handleDigests answers the other nodes. It comes before the network starts.
func (n *Node) handleDigests() {
	net := n.host.Net()
	net.Handle(byte(kindVerify), func(_ int32, msg []byte) ([]byte, error) {
		var r verifyRequest
		if err := json.Unmarshal(msg, &r); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		reply, err := n.examine(r)
		if err != nil {
			return nil, err
		}
		return json.Marshal(reply)
	})
	net.Handle(byte(kindSegment), func(_ int32, msg []byte) ([]byte, error) {
		var r segmentRequest
		if err := json.Unmarshal(msg, &r); err != nil {
			return nil, fmt.Errorf("segment: %w", err)
		}
		return n.readSegment(r)
	})
	net.Handle(byte(kindMend), func(_ int32, msg []byte) ([]byte, error) {
		var r segmentRequest
		if err := json.Unmarshal(msg, &r); err != nil {
			return nil, fmt.Errorf("mend: %w", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), mendTimeout)
		defer cancel()
		reply, err := n.mendSegment(ctx, r)
		if err != nil {
			return nil, err
		}
		return json.Marshal(reply)
	})
	net.Handle(byte(kindDamaged), n.mender.hear)
}

// replica returns an open replica by its id.
func (n *Node) replica(topicID string, index int32, replica uint64) (*partition.Partition, error) {
	p, ok := n.replicas.get(partitionID{topicID, index})
	if !ok || p.Group().Replica() != replica {
		return nil, fmt.Errorf("replica %d is not open at node %d", replica, n.ID())
	}
	return p, nil
}

// examine answers a question about a replica of this node.
func (n *Node) examine(r verifyRequest) (reply verifyReply, err error) {
	p, err := n.replica(r.TopicID, r.Partition, r.Replica)
	if err != nil {
		return reply, err
	}
	switch {
	case r.Digest != nil:
		q := *r.Digest
		bound := digestBatches
		if q.Each {
			bound = detailBatches
		}
		if q.MaxBytes <= 0 || q.MaxBytes > 4*digestBytes {
			q.MaxBytes = digestBytes
		}
		if q.MaxBatches <= 0 || q.MaxBatches > bound {
			q.MaxBatches = bound
		}
		var d seglog.Digest
		if d, reply.Start, err = p.Digest(q); err == nil {
			reply.Digest = &d
		}
	case r.Layout:
		var l partition.Layout
		if l, err = p.Layout(); err == nil {
			reply.Layout = &l
		}
	case r.Values != nil:
		ctx, cancel := context.WithTimeout(context.Background(), valuesTimeout)
		defer cancel()
		var v seglog.Values
		if v, err = p.Values(ctx, *r.Values, n.cfg.CompactionMemory); err == nil {
			reply.Values = &v
		}
	case r.Prove != nil:
		reply.Damage, err = p.Prove(*r.Prove)
	default:
		var at partition.Replica
		if at, err = p.Replica(); err == nil {
			reply = verifyReply{Applied: at.Applied, Start: at.Start, HighWatermark: at.HighWatermark}
		}
	}
	return reply, err
}

// readSegment reads part of a segment of this node's, from its file if the
// replica is not open: who asks knows what it must be.
func (n *Node) readSegment(r segmentRequest) ([]byte, error) {
	if r.Bytes <= 0 || r.Bytes > segmentPart || r.Pos < 0 || r.Segment < 0 {
		return nil, fmt.Errorf("segment: %d bytes at %d of segment %d are out of bounds", r.Bytes, r.Pos, r.Segment)
	}
	buf := make([]byte, r.Bytes)
	var got int
	p, err := n.replica(r.TopicID, r.Partition, r.Replica)
	if err == nil {
		if at, err := p.Replica(); err == nil && r.Last > 0 && at.Start > r.Last {
			return nil, nil
		}
		got, err = p.ReadSegment(r.Segment, buf, r.Pos)
	} else {
		got, err = n.replicas.readClosed(r, buf)
	}
	if got == len(buf) {
		return buf, nil
	}
	return nil, fmt.Errorf("segment %d of replica %d: %d of %d bytes at %d: %w", r.Segment, r.Replica, got, len(buf), r.Pos, err)
}

// readClosed reads a segment of a replica that can't be opened.
func (r *replicas) readClosed(q segmentRequest, buf []byte) (int, error) {
	r.mu.Lock()
	f, ok := r.onDisk[q.Replica]
	r.mu.Unlock()
	if !ok || f.id() != (partitionID{q.TopicID, q.Partition}) {
		return 0, fs.ErrNotExist
	}
	file, err := r.fs.Open(partition.SegmentFile(r.replicaDir(q.Replica), q.Segment, q.Generation))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.ReadAt(buf, q.Pos)
}

// ask sends a message to a node, or answers it itself.
func (n *Node) ask(ctx context.Context, node int32, r verifyRequest) (reply verifyReply, err error) {
	if node == n.ID() {
		return n.examine(r)
	}
	err = n.callJSON(ctx, node, byte(kindVerify), r, &reply)
	return reply, err
}

func (n *Node) callJSON(ctx context.Context, node int32, kind byte, request, reply any) error {
	msg, err := json.Marshal(request)
	if err != nil {
		return err
	}
	answer, err := n.host.Net().Call(ctx, node, raftnet.Bulk, kind, msg)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("answer of node %d: %w", node, err)
	}
	return nil
}

// fetchSegment reads a segment of another node's replica.
func (n *Node) fetchSegment(ctx context.Context, node int32, r segmentRequest) seglog.Fetch {
	return func(base int64, p []byte, off int64) (done int, err error) {
		for done < len(p) {
			q := r
			q.Segment, q.Pos, q.Bytes = base, off+int64(done), min(len(p)-done, segmentPart)
			if err := n.mender.pace.wait(ctx, int64(q.Bytes)); err != nil {
				return done, err
			}
			msg, err := json.Marshal(q)
			if err != nil {
				return done, err
			}
			got, err := n.host.Net().Call(ctx, node, raftnet.Bulk, byte(kindSegment), msg)
			if err != nil {
				return done, err
			}
			if len(got) == 0 {
				return done, errLetGo
			}
			if len(got) != q.Bytes {
				return done, errors.New("segment: the answer has the wrong length")
			}
			done += copy(p[done:], got)
		}
		return done, nil
	}
}
