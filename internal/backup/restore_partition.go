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

// fill sends what the target does not have of a partition.
func (r *restorer) fill(ctx context.Context, t chosen, index int32) error {
	defer r.opts.report()
	part, err := readSummed(ctx, r.place, r.m.ID, t.Topic, index)
	if err != nil {
		return err
	}
	s, err := r.target.state(ctx, t.into, index)
	if err != nil {
		return err
	}
	want := gateway.RefillRequest{Topic: t.into, Partition: index, Token: r.token(t, index), Offset: part.Start}
	if s.Token == 0 && s.Next > 0 {
		if err := r.restored(ctx, t, part, s); err != nil {
			return err
		}
		r.opts.done.offsetsDone.Add(part.End - part.Start)
		r.opts.done.partitionsDone.Add(1)
		return nil
	}
	at, begun := part.Start, s.Token == want.Token
	for _, o := range part.Objects {
		if begun && o.Next <= s.Next {
			r.opts.done.offsetsDone.Add(o.Next - at)
			at = o.Next
			continue
		}
		data, err := readObject(ctx, r.place, &r.opts.Work, part, o)
		if err != nil {
			return err
		}
		for len(data) > 0 {
			chunk, rest, err := split(data, part.Start)
			if err != nil {
				return err
			}
			data = rest
			if len(chunk) == 0 {
				continue // all of it is below the log start
			}
			if first := seglog.Batch(chunk).BaseOffset(); !begun {
				want.Offset, begun = min(first, part.Start), true
				if s, err = r.target.begin(ctx, want); err != nil {
					return err
				}
			}
			if s, err = r.target.fill(ctx, want, chunk); err != nil {
				return err
			}
			r.opts.done.offsetsDone.Add(max(s.Next-at, 0))
			at = max(at, s.Next)
			r.opts.report()
		}
	}
	if !begun {
		if _, err = r.target.begin(ctx, want); err != nil {
			return err
		}
	}
	r.opts.done.offsetsDone.Add(part.End - at)
	r.opts.done.partitionsDone.Add(1)
	r.note(t, index, part.Start)
	return nil
}

// note remembers that a partition is to be opened.
func (r *restorer) note(t chosen, index int32, start int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened == nil {
		r.opened = make(map[string]int64)
	}
	r.opened[partKey(t.ID, index)] = start
}

// open ends the refill of a partition.
func (r *restorer) open(ctx context.Context, t chosen, index int32) error {
	r.mu.Lock()
	start, ok := r.opened[partKey(t.ID, index)]
	r.mu.Unlock()
	if !ok {
		return nil // it was open already
	}
	return r.target.end(ctx, gateway.RefillRequest{
		Topic: t.into, Partition: index, Token: r.token(t, index), Offset: start, Next: t.Partitions[index].End,
	})
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
