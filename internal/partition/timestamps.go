package partition

import (
	"fmt"
	"math"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

// RecordsError says which records a batch was refused for (KIP-467).
type RecordsError struct {
	Err     error // of the batch
	Records []RecordError
}

// RecordError is one record's fault.
type RecordError struct {
	Index   int32 // of the record in its batch
	Message string
}

func (e *RecordsError) Error() string { return e.Err.Error() }
func (e *RecordsError) Unwrap() error { return e.Err }

// maxRecordErrors bounds what is told of one batch.
const maxRecordErrors = 1000

// errTimestamps is Kafka's sentence.
var errTimestamps = fmt.Errorf("%w: One or more records have been rejected due to invalid timestamp", seglog.ErrInvalidTimestamp)

// checkTimes applies message.timestamp.before.max.ms and .after.max.ms to a batch
// of CreateTime. Records are decoded only if the header leaves it open that one of
// them is out of bounds: it gives the greatest timestamp, by the producer's word,
// but not the least. Records without a timestamp are not judged.
func (s *Settings) checkTimes(b seglog.Batch, now func() time.Time) error {
	if b.LogAppendTime() {
		return &RecordsError{Err: errTimestamps, Records: []RecordError{{
			Message: "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime."}}}
	}
	if s.LogAppendTime || s.TimestampBeforeMax <= 0 && s.TimestampAfterMax <= 0 {
		return nil
	}
	ms := now().UnixMilli()
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if s.TimestampBeforeMax > 0 {
		low = ms - s.TimestampBeforeMax.Milliseconds()
	}
	if s.TimestampAfterMax > 0 {
		high = ms + s.TimestampAfterMax.Milliseconds()
	}
	if s.TimestampBeforeMax <= 0 && b.MaxTimestamp() <= high {
		return nil
	}
	var bad []RecordError
	base := b.BaseOffset()
	index := int32(0)
	err := seglog.Records(b, func(offset, ts int64, _, _ []byte) bool {
		if ts != -1 && (ts < low || ts > high) {
			bad = append(bad, RecordError{index, fmt.Sprintf(
				"Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]", ts, offset-base, low, high)})
		}
		index++
		return len(bad) < maxRecordErrors
	})
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return &RecordsError{Err: errTimestamps, Records: bad}
	}
	return nil
}

// stamp gives the batches of an entry the leader's time, if the topic wants that.
// The batches are the partition's, and nobody else has seen them yet.
func (p *Partition) stamp(items []pending) {
	if !p.currentSettings().LogAppendTime {
		return
	}
	now := p.cfg.Now().UnixMilli()
	for i := range items {
		seglog.Batch(items[i].batch).SetMaxTimestamp(now, true)
		items[i].appendTime = now
	}
}

// appendTime is what a producer is told: -1 for CreateTime, else the time of its
// batch, which for a duplicate is that of the first copy.
func (p *Partition) appendTime(it pending, b batchOutcome) int64 {
	switch {
	case it.appendTime == 0 || b.err != nil:
		return -1
	case !b.duplicate:
		return it.appendTime
	}
	p.mu.Lock()
	log := p.log
	p.mu.Unlock()
	data, err := log.Read(b.base, 0, true, math.MaxInt64)
	if err != nil {
		return -1 // it has gone, or can't be read now
	}
	defer data.Release()
	var head [seglog.BatchHeaderLen]byte
	n := 0
	for _, piece := range data.Bytes() {
		n += copy(head[n:], piece)
	}
	if first := seglog.Batch(head[:]); n == len(head) && first.LogAppendTime() {
		return first.MaxTimestamp()
	}
	return -1
}
