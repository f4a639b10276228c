package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/seglog"
)

// fillBytes is about how much is sent at a time: one entry of the partition's log.
const fillBytes = 1 << 20

// token says which partition of which backup another one is filled from.
func (r *restorer) token(t chosen, index int32) int64 {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %d", r.m.ID, t.ID, t.Partitions[index].Part, index))
	return int64(binary.BigEndian.Uint64(h[:])>>1) | 1
}

// request is about a partition that begins where the first object does: the log start may
// lie in the midst of a batch.
func (r *restorer) request(t chosen, index int32, part *Part) gateway.RefillRequest {
	q := gateway.RefillRequest{Topic: t.into, Partition: index, Token: r.token(t, index), Offset: part.Start}
	if len(part.Objects) > 0 {
		q.Offset = min(q.Offset, part.Objects[0].First)
	}
	return q
}

// begin closes a partition to producers, unless an earlier try has filled and opened it.
func (r *restorer) begin(ctx context.Context, t chosen, index int32) error {
	part, err := readSummed(ctx, r.place, r.m.ID, t.Topic, index)
	if err != nil {
		return err
	}
	s, err := r.target.state(ctx, t.into, index)
	if err != nil {
		return err
	}
	if s.Token == 0 && s.Next > 0 {
		return r.restored(ctx, t, part, s)
	}
	if s, err = r.target.begin(ctx, r.request(t, index, part)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filled == nil {
		r.filled = make(map[string]int64)
	}
	r.filled[partKey(t.ID, index)] = s.Next
	return nil
}

// next is up to where a partition is filled; ok is false if it was open already.
func (r *restorer) next(t chosen, index int32) (next int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, ok = r.filled[partKey(t.ID, index)]
	return next, ok
}

// fill sends what the target does not have of a partition.
func (r *restorer) fill(ctx context.Context, t chosen, index int32) (err error) {
	p := t.Partitions[index]
	at := p.Start
	defer func() {
		if err == nil {
			r.opts.done.offsetsDone.Add(p.End - at)
			r.opts.done.partitionsDone.Add(1)
			r.opts.report()
		}
	}()
	next, ok := r.next(t, index)
	if !ok {
		return nil
	}
	part, err := readSummed(ctx, r.place, r.m.ID, t.Topic, index)
	if err != nil {
		return err
	}
	to := r.request(t, index, part)
	for _, o := range part.Objects {
		var data []byte
		if o.Next > next {
			if data, err = readObject(ctx, r.place, &r.opts.Work, part, o); err != nil {
				return err
			}
		}
		for len(data) > 0 {
			chunk, rest, err := split(data, max(part.Start, next))
			if err != nil {
				return err
			}
			data = rest
			if len(chunk) == 0 {
				continue // nothing of it is wanted
			}
			s, err := r.target.fill(ctx, to, chunk)
			if err != nil {
				return err
			}
			next = s.Next
		}
		r.opts.done.offsetsDone.Add(o.Next - at)
		at = o.Next
		r.opts.report()
	}
	return nil
}

// open ends the refill of a partition.
func (r *restorer) open(ctx context.Context, t chosen, index int32) error {
	if _, ok := r.next(t, index); !ok {
		return nil // it was open already
	}
	p := t.Partitions[index]
	return r.target.end(ctx, gateway.RefillRequest{Topic: t.into, Partition: index, Token: r.token(t, index), Offset: p.Start, Next: p.End})
}

// restored says why a partition that has records can't be what an earlier try has
// restored and opened, or nil.
func (r *restorer) restored(ctx context.Context, t chosen, part *Part, s gateway.RefillState) error {
	refused := fmt.Errorf("topic %s is not empty: its offsets go from %d to %d; delete it, or restore under another name", t.into, s.Start, s.Next)
	if s.Next < part.End || s.Start < part.Start {
		return refused
	}
	if len(part.Objects) == 0 {
		return nil
	}
	last := part.Objects[len(part.Objects)-1]
	if s.Start >= last.Next {
		return nil // retention has removed it since
	}
	details, err := r.src.adm.ListTopics(ctx, t.into)
	if err != nil {
		return err
	}
	same, _, err := r.src.holds(ctx, t.into, uuidOf(details[t.into].ID), part.Partition, last, false)
	if err != nil {
		return err
	}
	if !same {
		return refused
	}
	return nil
}

// split takes about fillBytes of batches off data, without those wholly below start.
// data was checked.
func split(data []byte, start int64) (chunk, rest []byte, err error) {
	rest = data
	for len(rest) > 0 {
		b, behind, err := seglog.NextBatch(rest)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case b.LastOffset() < start && len(chunk) == 0:
			data = behind
		case len(chunk) > 0 && len(chunk)+len(b) > fillBytes:
			return chunk, rest, nil
		default:
			chunk = data[:len(data)-len(behind)]
		}
		rest = behind
	}
	return chunk, rest, nil
}
