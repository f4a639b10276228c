package kafka

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// sinkConn takes writes without a socket.
type sinkConn struct{ net.Conn }

func (sinkConn) Write(p []byte) (int, error)      { return len(p), nil }
func (sinkConn) SetWriteDeadline(time.Time) error { return nil }
func (sinkConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (sinkConn) Close() error                     { return nil }

// freePartition acknowledges without keeping anything, and reads one batch
// for ever.
type freePartition struct {
	memPartition
	data freeData
}

type freeData struct{ bytes [][]byte }

func (d *freeData) Bytes() [][]byte { return d.bytes }
func (d *freeData) Len() int        { return len(d.bytes[0]) }
func (d *freeData) Release()        {}

func (p *freePartition) Append(_ []byte, done func(AppendResult)) { done(AppendResult{AppendTime: -1}) }
func (p *freePartition) Read(int64, int, bool) (Data, Offsets, error) {
	return &p.data, Offsets{HighWatermark: 1 << 40}, nil
}

type freeBackend struct {
	*memBackend
	part freePartition
	info TopicInfo
}

func (b *freeBackend) Topic(string) (TopicInfo, bool)             { return b.info, true }
func (b *freeBackend) TopicByID([16]byte) (TopicInfo, bool)       { return b.info, true }
func (b *freeBackend) Partition(string, int32) (Partition, error) { return &b.part, nil }

// benchmarkHandler measures decode, handler and encode, without the socket.
func benchmarkHandler(b *testing.B, req kmsg.Request, version int16, payload int) {
	s, mem := pipeServer(b)
	back := &freeBackend{memBackend: mem}
	back.info, _ = mem.Topic("t")
	back.part.data.bytes = [][]byte{testBatch(payload)}
	s.backend = back
	frame := frameOf(req, version, 1)[4:]
	a := s.apis.find(req.Key())
	c := newConn(s, Listener{Name: "default"}, sinkConn{}, func() {})
	var xs []*exchange
	var bufs [][]byte
	ctx := context.Background()
	b.SetBytes(int64(payload))
	b.ReportAllocs()
	for b.Loop() {
		c.queue.reserve(ctx, len(frame))
		x := &exchange{conn: c, api: a, version: version, flexible: a.flexible(version), size: len(frame), started: s.now()}
		_, _, body, err := parseHeader(frame, x.flexible)
		if err != nil {
			b.Fatal(err)
		}
		req, err := decode(a, version, x.flexible, body)
		if err != nil {
			b.Fatal(err)
		}
		c.queue.push(x)
		a.handle(ctx, x, req)
		xs, _ = c.queue.take(xs[:0], writeStep)
		bufs = xs[0].out.appendTo(bufs[:0])
		if err := c.send(bufs); err != nil {
			b.Fatal(err)
		}
		c.queue.done(xs)
	}
}

func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{100, 1 << 20} {
		for _, v := range []int16{8, 11, 13} {
			b.Run(fmt.Sprintf("bytes=%d/version=%d", size, v), func(b *testing.B) {
				s := testBatch(size - 100)
				benchmarkHandler(b, produceReq("t", [16]byte{}, 0, -1, s), v, size)
			})
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	for _, parts := range []int{1, 100} {
		for _, v := range []int16{11, 18} {
			b.Run(fmt.Sprintf("partitions=%d/version=%d", parts, v), func(b *testing.B) {
				req := fetchReq("t", [16]byte{}, 0, make([]int32, parts)...)
				benchmarkHandler(b, req, v, 10_000)
			})
		}
	}
}

// BenchmarkPipelined is small produces over loopback, 100 outstanding.
func BenchmarkPipelined(b *testing.B) {
	const outstanding = 100
	r := newRig(b, nil)
	back := &freeBackend{memBackend: r.back}
	r.back.mustCreate("t", 1)
	back.info, _ = r.back.Topic("t")
	r.srv.backend = back
	c := r.dial()
	frame := frameOf(produceReq("t", [16]byte{}, 0, -1, testBatch(1000)), 9, 1)
	var window []byte
	for range outstanding {
		window = append(window, frame...)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	b.ResetTimer()
	for n := 0; n < b.N; n += outstanding {
		c.write(window)
		for range outstanding {
			c.frame()
		}
	}
}
