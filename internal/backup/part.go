package backup

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/raftsman/raftsman/internal/seglog"
)

// Part is what a backup has of a partition.
type Part struct {
	Format    int    `json:"format"`
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	Start     int64  `json:"start"`
	End       int64  `json:"end"`
	// Compacted says that records may have been removed from the midst.
	Compacted bool     `json:"compacted,omitempty"`
	Objects   []Object `json:"objects"` // by offset
}

// Object is some batches of a partition.
type Object struct {
	First   int64  `json:"first"` // offset of its first batch
	Next    int64  `json:"next"`  // behind its last
	Bytes   int64  `json:"bytes"`
	Batches int64  `json:"batches"`
	SHA256  string `json:"sha256"`
	// Blocks are the CRC32C of each 256 KiB, 8 hex digits each, to say where damage is.
	Blocks string `json:"blocks"`
	// Last is its last batch as the cluster has it.
	Last LastBatch `json:"last"`
	// MaxProducerID is the highest in it, or -1.
	MaxProducerID int64 `json:"max_producer_id"`
}

// LastBatch tells a batch from others that might be at its offset.
type LastBatch struct {
	Base  int64  `json:"base"`
	Epoch int32  `json:"epoch"` // of the leader that wrote it
	CRC   uint32 `json:"crc"`
}

const blockBytes = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Totals are the sums of the objects, as a Partition has them.
func (p *Part) totals() Partition {
	t := Partition{Start: p.Start, End: p.End, Objects: len(p.Objects), MaxProducerID: -1}
	for _, o := range p.Objects {
		t.Bytes += o.Bytes
		t.Batches += o.Batches
		t.MaxProducerID = max(t.MaxProducerID, o.MaxProducerID)
	}
	return t
}

// DecodePart reads a Part.
func DecodePart(b []byte) (p Part, err error) {
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("part of a backup: %w", err)
	}
	if p.Format != Format {
		return p, fmt.Errorf("part of a backup has format %d, this program knows %d: run a newer one", p.Format, Format)
	}
	if !validTopic(p.Topic) || !validTopicID(p.TopicID) || p.Partition < 0 || p.Start < 0 || p.End < p.Start {
		return p, fmt.Errorf("part of a backup: %.300q/%d from %d to %d", p.Topic, p.Partition, p.Start, p.End)
	}
	next := int64(0)
	for i, o := range p.Objects {
		if err := o.check(next); err != nil || o.Next <= p.Start || o.Next > p.End {
			return p, fmt.Errorf("part of a backup: %s/%d: object %d from %d to %d does not fit (%v)", p.Topic, p.Partition, i, o.First, o.Next, err)
		}
		next = o.Next
	}
	return p, nil
}

func (o Object) check(floor int64) error {
	switch {
	case o.First < floor || o.Next <= o.First || o.Last.Base < o.First || o.Last.Base >= o.Next:
		return fmt.Errorf("it overlaps")
	case o.Bytes < seglog.BatchHeaderLen || o.Bytes > maxObject || o.Batches < 1 || o.Batches > o.Bytes/seglog.BatchHeaderLen:
		return fmt.Errorf("%d bytes, %d batches", o.Bytes, o.Batches)
	case !isSum(o.SHA256) || o.MaxProducerID < -1:
		return fmt.Errorf("sha256 %.80q", o.SHA256)
	}
	if _, err := hex.DecodeString(o.Blocks); err != nil || int64(len(o.Blocks)) != 8*((o.Bytes+blockBytes-1)/blockBytes) {
		return fmt.Errorf("checksums of %d bytes", len(o.Blocks))
	}
	return nil
}

// describe makes the Object of some batches: each must check.
func describe(data []byte) (o Object, err error) {
	o = Object{Bytes: int64(len(data)), SHA256: sum(data), MaxProducerID: -1}
	for rest := data; len(rest) > 0; {
		var b seglog.Batch
		if b, rest, err = seglog.NextBatch(rest); err != nil {
			return o, err
		}
		if err := checkBatch(b, o.Next); err != nil {
			return o, err
		}
		if o.Batches == 0 {
			o.First = b.BaseOffset()
		}
		o.Batches++
		o.Next = b.LastOffset() + 1
		o.Last = lastBatch(b)
		o.MaxProducerID = max(o.MaxProducerID, b.ProducerID())
	}
	for at := 0; at < len(data); at += blockBytes {
		o.Blocks += fmt.Sprintf("%08x", crc32.Checksum(data[at:min(at+blockBytes, len(data))], castagnoli))
	}
	return o, o.check(0)
}

func lastBatch(b seglog.Batch) LastBatch { return LastBatch{b.BaseOffset(), b.LeaderEpoch(), b.CRC()} }

// checkBatch checks a batch that must lie at floor or above.
func checkBatch(b seglog.Batch, floor int64) error {
	if err := b.ValidateStored(); err != nil {
		return err
	}
	if b.BaseOffset() < floor || b.LastOffset() < b.BaseOffset() {
		return fmt.Errorf("%w: offsets %d to %d behind offset %d", seglog.ErrInconsistent, b.BaseOffset(), b.LastOffset(), floor)
	}
	return nil
}

// verify compares an object's bytes with what is known of them, and finds the place
// where they differ. Object and topic are for the error.
func (o Object) verify(name string, p *Part, data []byte) error {
	whole := &DamageError{Object: name, To: max(o.Bytes, int64(len(data))), Topic: p.Topic, Partition: p.Partition, First: o.First, Next: o.Next}
	if int64(len(data)) != o.Bytes {
		whole.Reason = fmt.Sprintf("it has %d bytes, not %d", len(data), o.Bytes)
		return whole
	}
	if sum(data) == o.SHA256 {
		return nil
	}
	e := *whole
	e.From, e.To = o.damaged(data)
	e.Reason = "its checksum is wrong"
	return e.narrow(data)
}

// narrow finds the batches within the bytes of the damage. One whose own checksum is
// wrong is the place. Otherwise it lies where no batch's checksum is about, the base
// offset or the epoch, and all batches that the bytes touch are named.
func (e DamageError) narrow(data []byte) *DamageError {
	at, next := int64(0), e.First
	for rest := data; len(rest) > 0; {
		b, behind, err := seglog.NextBatch(rest)
		if err == nil {
			err = b.ValidateStored()
		}
		end := at + int64(len(b))
		switch {
		case err != nil:
			e.First, e.From, e.Reason = next, max(e.From, at), err.Error()
			if after, _, err := seglog.NextBatch(behind); len(b) > 0 && err == nil && after.ValidateStored() == nil {
				e.Next, e.To = after.BaseOffset(), min(e.To, end)
			}
			return &e
		case end <= e.From:
			e.First = b.LastOffset() + 1
		case at >= e.To:
			e.Next = b.BaseOffset()
			return &e
		}
		at, next, rest = end, b.LastOffset()+1, behind
	}
	return &e
}

// damaged returns the range of the blocks whose checksum is wrong.
func (o Object) damaged(data []byte) (from, to int64) {
	from = -1
	for i := 0; i*blockBytes < len(data); i++ {
		block := data[i*blockBytes : min((i+1)*blockBytes, len(data))]
		if fmt.Sprintf("%08x", crc32.Checksum(block, castagnoli)) != o.Blocks[8*i:8*i+8] {
			if from < 0 {
				from = int64(i * blockBytes)
			}
			to = int64(i*blockBytes + len(block))
		}
	}
	if from < 0 { // the sums themselves are wrong
		return 0, int64(len(data))
	}
	return from, to
}
