package seglog

import (
	"encoding/binary"
	"hash/crc32"
)

// batchCleaner makes what is left of batches. It is one goroutine's.
type batchCleaner struct {
	now     int64 // tombstones whose horizon is not behind it go
	horizon int64 // of tombstones that no compaction has met before

	kept []record
	body []byte // records of the result, before compression
	out  []byte
}

// clean returns what is left of a batch: the batch itself if that is all of it,
// nothing if no record is left, unless hold wants the offsets kept. The result is
// valid until the next call. dead says which records have a later one with
// their key; it is asked once for each, in order.
//
// Records without a key go too, and control batches stay, as in Kafka. A batch
// that does not decode, though its CRC is right, stays as it is.
func (c *batchCleaner) clean(b Batch, hold bool, dead func(offset int64, key []byte) bool) (Batch, error) {
	if b.Control() {
		return b, nil
	}
	var result Batch
	err := b.decoded(func(p []byte) error {
		horizon, seen := b.DeleteHorizon()
		c.kept = c.kept[:0]
		tombstones, base := false, b.BaseOffset()
		err := b.each(p, func(r record) bool {
			gone := dead(base+r.offsetDelta, r.key) || r.key == nil
			if r.value == nil && !gone {
				gone = seen && horizon <= c.now
				tombstones = tombstones || !gone
			}
			if !gone {
				c.kept = append(c.kept, r)
			}
			return true
		})
		if err != nil {
			return err
		}
		switch all := len(c.kept) == int(b.NumRecords()); {
		case all && (len(c.kept) > 0 || hold) && (!tombstones || seen):
			result = b
		case len(c.kept) == 0 && !hold:
			result = nil
		default:
			if !seen {
				horizon = c.horizon
			}
			result, err = c.rebuild(b, tombstones, horizon)
		}
		return err
	})
	clear(c.kept)
	return result, err
}

// decoded calls fn with the records' bytes, without compression.
func (b Batch) decoded(fn func(p []byte) error) error {
	if b.Codec() == codecNone {
		return fn(b[BatchHeaderLen:])
	}
	decoding <- struct{}{}
	defer func() { <-decoding }()
	buf, err := decompress(b.Codec(), b[BatchHeaderLen:])
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	return fn(*buf)
}

// rebuild makes a batch of the records that are kept. Everything but what tells
// of the records stays: offsets, epoch, producer and sequence.
func (c *batchCleaner) rebuild(b Batch, tombstones bool, horizon int64) (Batch, error) {
	attributes := uint16(b.Attributes()) &^ attrHorizon
	oldBase, base, top := b.BaseTimestamp(), b.BaseTimestamp(), b.MaxTimestamp()
	if len(c.kept) > 0 && oldBase+c.kept[0].timeDelta >= -1 {
		base = oldBase + c.kept[0].timeDelta
	}
	if tombstones {
		attributes |= attrHorizon
		base = horizon
	}
	c.body = c.body[:0]
	if !b.LogAppendTime() {
		top = -1
	}
	for _, r := range c.kept {
		ts := oldBase + r.timeDelta
		if !b.LogAppendTime() {
			top = max(top, ts)
		}
		c.body = appendRecord(c.body, r, ts-base)
	}
	if attributes&(attrAppendTime|attrHorizon) == 0 {
		top = max(top, base)
	}
	if len(c.kept) == 0 { // its offsets are all that is left
		attributes &^= attrCodec
		base, top = max(b.MaxTimestamp(), -1), max(b.MaxTimestamp(), -1)
	}
	c.out = append(c.out[:0], b[:BatchHeaderLen]...)
	var err error
	if c.out, err = appendCompressed(c.out, int(attributes&attrCodec), c.body, b[BatchHeaderLen:]); err != nil {
		return nil, err
	}
	out := Batch(c.out)
	be := binary.BigEndian
	be.PutUint32(out[posLength:], uint32(len(out)-batchPrefix))
	be.PutUint16(out[posAttributes:], attributes)
	be.PutUint64(out[posBaseTime:], uint64(base))
	be.PutUint64(out[posMaxTime:], uint64(top))
	be.PutUint32(out[posNumRecords:], uint32(len(c.kept)))
	be.PutUint32(out[posCRC:], crc32.Checksum(out[posAttributes:], castagnoli))
	return out, nil
}

// appendRecord encodes a record, as far as its timestamp goes anew.
func appendRecord(p []byte, r record, timeDelta int64) []byte {
	var head [1 + 2*binary.MaxVarintLen64]byte
	head[0] = r.attributes
	n := 1 + binary.PutVarint(head[1:], timeDelta)
	n += binary.PutVarint(head[n:], r.offsetDelta)
	p = binary.AppendVarint(p, int64(n+len(r.tail)))
	p = append(p, head[:n]...)
	return append(p, r.tail...)
}
