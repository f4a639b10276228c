package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/seglog"
)

// comparison compares the replicas of one partition.
type comparison struct {
	v        *clusterVerifier
	tp       cluster.TopicPartition
	topicID  string
	replicas []*verified
}

// run goes through the range that all replicas have, a chunk at a time.
func (c *comparison) run(ctx context.Context) error {
	from, to, err := c.bound(ctx)
	if err == nil && len(c.replicas) > 0 {
		from, err = c.compacted(ctx, from, to)
	}
	if err != nil {
		return err
	}
	cursors := make(map[uint64]*seglog.Cursor)
	for from < to && len(c.replicas) > 0 {
		all, start, err := c.digests(ctx, from, to, cursors, false)
		if err != nil {
			return err
		}
		if start > from { // retention let go of what we wanted
			from = start
			continue
		}
		if !agree(all) { // unless it was compacted meanwhile
			at, err := c.compacted(ctx, from, to)
			if err != nil {
				return err
			}
			if at > from {
				from = at
				continue
			}
		}
		next := from
		for _, d := range all {
			next = max(next, d.digest.Next)
			c.v.so.Bytes += d.digest.Bytes
		}
		if next <= from {
			return c.incomplete(cluster.Replica{}, fmt.Sprintf("no replica has a batch in offsets %d to %d", from, to-1))
		}
		c.v.so.Batches += batches(all)
		if !agree(all) {
			if next, err = c.narrow(ctx, from, next, cursors); err != nil {
				return err
			}
		}
		for _, d := range all {
			cursors[d.replica.ID] = d.digest.Cursor
		}
		from = next
		if err := errors.Join(c.v.progress(), c.v.pace.wait(ctx, largest(all))); err != nil {
			return err
		}
	}
	return nil
}

// batches is how many there are, for whoever has the most of them.
func batches(all []compared) (n int64) {
	for _, d := range all {
		n = max(n, int64(d.digest.Batches))
	}
	return n
}

func largest(all []compared) (bytes int64) {
	for _, d := range all {
		bytes = max(bytes, d.digest.Bytes)
	}
	return bytes
}

// digests asks all replicas for a range. start is the highest log start among
// them; if it is above from, nothing was compared.
func (c *comparison) digests(ctx context.Context, from, to int64, cursors map[uint64]*seglog.Cursor, each bool) (all []compared, start int64, err error) {
	err = c.askAll(ctx, func(r *verified) verifyRequest {
		q := &seglog.DigestRequest{From: from, To: to, Each: each, Cursor: cursors[r.ID]}
		if each {
			q.MaxBytes = 4 * digestBytes
		}
		return verifyRequest{Digest: q}
	})
	for _, r := range c.replicas {
		start = max(start, r.reply.Start)
		if r.reply.Digest != nil {
			all = append(all, compared{r.Replica, *r.reply.Digest})
		}
	}
	return all, start, err
}

// narrow finds and reports what differs in [from, to), and has it repaired if
// that is wanted. It returns the offset up to which the batches were compared.
func (c *comparison) narrow(ctx context.Context, from, to int64, cursors map[uint64]*seglog.Cursor) (next int64, err error) {
	all, start, err := c.digests(ctx, from, to, cursors, true)
	if err != nil {
		return 0, err
	}
	if start > from {
		return min(start, to), nil
	}
	// A list may have ended early, because batches or bytes were too many.
	next = to
	for _, d := range all {
		if d.digest.Next > from {
			next = min(next, d.digest.Next)
		}
	}
	for i := range all {
		all[i].digest.List = slices.DeleteFunc(all[i].digest.List, func(b seglog.BatchDigest) bool { return b.Offset >= next })
	}
	if at, err := c.compacted(ctx, from, to); err != nil || at > from {
		return at, err // compacted meanwhile: what was listed may be gone
	}
	found := differences(all)
	if err := c.proveAll(ctx, found); err != nil {
		return 0, err
	}
	for i := range found {
		if err := c.report(ctx, &found[i]); err != nil {
			return 0, err
		}
	}
	for _, d := range all {
		for _, damage := range d.digest.Damage {
			if r := c.of(d.replica.ID); !damage.Whole || r == nil || r.bad[damage.Segment] {
				continue // a batch of that segment was reported
			}
			whole := wholeDamage(d, damage)
			if err := c.report(ctx, &whole); err != nil {
				return 0, err
			}
		}
	}
	return next, nil
}

func (c *comparison) of(replica uint64) *verified {
	for _, r := range c.replicas {
		if r.ID == replica {
			return r
		}
	}
	return nil
}

// proveAll compares the segments of copies that look intact, but differ, with
// their checksums: an offset or an epoch is in no batch's own checksum.
func (c *comparison) proveAll(ctx context.Context, found []Difference) error {
	proved := make(map[uint64]map[int64]string)
	for i := range found {
		d := &found[i]
		if d.Kind == KindDamage {
			continue
		}
		for k := range d.Copies {
			at := &d.Copies[k]
			if at.File == "" {
				continue
			}
			why, done := proved[at.Replica][at.Segment]
			if !done {
				var err error
				if why, err = c.prove(ctx, at); err != nil {
					return err
				}
				if proved[at.Replica] == nil {
					proved[at.Replica] = make(map[int64]string)
				}
				proved[at.Replica][at.Segment] = why
			}
			if why != "" {
				at.State, at.Reason = CopyDamaged, why
			}
		}
		d.classify()
	}
	return nil
}

func (c *comparison) prove(ctx context.Context, at *Copy) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	reply, err := c.v.n.ask(ctx, at.Node, verifyRequest{TopicID: c.topicID, Partition: c.tp.Partition, Replica: at.Replica, Prove: &at.Segment})
	if err != nil {
		return "", c.incomplete(cluster.Replica{Node: at.Node, ID: at.Replica},
			fmt.Sprintf("the checksum of its segment %d could not be asked for: %v", at.Segment, err))
	}
	return reply.Damage, nil
}

// report tells of a difference, and repairs it before.
func (c *comparison) report(ctx context.Context, d *Difference) error {
	d.Topic, d.Partition = c.tp.Topic, c.tp.Partition
	whole := d.Kind == KindDamage
	for i := range d.Copies {
		at := &d.Copies[i]
		r := c.of(at.Replica)
		if at.State != CopyDamaged || r == nil {
			continue
		}
		if r.bad == nil {
			r.bad, r.fixed = make(map[int64]bool), make(map[int64]string)
		}
		r.bad[at.Segment] = true
		if c.v.opts.Repair {
			at.Repair = c.repair(ctx, r, at.Segment)
		}
		whole = whole && at.Repair == repairMended
	}
	d.Repaired = whole
	return c.v.emit(VerifyEvent{Difference: d})
}

const repairMended = "mended"

// repair has a segment mended, once, and says what became of it.
func (c *comparison) repair(ctx context.Context, r *verified, segment int64) string {
	if done, ok := r.fixed[segment]; ok {
		return done
	}
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	q := segmentRequest{TopicID: c.topicID, Partition: c.tp.Partition, Replica: r.ID, Segment: segment}
	var err error
	if r.Node == c.v.n.ID() {
		_, err = c.v.n.mendSegment(ctx, q)
	} else {
		err = c.v.n.callJSON(ctx, r.Node, byte(kindMend), q, &mendReply{})
	}
	r.fixed[segment] = repairMended
	if err != nil {
		r.fixed[segment] = fmt.Sprintf("not mended: %v", err)
	}
	return r.fixed[segment]
}
