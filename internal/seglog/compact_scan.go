package seglog

import (
	"fmt"
	"hash/crc32"
)

// scan calls fn with the batches of a segment, each valid during the call. What
// fn has seen counts only if scan returns nil: the checksum of the whole segment
// is compared at its end.
func (c *compaction) scan(x extent, fn func(b Batch) error) error {
	err := c.scanned(x, fn)
	if err != nil && !c.log.closed() {
		c.log.report(x.seg, err)
	}
	return err
}

func (c *compaction) scanned(x extent, fn func(b Batch) error) error {
	w := walker{seg: x.seg.name, end: x.end, last: x.last, next: x.seg.base, exact: true, epoch: minEpoch}
	crc := uint32(0)
	have := c.buf[:0] // bytes from w.pos on
	for w.pos < x.end {
		if len(have) < BatchHeaderLen || int64(len(have)) < Batch(have).Size() {
			var err error
			if have, err = c.fill(x, w.pos, have); err != nil {
				return err
			}
		}
		if len(have) < BatchHeaderLen {
			return x.seg.damage(w.pos, "no room for a batch header")
		}
		pos, size := w.pos, Batch(have).Size()
		if err := w.check(Batch(have)); err != nil {
			return err
		}
		if int64(len(have)) < size {
			var err error
			if have, err = c.fill(x, pos, have); err != nil {
				return err
			}
			if int64(len(have)) < size {
				return x.seg.damage(pos, fmt.Sprintf("batch of %d bytes", size))
			}
		}
		b := Batch(have[:size:size])
		if sum := crc32.Checksum(b[posAttributes:], castagnoli); sum != b.CRC() {
			return x.seg.damage(pos, fmt.Sprintf("batch has crc %08x, its header says %08x", sum, b.CRC()))
		}
		crc = crc32.Update(crc, castagnoli, b)
		if err := fn(b); err != nil {
			return err
		}
		have = have[size:]
	}
	c.log.mu.Lock()
	info := x.seg.infoLocked()
	c.log.mu.Unlock()
	if crc != info.CRC {
		return x.seg.damage(0, wrongCRC(crc, info))
	}
	return nil
}

// fill reads on: it returns have, which begins at pos, with what follows, at
// least the whole batch if its length is known and makes sense.
func (c *compaction) fill(x extent, pos int64, have []byte) ([]byte, error) {
	want := int64(scanBytes)
	if len(have) >= BatchHeaderLen {
		if size := Batch(have).Size(); size > want && size <= inspectBytes {
			want = size
		}
	}
	want = min(want, x.end-pos)
	if int64(len(have)) >= want {
		return have, nil
	}
	if int64(cap(c.buf)) < want {
		c.buf = make([]byte, want)
	}
	n := copy(c.buf[:want], have)
	more := c.buf[n:want]
	if err := c.req.Wait(c.ctx, len(more)); err != nil {
		return nil, err
	}
	got, err := c.pin.readExtent(x, more, pos+int64(n))
	c.stats.Read += int64(got)
	if got < len(more) {
		return nil, err
	}
	return c.buf[:want], nil
}
