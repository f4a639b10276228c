package httpgateway

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
)

const (
	batchHeader    = 61
	batchLengthEnd = 12 // what the length does not count
	batchCRCAt     = 17
	batchCRCEnd    = 21 // what the checksum does not cover
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var codecOf = map[v1.Compression]kgo.CompressionCodec{
	v1.Compression_COMPRESSION_GZIP: kgo.GzipCompression(), v1.Compression_COMPRESSION_SNAPPY: kgo.SnappyCompression(),
	v1.Compression_COMPRESSION_LZ4: kgo.Lz4Compression(), v1.Compression_COMPRESSION_ZSTD: kgo.ZstdCompression(),
}

// compressors are by codec, and for all goroutines.
var compressors = func() map[v1.Compression]kgo.Compressor {
	all := make(map[v1.Compression]kgo.Compressor)
	for name, codec := range codecOf {
		c, err := kgo.DefaultCompressor(codec)
		if err != nil {
			panic("BUG: compression " + name.String() + ": " + err.Error())
		}
		all[name] = c
	}
	return all
}()

// encodeBatch makes one record batch, magic 2. Records without a time have been
// given one.
func encodeBatch(records []*v1.Record, compression v1.Compression, p *v1.Producer) []byte {
	first, last := millis(records[0]), int64(0)
	var body, one []byte
	for i, r := range records {
		ms := millis(r)
		last = max(last, ms)
		rec := kmsg.Record{TimestampDelta64: ms - first, OffsetDelta: int32(i), Key: keyOf(r), Value: valueOf(r)}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		one = rec.AppendTo(one[:0]) // its length, 0, takes one byte
		body = binary.AppendVarint(body, int64(len(one)-1))
		body = append(body, one[1:]...)
	}
	attributes := int16(0)
	if c := compressors[compression]; c != nil {
		packed, codec := c.Compress(new(bytes.Buffer), body)
		body, attributes = packed, int16(codec)
	}
	batch := kmsg.RecordBatch{
		Length: int32(batchHeader - batchLengthEnd + len(body)), PartitionLeaderEpoch: -1, Magic: 2, Attributes: attributes,
		LastOffsetDelta: int32(len(records) - 1), FirstTimestamp: first, MaxTimestamp: last,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(records)), Records: body,
	}
	if p != nil {
		batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = p.Id, int16(p.Epoch), p.Sequence
	}
	b := batch.AppendTo(make([]byte, 0, batchHeader+len(body)))
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchCRCEnd:], castagnoli))
	return b
}

func millis(r *v1.Record) int64 { return r.Time.AsTime().UnixMilli() }

// keyOf is nil for no key.
func keyOf(r *v1.Record) []byte {
	if r.KeyText != nil {
		return []byte(*r.KeyText)
	}
	return r.Key
}

func valueOf(r *v1.Record) []byte {
	if r.ValueText != nil {
		return []byte(*r.ValueText)
	}
	return r.Value
}

// bounds of times: milliseconds that can be shown.
var (
	firstTime = time.UnixMilli(0)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// checkRecord refuses what can't be written as it is meant.
func checkRecord(i int, r *v1.Record) error {
	switch {
	case r == nil:
		return refuse(connect.CodeInvalidArgument, "record %d is null", i)
	case r.Key != nil && r.KeyText != nil || r.Value != nil && r.ValueText != nil:
		return refuse(connect.CodeInvalidArgument, "record %d has bytes and text for the same thing: send one of them", i)
	case r.Time != nil && (r.Time.CheckValid() != nil || r.Time.AsTime().Before(firstTime) || r.Time.AsTime().After(lastTime)):
		return refuse(connect.CodeInvalidArgument, "record %d: its time is before 1970 or after 9999", i)
	}
	return nil
}
