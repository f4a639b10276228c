package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// cpuTime is what the process has used, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkOneActive is a consumer of many partitions that waits for the next
// record, which comes to one of them: over loopback, with and without a session.
// The client's requests are made beforehand.
func BenchmarkOneActive(b *testing.B) {
	for _, parts := range []int{1, 100, 1000} {
		for _, session := range []bool{false, true} {
			b.Run(fmt.Sprintf("partitions=%d/session=%v", parts, session), func(b *testing.B) {
				benchmarkOneActive(b, parts, session)
			})
		}
	}
}

func benchmarkOneActive(b *testing.B, parts int, session bool) {
	const version = 12
	r := newRig(b, nil)
	info := r.back.mustCreate("t", int32(parts))
	c := r.dial()
	indexes := make([]int32, parts)
	for i := range indexes {
		indexes[i] = int32(i)
	}
	req := fetchReq("t", info.ID, 0, indexes...)
	if session {
		req.SessionEpoch = sessionInitial
		id := ask[*kmsg.FetchResponse](c, req, version).SessionID
		req = fetchReq("t", info.ID, 0, 0)
		req.SessionID, req.SessionEpoch = id, 1
	} else {
		req.SessionEpoch = sessionFinal
	}
	req.MaxWaitMillis = 60_000
	frame := frameOf(req, version, 1)
	marked, markedPart := *req, &req.Topics[0].Partitions[0]
	marked.SessionEpoch, markedPart.FetchOffset = 0x71727374, 0x6162636465666768
	other := frameOf(&marked, version, 1)
	offsetAt := bytes.Index(other, []byte("abcdefgh"))
	epochAt := bytes.Index(other, []byte("qrst"))
	batch := testBatch(100)
	part := r.back.part("t", 0)
	part.armed = make(chan struct{}, 1)
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime(b)
	n := 0
	for ; b.Loop(); n++ {
		binary.BigEndian.PutUint64(frame[offsetAt:], uint64(n))
		if session {
			binary.BigEndian.PutUint32(frame[epochAt:], uint32(n+1))
		}
		c.write(frame)
		if n > 0 || !session { // a session watches from its first answer on
			<-part.armed
		}
		part.replace(batch)
		if _, body := c.frame(); len(body) < len(batch) {
			b.Fatalf("no records in the answer %d: %x", n, body)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-used)/float64(n), "cpu-ns/op")
}
