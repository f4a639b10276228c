package seglog

import (
	"fmt"
	"hash/crc32"
)

// DigestRequest asks for a digest of the batches that hold records of
// [From, To).
type DigestRequest struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// MaxBytes and MaxBatches end the digest early, behind the batch that
	// reaches one of them; 0 is no bound.
	MaxBytes   int64 `json:"max_bytes,omitempty"`
	MaxBatches int   `json:"max_batches,omitempty"`
	// Each wants a list of the batches, too.
	Each bool `json:"each,omitempty"`
	// Cursor is that of an earlier Digest of the same log which ended at or
	// before From; it saves reading the segment from its beginning.
	Cursor *Cursor `json:"cursor,omitempty"`
}

// Digest sums up stored batches. Equal logs have digests with equal First,
// Next, Batches, Bytes and CRC.
type Digest struct {
	First   int64  `json:"first"` // base offset of the first batch; Next if there is none
	Next    int64  `json:"next"`  // offset behind the last batch
	Batches int    `json:"batches"`
	Bytes   int64  `json:"bytes"`
	CRC     uint32 `json:"crc"` // CRC32C of the batches, headers included, as stored
	// Damage is what checksums prove; what lies there is not in CRC.
	Damage []Damage      `json:"damage,omitempty"`
	List   []BatchDigest `json:"list,omitempty"`
	Cursor *Cursor       `json:"cursor,omitempty"` // where the next Digest goes on
}

// BatchDigest is one stored batch whose own checksum is right.
type BatchDigest struct {
	Offset  int64  `json:"offset"` // of the first record
	Last    int64  `json:"last"`   // of the last one
	Epoch   int32  `json:"epoch"`
	Bytes   int64  `json:"bytes"`
	CRC     uint32 `json:"crc"` // CRC32C of the whole batch
	Segment int64  `json:"segment"`
	File    string `json:"file"`
	Pos     int64  `json:"pos"`
}

// Damage is a place where a checksum does not match what is stored.
type Damage struct {
	Segment int64  `json:"segment"` // base offset
	File    string `json:"file"`
	Pos     int64  `json:"pos"`
	Offset  int64  `json:"offset"` // of the first record that is lost
	Until   int64  `json:"until"`  // behind the last one
	// Whole says that only the checksum of the whole segment tells.
	Whole  bool   `json:"whole,omitempty"`
	Reason string `json:"reason"`
}

// Cursor is a place in a log. A segment's checksum is computed on the way.
type Cursor struct {
	Segment int64 `json:"segment"` // base offset
	Pos     int64 `json:"pos"`
	// Generation of the segment: bytes of another one are other bytes.
	Generation int64  `json:"generation,omitempty"`
	Next       int64  `json:"next"` // least offset that the next batch may begin at
	Epoch      int32  `json:"epoch"`
	CRC        uint32 `json:"crc"`     // of the segment before Pos
	Damaged    bool   `json:"damaged"` // damage was found in the segment before Pos
}

// proofBytes is how much is read behind To for the checksum of a segment.
const proofBytes = 16 << 20

// Digest reads what is stored, from the files as far as it was written to them,
// and checks it. Damage is no error: it is in the Digest, and reading goes on
// behind it. The range must not begin below the log start of the Pin.
func (p *Pin) Digest(r DigestRequest) (Digest, error) {
	d := digester{pin: p, req: r, Digest: Digest{First: -1, Next: r.From}}
	for _, info := range p.st.Segments {
		if info.LastOffset < r.From {
			continue
		}
		if d.full() || info.Base >= r.To {
			break
		}
		if err := d.segment(info); err != nil {
			return Digest{}, fmt.Errorf("digest of segment %d: %w", info.Base, err)
		}
	}
	if d.First < 0 {
		d.First = d.Next
	}
	return d.Digest, nil
}

type digester struct {
	Digest
	pin *Pin
	req DigestRequest
	in  inspector
	at  Cursor
}

func (d *digester) full() bool {
	return d.req.MaxBytes > 0 && d.Bytes >= d.req.MaxBytes || d.req.MaxBatches > 0 && d.Batches >= d.req.MaxBatches
}

// segment walks through one segment, from the cursor or its beginning.
func (d *digester) segment(info SegmentInfo) error {
	name := d.pin.fileOf(info.Base)
	d.at = Cursor{Segment: info.Base, Generation: info.Generation, Next: info.Base, Epoch: minEpoch}
	if c := d.req.Cursor; c != nil && c.Segment == info.Base && c.Generation == info.Generation && c.Next <= d.req.From && c.Pos >= 0 && c.Pos <= info.Bytes {
		d.at = *c
	}
	d.in = inspector{f: &pinFile{pin: d.pin, base: info.Base, name: name, size: info.Bytes}, report: SegmentReport{Size: info.Bytes}}
	for d.at.Pos < info.Bytes && !d.full() {
		d.in.next, d.in.epoch = d.at.Next, d.at.Epoch
		b, reason, err := d.in.batch(d.at.Pos)
		if d.pin.log.closed() {
			return ErrClosed
		}
		if err != nil { // what can't be read is lost, too
			d.lose(info, name, info.Bytes, info.LastOffset+1, err.Error())
			return nil
		}
		if reason == "" && b.LastOffset() > info.LastOffset {
			reason = fmt.Sprintf("batch ends at offset %d, the segment at %d", b.LastOffset(), info.LastOffset)
		}
		if reason != "" {
			if err := d.skip(info, name, reason); err != nil {
				return err
			}
			continue
		}
		if b.BaseOffset() >= d.req.To {
			break
		}
		d.take(name, b)
	}
	if d.at.Pos < info.Bytes && (d.full() || info.Bytes-d.at.Pos > proofBytes) {
		d.keep()
		return nil
	}
	d.keep()
	return d.prove(info, name)
}

