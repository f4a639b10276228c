package coordinator

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/raftsman/raftsman/internal/group"
)

// Record batches, magic 2, without compression. The offset and the leader epoch
// are the partition's to set.
const (
	lengthAt     = 8
	lengthEnd    = 12
	magicAt      = 16
	crcAt        = 17
	crcEnd       = 21
	lastDeltaAt  = 23
	baseTimeAt   = 27
	maxTimeAt    = 35
	producerAt   = 43 // id, epoch and sequence: none
	numRecordsAt = 57
	headerLen    = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeBatch makes one batch of records that were written at a time, in ms.
func encodeBatch(records []group.Record, ms int64) []byte {
	size := headerLen
	for _, r := range records {
		size += recordMax(r)
	}
	b := make([]byte, headerLen, size)
	var body []byte
	for i, r := range records {
		body = append(body[:0], 0) // attributes
		body = binary.AppendVarint(body, 0)
		body = binary.AppendVarint(body, int64(i))
		body = appendBytes(body, r.Key)
		body = appendBytes(body, r.Value)
		body = binary.AppendVarint(body, 0) // headers
		b = binary.AppendVarint(b, int64(len(body)))
		b = append(b, body...)
	}
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-lengthEnd))
	b[magicAt] = 2
	binary.BigEndian.PutUint32(b[lastDeltaAt:], uint32(len(records)-1))
	binary.BigEndian.PutUint64(b[baseTimeAt:], uint64(ms))
	binary.BigEndian.PutUint64(b[maxTimeAt:], uint64(ms))
	for i := producerAt; i < numRecordsAt; i++ {
		b[i] = 0xff
	}
	binary.BigEndian.PutUint32(b[numRecordsAt:], uint32(len(records)))
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[crcEnd:], castagnoli))
	return b
}

// recordMax is the most that a record takes.
func recordMax(r group.Record) int {
	return len(r.Key) + len(r.Value) + 5*binary.MaxVarintLen32 + 2
}

// appendBytes appends a length and that many bytes; nil is null.
func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}
