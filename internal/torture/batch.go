package torture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/torture/history"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// value is what a record holds: who it is, and bytes that follow from that.
func value(r history.Record) []byte {
	b := append([]byte(r.String()), ' ')
	for i := range int(r.N*7) % 200 {
		b = append(b, byte('a'+(int(r.N)+i)%26))
	}
	return b
}

// recordOf reads a value; one that is not as value makes it is nobody's.
func recordOf(v []byte) history.Record {
	name, _, _ := bytes.Cut(v, []byte(" "))
	r, ok := history.ParseRecord(string(name))
	if !ok || !bytes.Equal(value(r), v) {
		return history.Record{Client: fmt.Sprintf("bytes %.20q", v)}
	}
	return r
}

// session is what an idempotent producer says of itself; the zero one is none's.
type session struct {
	id    int64
	epoch int16
}

// batch encodes records for a produce request.
func batch(s *session, sequence int32, millis int64, records ...history.Record) []byte {
	b := kmsg.NewRecordBatch()
	b.PartitionLeaderEpoch, b.Magic = -1, 2
	b.ProducerID, b.ProducerEpoch, b.FirstSequence = -1, -1, -1
	if s != nil {
		b.ProducerID, b.ProducerEpoch, b.FirstSequence = s.id, s.epoch, sequence
	}
	b.FirstTimestamp, b.MaxTimestamp = millis, millis
	b.NumRecords, b.LastOffsetDelta = int32(len(records)), int32(len(records)-1)
	for i, r := range records {
		rec := kmsg.NewRecord()
		rec.OffsetDelta, rec.Value = int32(i), value(r)
		body := rec.AppendTo(nil) // with a length of 0, which takes one byte
		rec.Length = int32(len(body) - 1)
		b.Records = rec.AppendTo(b.Records)
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], castagnoli))
	return out
}
