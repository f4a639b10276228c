package seglog

import (
	"fmt"
	"hash/crc32"
	"io"
)

// walker checks the headers of consecutive batches of one segment. The zero
// epoch is below all others.
type walker struct {
	seg   string // file name
	pos   int64  // of the next batch
	end   int64  // bytes of the segment
	last  int64  // offset of its last record
	next  int64  // least offset the next batch may begin at
	exact bool   // it must begin exactly there
	epoch int32
}

// check looks at the header of the batch at w.pos and moves behind the batch.
func (w *walker) check(h Batch) error {
	size, base := h.Size(), h.BaseOffset()
	reason := ""
	switch {
	case h.Magic() != 2:
		reason = fmt.Sprintf("magic %d", h.Magic())
	case size < BatchHeaderLen || size > w.end-w.pos:
		reason = fmt.Sprintf("batch of %d bytes, the segment ends after %d", size, w.end-w.pos)
	case base < w.next || w.exact && base != w.next:
		reason = fmt.Sprintf("batch begins at offset %d, expected %d", base, w.next)
	case h.LastOffsetDelta() < 0 || h.LastOffset() < base || h.LastOffset() > w.last:
		reason = fmt.Sprintf("batch ends at offset %d, the segment at %d", h.LastOffset(), w.last)
	case h.LeaderEpoch() < w.epoch:
		reason = fmt.Sprintf("leader epoch %d after %d", h.LeaderEpoch(), w.epoch)
	default:
		w.pos += size
		w.next, w.exact, w.epoch = h.LastOffset()+1, false, h.LeaderEpoch()
		return nil
	}
	return &DamageError{File: w.seg, Offset: w.pos, Reason: reason}
}

const scanBytes = 1 << 20

// scanFile reads a whole segment, checks it against info (CRC, headers, last
// offset, greatest timestamp), and returns its index and last leader epoch.
func scanFile(f io.ReaderAt, name string, info SegmentInfo, interval int64) (entries []indexEntry, epoch int32, err error) {
	var (
		crc  uint32
		head [BatchHeaderLen]byte
		have int   // bytes of head
		skip int64 // rest of a batch
		top  = int64(-1)
		w    = walker{seg: name, end: info.Bytes, last: info.LastOffset, next: info.Base, exact: true, epoch: minEpoch}
		buf  = make([]byte, min(scanBytes, info.Bytes))
	)
	var bad error // of a header; what the CRC says comes first
	for at := int64(0); at < info.Bytes; {
		p := buf[:min(int64(len(buf)), info.Bytes-at)]
		n, err := f.ReadAt(p, at)
		if n < len(p) {
			if err == io.EOF {
				return nil, 0, &DamageError{File: name, Offset: at + int64(n), Reason: fmt.Sprintf("the file ends here, wanted %d bytes", info.Bytes)}
			}
			return nil, 0, fmt.Errorf("read %s: %w", name, err)
		}
		crc = crc32.Update(crc, castagnoli, p)
		at += int64(n)
		for len(p) > 0 && bad == nil {
			if skip > 0 {
				k := min(skip, int64(len(p)))
				p, skip = p[k:], skip-k
				continue
			}
			k := copy(head[have:], p)
			p, have = p[k:], have+k
			if have < BatchHeaderLen {
				break
			}
			h, pos := Batch(head[:]), w.pos
			if bad = w.check(h); bad == nil {
				entries = addEntry(entries, info.Base, h.BaseOffset(), pos, top, interval)
				top = max(top, h.maxTime())
				have, skip = 0, h.Size()-BatchHeaderLen
			}
		}
	}
	switch {
	case crc != info.CRC:
		reason := fmt.Sprintf("crc32c %08x of %d bytes, expected %08x", crc, info.Bytes, info.CRC)
		if d, ok := bad.(*DamageError); ok {
			return nil, 0, &DamageError{File: name, Offset: d.Offset, Reason: d.Reason + "; " + reason}
		}
		return nil, 0, &DamageError{File: name, Reason: reason}
	case bad != nil:
		return nil, 0, bad
	case w.pos != info.Bytes || w.next != info.LastOffset+1:
		return nil, 0, &DamageError{File: name, Offset: w.pos, Reason: fmt.Sprintf("ends at offset %d, expected %d", w.next-1, info.LastOffset)}
	case top != info.MaxTimestamp:
		return nil, 0, &DamageError{File: name, Reason: fmt.Sprintf("greatest timestamp %d, expected %d", top, info.MaxTimestamp)}
	}
	return entries, w.epoch, nil
}
