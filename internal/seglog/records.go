package seglog

import (
	"encoding/binary"
	"fmt"
	"runtime"
)

// minRecordLen is the shortest record: its length, attributes, two deltas,
// null key, null value, no headers.
const minRecordLen = 7

// decoding bounds how many batches are decompressed at once: each may take
// MaxRecordsBytes, and as many clients as there are connections may send one.
var decoding = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))

// Records decodes the records of a batch in order until fn returns false. Key
// and value are valid during the call only; nil is a null. The records of a
// batch with LogAppendTime all have the batch's MaxTimestamp. It needs no
// Validate first; memory is bounded by MaxRecordsBytes. fn must not call Records.
func Records(b Batch, fn func(offset, timestamp int64, key, value []byte) bool) error {
	return b.plain(func(p []byte) error { return b.records(p, fn) })
}

// Record is a record as its producer wrote it.
type Record struct {
	Offset, Timestamp int64
	Key, Value        []byte // nil is a null
	headers           []byte
}

// Headers calls fn for each header, in order; a nil value is a null.
func (r Record) Headers(fn func(key string, value []byte)) {
	count, k := binary.Varint(r.headers)
	for p := r.headers[k:]; count > 0; count-- {
		key, rest, _ := field(p)
		value, rest, _ := field(rest)
		p = rest
		fn(string(key), value)
	}
}

// WholeRecords is Records with the headers.
func WholeRecords(b Batch, fn func(Record) bool) error {
	return b.plain(func(p []byte) error {
		base, baseTime := b.BaseOffset(), b.BaseTimestamp()
		return b.each(p, func(r record) bool {
			whole := Record{Offset: base + r.offsetDelta, Timestamp: baseTime + r.timeDelta, Key: r.key, Value: r.value, headers: r.headers}
			if b.LogAppendTime() {
				whole.Timestamp = b.MaxTimestamp()
			}
			return fn(whole)
		})
	})
}

// plain calls fn with the batch's records without compression.
func (b Batch) plain(fn func(p []byte) error) error {
	if err := b.checkFrame(); err != nil {
		return err
	}
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

// RepairMaxTimestamp corrects the header of a batch whose producer left
// MaxTimestamp unset: it decodes the records and stores the greatest timestamp.
// It reports whether it changed the batch (and so its CRC). Batches that carry
// a MaxTimestamp, or records without time, are not looked at.
func RepairMaxTimestamp(b Batch) (changed bool, err error) {
	if err := b.checkFrame(); err != nil {
		return false, err
	}
	if b.LogAppendTime() || b.MaxTimestamp() >= b.BaseTimestamp() {
		return false, nil
	}
	top := int64(-1)
	err = Records(b, func(_, ts int64, _, _ []byte) bool {
		top = max(top, ts)
		return true
	})
	if err != nil || top == b.MaxTimestamp() {
		return false, err
	}
	b.SetMaxTimestamp(top, false)
	return true, nil
}

func (b Batch) records(p []byte, fn func(offset, timestamp int64, key, value []byte) bool) error {
	base, baseTime := b.BaseOffset(), b.BaseTimestamp()
	appendTime, top := b.LogAppendTime(), b.MaxTimestamp()
	return b.each(p, func(r record) bool {
		ts := baseTime + r.timeDelta
		if appendTime {
			ts = top
		}
		return fn(base+r.offsetDelta, ts, r.key, r.value)
	})
}

// record is one of a batch, as it is stored.
type record struct {
	attributes             byte // unused in magic 2
	timeDelta, offsetDelta int64
	key, value             []byte // nil is a null
	headers                []byte // their count and they, well formed
	tail                   []byte // from the key's length to the record's end
}

// each decodes the records in p, which are those of b without compression.
func (b Batch) each(p []byte, fn func(r record) bool) error {
	lastDelta := int64(b.LastOffsetDelta())
	count := b.NumRecords()
	if count < 0 || int64(count)*minRecordLen > int64(len(p)) {
		return fmt.Errorf("%w: %d records in %d bytes", ErrCorrupt, count, len(p))
	}
	prev := int64(-1)
	for i := int32(0); i < count; i++ {
		rec, rest, ok := field(p)
		if !ok || rec == nil || len(rec) == 0 {
			return fmt.Errorf("%w: record %d of %d is cut short", ErrCorrupt, i, count)
		}
		p = rest
		r := record{attributes: rec[0]}
		rec = rec[1:]
		var n int
		if r.timeDelta, n = binary.Varint(rec); n <= 0 {
			return fmt.Errorf("%w: record %d: timestamp delta", ErrCorrupt, i)
		}
		rec = rec[n:]
		if r.offsetDelta, n = binary.Varint(rec); n <= 0 || r.offsetDelta <= prev || r.offsetDelta > lastDelta {
			return fmt.Errorf("%w: record %d: offset delta", ErrCorrupt, i)
		}
		prev = r.offsetDelta
		r.tail = rec[n:]
		if r.key, rec, ok = field(r.tail); !ok {
			return fmt.Errorf("%w: record %d: key", ErrCorrupt, i)
		}
		if r.value, rec, ok = field(rec); !ok {
			return fmt.Errorf("%w: record %d: value", ErrCorrupt, i)
		}
		if !headersFit(rec) {
			return fmt.Errorf("%w: record %d: headers", ErrCorrupt, i)
		}
		r.headers = rec
		if !fn(r) {
			return nil
		}
	}
	if len(p) != 0 {
		return fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(p))
	}
	return nil
}

// field splits off a varint length and that many bytes; -1 is a null.
func field(p []byte) (value, rest []byte, ok bool) {
	n, k := binary.Varint(p)
	if k <= 0 || n < -1 || n > int64(len(p)-k) {
		return nil, nil, false
	}
	if n == -1 {
		return nil, p[k:], true
	}
	end := k + int(n)
	return p[k:end:end], p[end:], true
}

// headersFit says whether p is a count and that many headers, nothing more.
func headersFit(p []byte) bool {
	count, k := binary.Varint(p)
	if k <= 0 || count < 0 || count > int64(len(p)) {
		return false
	}
	p = p[k:]
	for ; count > 0; count-- {
		key, rest, ok := field(p)
		if !ok || key == nil {
			return false
		}
		if _, p, ok = field(rest); !ok {
			return false
		}
	}
	return len(p) == 0
}
