package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of bytes that came from outside. Compare with errors.Is.
var (
	// ErrCorrupt says that bytes are no record batch: wrong lengths, CRC,
	// counts, or records that do not decode.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrInconsistent says that a batch that arrived as it was sent contradicts
	// itself. It is an ErrCorrupt.
	ErrInconsistent = fmt.Errorf("%w: it contradicts itself", ErrCorrupt)
	// ErrUnsupportedMagic says that a batch has a format other than magic 2.
	ErrUnsupportedMagic = errors.New("unsupported record batch magic")
	// ErrUnknownCodec says that a batch is compressed by something unknown.
	ErrUnknownCodec = errors.New("unknown compression codec")
	// ErrInvalidTimestamp says that the timestamps of a batch make no sense.
	ErrInvalidTimestamp = errors.New("invalid timestamp")
	// ErrTooLarge says that a batch decompresses to more than MaxRecordsBytes.
	ErrTooLarge = errors.New("decompressed batch too large")
)

// Where the fields of a batch header are.
const (
	// BatchHeaderLen is the length of the header of a batch; records follow.
	BatchHeaderLen = 61

	batchPrefix = 12 // base offset and length; the length counts what follows

	posLength      = 8
	posEpoch       = 12
	posMagic       = 16
	posCRC         = 17
	posAttributes  = 21 // and the first byte that the CRC covers
	posLastDelta   = 23
	posBaseTime    = 27
	posMaxTime     = 35
	posProducerID  = 43
	posProducerEp  = 51
	posBaseSeq     = 53
	posNumRecords  = 57
	attrCodec      = 0x07
	attrAppendTime = 0x08
	attrTxn        = 0x10
	attrControl    = 0x20
	attrHorizon    = 0x40
)

// Batch is one record batch (magic 2). The accessors need BatchHeaderLen
// bytes: take a Batch from NextBatch, or call Validate, before using them on
// bytes from outside. A slice that holds a header only is good for all
// accessors, but not for Validate and Records.
type Batch []byte

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b)) }

// Length is the batch's length field: its bytes after the first 12.
func (b Batch) Length() int32 { return int32(binary.BigEndian.Uint32(b[posLength:])) }

// Size is the number of bytes of the whole batch, by its length field.
func (b Batch) Size() int64 { return batchPrefix + int64(b.Length()) }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[posEpoch:])) }

// Magic is the format version.
func (b Batch) Magic() int8 { return int8(b[posMagic]) }

// CRC is the stored CRC32C of the bytes from Attributes on.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// Attributes has the codec in bits 0 to 2, and flags.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[posAttributes:])) }

// LastOffsetDelta is the offset of the last record, relative to BaseOffset.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[posLastDelta:])) }

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// BaseTimestamp is what the records' timestamps are relative to, in ms. It is the
// delete horizon of a batch that has one.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posBaseTime:])) }

// MaxTimestamp is the greatest timestamp of the batch in ms, by its producer's
// word, or the append time of all records if LogAppendTime is set.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posMaxTime:])) }

// ProducerID is that of an idempotent producer, or -1.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[posProducerID:])) }

// ProducerEpoch is that of an idempotent producer, or -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[posProducerEp:])) }

// BaseSequence is the first sequence number of an idempotent producer, or -1.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[posBaseSeq:])) }

// NumRecords is the number of records.
func (b Batch) NumRecords() int32 { return int32(binary.BigEndian.Uint32(b[posNumRecords:])) }

// Codec is the compression: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
func (b Batch) Codec() int { return int(b.Attributes() & attrCodec) }

// LogAppendTime says that MaxTimestamp is the timestamp of every record.
func (b Batch) LogAppendTime() bool { return b.Attributes()&attrAppendTime != 0 }

// Transactional says that the batch belongs to a transaction.
func (b Batch) Transactional() bool { return b.Attributes()&attrTxn != 0 }

// Control says that the batch holds a transaction marker, not records.
func (b Batch) Control() bool { return b.Attributes()&attrControl != 0 }

// DeleteHorizon is the time in ms at which the tombstones of the batch may go
// (KIP-534); ok is false for a batch that was never compacted, or has none.
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	if b.Attributes()&attrHorizon == 0 {
		return 0, false
	}
	return b.BaseTimestamp(), true
}

// SetBaseOffset changes the base offset, which the CRC does not cover.
func (b Batch) SetBaseOffset(offset int64) { binary.BigEndian.PutUint64(b, uint64(offset)) }

