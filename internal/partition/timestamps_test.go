package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/seglog"
)

// timed is a batch of records at the given times, whose header says base and top.
func timed(base, top int64, times ...int64) seglog.Batch {
	b := make([]byte, seglog.BatchHeaderLen)
	be := binary.BigEndian
	b[16] = 2
	be.PutUint32(b[23:], uint32(len(times)-1))
	be.PutUint64(b[27:], uint64(base))
	be.PutUint64(b[35:], uint64(top))
	be.PutUint64(b[43:], math.MaxUint64)
	be.PutUint32(b[57:], uint32(len(times)))
	for i, ts := range times {
		rec := binary.AppendVarint([]byte{0}, ts-base)
		rec = binary.AppendVarint(rec, int64(i))
		rec = append(rec, 1, 1, 0) // no key, no value, no headers
		b = append(binary.AppendVarint(b, int64(len(rec))), rec...)
	}
	be.PutUint32(b[8:], uint32(len(b)-12))
	be.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// Which records are refused for their time, with a clock at 1,000,000.
func TestTimestampBounds(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_000_000) }
	const s = time.Second
	for _, c := range []struct {
		name          string
		before, after time.Duration
		appendTime    bool
		batch         seglog.Batch
		bad           []int32
	}{
		{"no bounds", 0, 0, false, timed(0, 9_000_000, 0, 9_000_000), nil},
		{"within", 10 * s, 10 * s, false, timed(990_000, 1_010_000, 990_000, 1_010_000), nil},
		{"one too old", 10 * s, 10 * s, false, timed(989_999, 1_000_000, 989_999, 1_000_000), []int32{0}},
		{"one too new", 10 * s, 10 * s, false, timed(1_000_000, 1_010_001, 1_000_000, 1_010_001), []int32{1}},
		{"too new, no other bound", 0, 10 * s, false, timed(5, 1_010_001, 1_010_001, 5), []int32{0}},
		{"too old, behind a good base", 10 * s, 0, false, timed(1_000_000, 1_000_000, 1_000_000, 1, 2), []int32{1, 2}},
		{"no time", 10 * s, 10 * s, false, timed(-1, -1, -1), nil},
		{"the leader's time is taken anyway", 10 * s, 10 * s, true, timed(5, 5, 5), nil},
	} {
		settings := Settings{TimestampBeforeMax: c.before, TimestampAfterMax: c.after, LogAppendTime: c.appendTime}
		batch, err := check(c.batch, 0)
		if err != nil {
			t.Fatal(c.name, err)
		}
		err = settings.checkTimes(batch, now)
		var e *RecordsError
		if (err != nil) != (c.bad != nil) || err != nil && (!errors.As(err, &e) || !errors.Is(err, seglog.ErrInvalidTimestamp)) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []int32
		if e != nil {
			for _, r := range e.Records {
				got = append(got, r.Index)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.bad) {
			t.Errorf("%s: records %v, want %v", c.name, got, c.bad)
		}
	}
}

// Only the broker may say LogAppendTime, whatever the topic is.
func TestProducerSetsNoAppendTime(t *testing.T) {
	for _, appendTime := range []bool{false, true} {
		b := timed(5, 5, 5)
		b.SetMaxTimestamp(5, true)
		settings := Settings{LogAppendTime: appendTime}
		if err := settings.checkTimes(b, time.Now); !errors.Is(err, seglog.ErrInvalidTimestamp) {
			t.Errorf("LogAppendTime %v: %v", appendTime, err)
		}
	}
}

// What is told of one batch is bounded.
func TestRecordErrorsAreBounded(t *testing.T) {
	times := make([]int64, 3*maxRecordErrors)
	settings := Settings{TimestampBeforeMax: time.Second}
	var e *RecordsError
	if err := settings.checkTimes(timed(0, 0, times...), time.Now); !errors.As(err, &e) || len(e.Records) != maxRecordErrors {
		t.Errorf("%v", err)
	}
}
