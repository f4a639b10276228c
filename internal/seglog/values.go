package seglog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ValuesRequest asks for a digest of the last value of each key in [From, To).
type ValuesRequest struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Values sums up the last value of each key, without those that were deleted.
// Logs with the same records that were compacted, or not, each in its own way, have
// the same.
type Values struct {
	Keys int64 `json:"keys"`
	// Sum is that of a hash of each key's last record: its offset, key and value.
	Sum   string `json:"sum"`
	Bytes int64  `json:"bytes"` // read
}

// Values reads the range once, or several times if the keys do not fit into
// memory, and checks what it reads: a DamageError says that it can't be summed up.
func (p *Pin) Values(ctx context.Context, r ValuesRequest, memory int64) (Values, error) {
	c := compaction{log: p.log, ctx: ctx, pin: p, buf: make([]byte, scanBytes), req: CompactRequest{Memory: memory,
		Wait: func(ctx context.Context, _ int) error { return context.Cause(ctx) }}}
	for _, info := range p.st.Segments {
		if info.LastOffset >= r.From && info.Base < r.To {
			c.segs = append(c.segs, p.segs[info.key()])
		}
	}
	c.keys = newKeyMap(r.To-r.From, memory)
	for c.parts = 1; ; c.parts *= 2 {
		v := valuesSum{compaction: &c, req: r}
		err := v.run()
		if errors.Is(err, errManyKeys) && c.parts < 1<<20 {
			continue
		}
		if p.log.closed() {
			err = ErrClosed
		}
		return Values{Keys: v.keys, Sum: fmt.Sprintf("%016x%016x", v.sum[0], v.sum[1]), Bytes: c.stats.Read}, err
	}
}

type valuesSum struct {
	*compaction
	req  ValuesRequest
	keys int64
	sum  [2]uint64
	buf  []byte
}

func (v *valuesSum) run() error {
	for v.part = 0; v.part < v.parts; v.part++ {
		v.compaction.keys.reset()
		for _, visit := range []func(h keyHash, offset int64, r record) error{v.note, v.add} {
			for _, x := range v.segs {
				if err := v.scan(x, func(b Batch) error { return v.batch(b, visit) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// batch calls visit for the records of a batch whose keys are of this part.
func (v *valuesSum) batch(b Batch, visit func(h keyHash, offset int64, r record) error) (err error) {
	if b.Control() {
		return nil
	}
	decode(b, func(r record) bool {
		offset := b.BaseOffset() + r.offsetDelta
		if r.key == nil || offset < v.req.From || offset >= v.req.To {
			return true
		}
		if h := hashKey(r.key); v.mine(h) {
			err = visit(h, offset, r)
		}
		return err == nil
	})
	return err
}

func (v *valuesSum) note(h keyHash, offset int64, _ record) error {
	return v.compaction.keys.put(h, offset)
}

func (v *valuesSum) add(h keyHash, offset int64, r record) error {
	if r.value == nil || v.compaction.keys.superseded(h, offset) {
		return nil
	}
	v.buf = binary.BigEndian.AppendUint64(v.buf[:0], uint64(offset))
	v.buf = binary.BigEndian.AppendUint64(v.buf, uint64(len(r.key)))
	v.buf = append(append(v.buf, r.key...), r.value...)
	sum := sha256.Sum256(v.buf)
	v.keys++
	v.sum[0] += binary.BigEndian.Uint64(sum[:])
	v.sum[1] += binary.BigEndian.Uint64(sum[8:])
	return nil
}