func (d *digester) keep() {
	at := d.at
	d.Cursor = &at
}

// take moves behind a batch that checks.
func (d *digester) take(name string, b Batch) {
	pos := d.at.Pos
	d.at.CRC = crc32.Update(d.at.CRC, castagnoli, b)
	d.at.Pos += int64(len(b))
	d.at.Next, d.at.Epoch = b.LastOffset()+1, b.LeaderEpoch()
	if b.LastOffset() < d.req.From {
		return
	}
	if d.First < 0 {
		d.First = b.BaseOffset()
	}
	d.Next = d.at.Next
	d.Batches++
	d.Bytes += int64(len(b))
	d.CRC = crc32.Update(d.CRC, castagnoli, b)
	if d.req.Each {
		d.List = append(d.List, BatchDigest{
			Offset: b.BaseOffset(), Last: b.LastOffset(), Epoch: b.LeaderEpoch(), Bytes: int64(len(b)),
			CRC: crc32.Checksum(b, castagnoli), Segment: d.at.Segment, File: name, Pos: pos,
		})
	}
}

// skip goes on at the next batch that checks.
func (d *digester) skip(info SegmentInfo, name, reason string) error {
	next, err := d.behind(info)
	until := info.LastOffset + 1
	if err == nil && next < info.Bytes {
		var b Batch
		if b, _, err = d.in.batch(next); err == nil && b != nil {
			until = b.BaseOffset()
		}
	}
	if d.pin.log.closed() {
		return ErrClosed
	}
	if err != nil {
		next, until, reason = info.Bytes, info.LastOffset+1, reason+"; "+err.Error()
	}
	d.lose(info, name, next, until, reason)
	return nil
}

// behind finds the next batch: where the header says, if one that checks is
// there, else by looking at each byte.
func (d *digester) behind(info SegmentInfo) (int64, error) {
	pos := d.at.Pos
	if left := info.Bytes - pos; left >= BatchHeaderLen {
		if err := d.in.read(pos, BatchHeaderLen); err != nil {
			return 0, err
		}
		h := Batch(d.in.buf)
		if next := pos + h.Size(); d.in.implausible(h, left) == "" {
			if next == info.Bytes {
				return next, nil
			}
			if b, reason, err := d.in.batch(next); err == nil && reason == "" && b != nil {
				return next, nil
			}
		}
	}
	return d.in.resync(pos + 1)
}

// lose notes damage from the cursor to a place.
func (d *digester) lose(info SegmentInfo, name string, next, until int64, reason string) {
	if until > d.req.From && d.at.Next < d.req.To {
		d.Damage = append(d.Damage, Damage{
			Segment: info.Base, File: name, Pos: d.at.Pos, Offset: max(d.at.Next, d.req.From), Until: until, Reason: reason,
		})
		if d.First < 0 {
			d.First = max(d.at.Next, d.req.From)
		}
		d.Next = min(until, d.req.To)
	}
	d.Bytes += next - d.at.Pos
	d.at.Pos, d.at.Next, d.at.Damaged = next, until, true
	d.keep()
}

// prove compares the checksum of the whole segment, of which the part before the
// cursor was read. It tells of what no batch's own checksum covers.
func (d *digester) prove(info SegmentInfo, name string) error {
	if d.at.Damaged {
		return nil
	}
	crc := d.at.CRC
	for pos := d.at.Pos; pos < info.Bytes; {
		n := min(scanBytes, info.Bytes-pos)
		if err := d.in.read(pos, n); err != nil {
			if d.pin.log.closed() {
				return ErrClosed
			}
			return nil // not in the range; whoever reads that range will see it
		}
		crc = crc32.Update(crc, castagnoli, d.in.buf)
		pos += n
	}
	if crc == info.CRC {
		return nil
	}
	if d.pin.log.closed() {
		return ErrClosed
	}
	d.at.Damaged = true
	d.keep()
	d.Damage = append(d.Damage, Damage{
		Segment: info.Base, File: name, Offset: info.Base, Until: info.LastOffset + 1, Whole: true, Reason: wrongCRC(crc, info),
	})
	return nil
}

func wrongCRC(crc uint32, info SegmentInfo) string {
	return fmt.Sprintf("crc32c %08x of %d bytes, expected %08x", crc, info.Bytes, info.CRC)
}