// SetLeaderEpoch changes the leader epoch, which the CRC does not cover.
func (b Batch) SetLeaderEpoch(epoch int32) { binary.BigEndian.PutUint32(b[posEpoch:], uint32(epoch)) }

// SetMaxTimestamp changes the greatest timestamp and, if appendTime, makes it
// the timestamp of every record. It computes the CRC anew.
func (b Batch) SetMaxTimestamp(ts int64, appendTime bool) {
	attrs := uint16(b.Attributes()) &^ attrAppendTime
	if appendTime {
		attrs |= attrAppendTime
	}
	binary.BigEndian.PutUint16(b[posAttributes:], attrs)
	binary.BigEndian.PutUint64(b[posMaxTime:], uint64(ts))
	binary.BigEndian.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
}

// maxTime is what indexes and State use: MaxTimestamp, or the base timestamp
// when the producer did not set it; -1 for a batch whose records are all gone.
func (b Batch) maxTime() int64 {
	if b.NumRecords() == 0 {
		return -1
	}
	if b.Attributes()&(attrAppendTime|attrHorizon) != 0 {
		return b.MaxTimestamp()
	}
	return max(b.MaxTimestamp(), b.BaseTimestamp())
}

// NextBatch splits the first batch off buf. It checks that the batch is
// complete and has magic 2, nothing else; b and rest are parts of buf.
func NextBatch(buf []byte) (b Batch, rest []byte, err error) {
	if len(buf) <= posMagic {
		return nil, buf, fmt.Errorf("%w: %d bytes are no header", ErrCorrupt, len(buf))
	}
	b = Batch(buf)
	if b.Magic() != 2 {
		return nil, buf, fmt.Errorf("%w: %d", ErrUnsupportedMagic, b.Magic())
	}
	size := b.Size()
	if size < BatchHeaderLen || size > int64(len(buf)) {
		return nil, buf, fmt.Errorf("%w: length %d, have %d bytes", ErrCorrupt, b.Length(), len(buf))
	}
	return b[:size:size], buf[size:], nil
}

// Validate checks a batch as a producer sends it: magic, length, CRC, codec,
// record count and timestamps. It does not decode the records.
func (b Batch) Validate() error {
	if err := b.ValidateStored(); err != nil {
		return err
	}
	if n, delta := b.NumRecords(), b.LastOffsetDelta(); n < 1 || delta != n-1 {
		return fmt.Errorf("%w: %d records, last offset delta %d", ErrInconsistent, n, delta)
	}
	return nil
}

// ValidateStored is Validate for a batch that may have been compacted: some of its
// records, or all of them, may be missing.
func (b Batch) ValidateStored() error {
	if err := b.checkFrame(); err != nil {
		return err
	}
	if crc := crc32.Checksum(b[posAttributes:], castagnoli); crc != b.CRC() {
		return fmt.Errorf("%w: crc %08x, header says %08x", ErrCorrupt, crc, b.CRC())
	}
	if b.Codec() > codecZstd {
		return fmt.Errorf("%w: %d", ErrUnknownCodec, b.Codec())
	}
	if n, delta := b.NumRecords(), b.LastOffsetDelta(); n < 0 || int64(n) > int64(delta)+1 {
		return fmt.Errorf("%w: %d records, last offset delta %d", ErrInconsistent, n, delta)
	}
	if b.Codec() == codecNone && int64(b.NumRecords())*minRecordLen > int64(len(b)-BatchHeaderLen) {
		return fmt.Errorf("%w: %d records in %d bytes", ErrInconsistent, b.NumRecords(), len(b)-BatchHeaderLen)
	}
	base, top := b.BaseTimestamp(), b.MaxTimestamp()
	if base < -1 || top < -1 || top != -1 && top < base && b.Attributes()&(attrAppendTime|attrHorizon) == 0 {
		return fmt.Errorf("%w: base %d, max %d", ErrInvalidTimestamp, base, top)
	}
	return nil
}

// checkFrame checks that b is exactly one complete batch of magic 2.
func (b Batch) checkFrame() error {
	_, rest, err := NextBatch(b)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: %d bytes after the batch", ErrCorrupt, len(rest))
	}
	if err == nil && b.LastOffsetDelta() < 0 {
		err = fmt.Errorf("%w: last offset delta %d", ErrCorrupt, b.LastOffsetDelta())
	}
	return err
}
