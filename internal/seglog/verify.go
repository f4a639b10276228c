package seglog

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// verify checks the CRC of the batches in [from, to), whose headers were
// checked, if any of it came from a file: a disk may return other bytes than
// were written to it. What comes from the tail was checked on its way in. With
// an error, good is where the damaged batch begins, and next the offset behind
// the batch before it.
func (v *view) verify(name string, from, to int64) (good, next int64, err error) {
	if !v.fromFile(from, to) {
		return to, 0, nil
	}
	var buf [BatchHeaderLen]byte
	for good = from; good < to; {
		h := v.header(good, &buf)
		size := h.Size()
		if crc := v.crc(good+posAttributes, good+size); crc != h.CRC() {
			return good, next, &DamageError{File: name, Offset: good, Reason: fmt.Sprintf("crc32c of the batch is %08x, its header says %08x", crc, h.CRC())}
		}
		good, next = good+size, h.LastOffset()+1
	}
	return good, next, nil
}

// fromFile says whether some of [from, to) is a block of the file.
func (v *view) fromFile(from, to int64) bool {
	at := v.pos
	for i, b := range v.bufs {
		if end := at + int64(len(b)); v.held[i].log == nil && at < to && from < end {
			return true
		}
		at += int64(len(b))
	}
	return false
}

// crc is the CRC32C of the bytes [from, to).
func (v *view) crc(from, to int64) (crc uint32) {
	at := v.pos
	for _, b := range v.bufs {
		lo, hi := max(from, at), min(to, at+int64(len(b)))
		if lo < hi {
			crc = crc32.Update(crc, castagnoli, b[lo-at:hi-at])
		}
		at += int64(len(b))
	}
	return crc
}

// report tells of damage, once for each segment.
func (l *Log) report(s *segment, err error) {
	var d *DamageError
	if errors.As(err, &d) && s.reported.CompareAndSwap(false, true) {
		l.logger.Error("a segment is damaged, reads of the damaged batches fail here and it is mended from another replica that still has it whole: look at the disk",
			"file", d.File, "byte", d.Offset, "reason", d.Reason)
		l.onDamage(s.base, d)
	}
}
