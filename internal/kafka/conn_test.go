package kafka

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Requests start in order and are answered in order, whatever commits first.
func TestPipelining(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 2)
	slow := r.back.part("t", 0)
	slow.setHold()
	c := r.dial()
	var reqs []kmsg.Request
	for i := range 50 {
		reqs = append(reqs, produceReq("t", [16]byte{}, int32(i%2), -1, testBatch(10)), kmsg.NewPtrApiVersionsRequest())
	}
	for _, req := range reqs {
		c.send(req, 9-min(9, 9*req.Key()))
	}
	eventually(t, "all produces have started", func() bool { return slow.heldCount() == 25 })
	slow.commit()
	next := [2]int64{}
	for i, req := range reqs {
		resp, _ := c.receive(req, int32(i+1))
		if p, ok := resp.(*kmsg.ProduceResponse); ok {
			got := p.Topics[0].Partitions[0]
			if got.ErrorCode != 0 || got.BaseOffset != next[got.Partition] {
				t.Fatalf("request %d: %+v", i, got)
			}
			next[got.Partition]++
		}
	}
}

// A frame that breaks the protocol closes its connection, with one line in
// the log for many of them, and harms no other connection.
func TestBadFrames(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MaxRequestBytes, o.Limits.MaxControlBytes = 1<<20, 1<<16 })
	r.back.mustCreate("t", 1)
	good := r.dial()
	frame := func(size int, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(size)), rest...)
	}
	whole := frameOf(produceReq("t", [16]byte{}, 0, -1, testBatch(10)), 9, 1)
	for _, c := range []struct {
		name  string
		bytes []byte
		end   bool // the client ends the stream
	}{
		{"negative size", frame(-1), false},
		{"size 0", frame(0), false},
		{"size below a header", frame(9), false},
		{"size above the limit", frame(1<<20 + 1), false},
		{"2 GiB", frame(1<<31 - 1), false},
		{"metadata above the limit", frame(1<<16+1, 0, 3, 0, 0), false},
		{"unknown key", frame(100, 1, 0, 0, 0), false},
		{"negative key", frame(100, 0xff, 0xff, 0, 0), false},
		{"version above", frame(100, 0, 0, 0, 14), false},
		{"negative version", frame(100, 0, 0, 0xff, 0xff), false},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01\x00\x01"), false},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), false},
		{"client id past the end", frame(12, 0, 3, 0, 1, 0, 0, 0, 1, 0, 50, 'x', 'x'), false},
		{"four billion header tags", frame(17, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0), false},
		{"four billion topics", frame(14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff), false},
		{"no body", frame(10, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff), false},
		{"truncated in the length", whole[:3], true},
		{"truncated in the key", whole[:6], true},
		{"truncated in the body", whole[:len(whole)-1], true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := r.dial()
			bad.write(c.bytes)
			if c.end {
				bad.nc.(*net.TCPConn).CloseWrite()
			}
			bad.closed()
		})
	}
	ask[*kmsg.ApiVersionsResponse](good, kmsg.NewPtrApiVersionsRequest(), 0)
	// A connection logs after it was closed; only the good one is left then.
	eventually(t, "the bad connections have ended", func() bool { return len(r.srv.open()) == 1 })
	if n := strings.Count(r.logs.String(), "bad request"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, r.logs)
	}
	if o, _ := r.back.part("t", 0).Offsets(); o.HighWatermark != 0 {
		t.Error("a truncated request was executed")
	}
}

// Kafka's readers ignore what follows a request in its frame.
func TestTrailingBytes(t *testing.T) {
	c := newRig(t, nil).dial()
	b := append(frameOf(kmsg.NewPtrApiVersionsRequest(), 0, 5), 1, 2, 3)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.write(b)
	if correlation, _ := c.frame(); correlation != 5 {
		t.Error("response to", correlation)
	}
}

// A client that sends and never reads is not read from for ever: what is
// pending stays within the limit in count.
func TestBackPressureCount(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MaxPendingRequests = 4 })
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	p.setHold()
	c := r.dial()
	for range 10 {
		c.send(produceReq("t", [16]byte{}, 0, -1, testBatch(10)), 9)
	}
	eventually(t, "four have started", func() bool { return p.heldCount() == 4 })
	p.commit()
	for i := range 10 {
		if correlation, _ := c.frame(); correlation != int32(i+1) {
			t.Fatal("response to", correlation)
		}
	}
}

func TestBackPressureBytes(t *testing.T) {
	const batch = 100_000
	r := newRig(t, func(o *Options) { o.Limits.MaxPendingBytes = 3*batch - 1 })
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	p.setHold()
	c := r.dial()
	var all []byte
	for i := range 10 {
		all = append(all, frameOf(produceReq("t", [16]byte{}, 0, -1, testBatch(batch)), 9, int32(i+1))...)
	}
	go c.nc.Write(all)
	eventually(t, "two have started", func() bool { return p.heldCount() == 2 })
	p.commit()
	for i := range 10 {
		if correlation, _ := c.frame(); correlation != int32(i+1) {
			t.Fatal("response to", correlation)
		}
	}
}

// A consumer that asks and doesn't read pins no more than the limit, and what
// it pins is given back when it goes.
func TestSlowReader(t *testing.T) {
	const batch = 1 << 20
	r := newRig(t, func(o *Options) {
		o.Limits.MaxPendingBytes = 3 * batch
		o.Limits.MaxMessageBytes = 2 * batch
	})
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	for range 8 {
		p.Append(testBatch(batch), func(AppendResult) {})
	}
	c := r.dial()
	c.nc.(*net.TCPConn).SetReadBuffer(4096)
	for range 100 {
		c.send(fetchReq("t", [16]byte{}, 0, 0), 11)
	}
	eventually(t, "the server stops reading", func() bool { return p.outstanding() >= 3 })
	if n := p.outstanding(); n > 4 { // as many as fit, and the one that went over
		t.Errorf("%d responses are pinned", n)
	}
	c.nc.Close()
	eventually(t, "all data is released", func() bool { return p.outstanding() == 0 })
}

// Close answers what is pending, parked fetches at once, and takes no more.
func TestCloseDrains(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	p.setHold()
	writer, reader := r.dial(), r.dial()
	produce, fetch := produceReq("t", [16]byte{}, 0, -1, testBatch(10)), fetchReq("t", [16]byte{}, 0, 0)
	fetch.MaxWaitMillis = 60_000
	writer.send(produce, 9)
	reader.send(fetch, 11)
	eventually(t, "produce has started", func() bool { return p.heldCount() == 1 })
	eventually(t, "fetch is parked", func() bool { return p.lentCount() > 0 })
	closed := make(chan struct{})
	go func() { r.srv.Close(); close(closed) }()
	reader.receive(fetch, 1)
	reader.closed()
	p.commit()
	resp, _ := writer.receive(produce, 1)
	if got := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]; got.ErrorCode != 0 {
		t.Errorf("%+v", got)
	}
	writer.closed()
	<-closed
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("still accepting")
	}
}

// Close does not wait for ever, and a commit that comes later harms nobody.
func TestCloseGivesUp(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.CloseTimeout = 20 * time.Millisecond })
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	p.setHold()
	c := r.dial()
	c.send(produceReq("t", [16]byte{}, 0, -1, testBatch(10)), 9)
	eventually(t, "produce has started", func() bool { return p.heldCount() == 1 })
	r.srv.Close()
	c.closed()
	p.commit()
}

func TestConnectionLimit(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MaxConnections = 1 })
	first := r.dial()
	ask[*kmsg.ApiVersionsResponse](first, kmsg.NewPtrApiVersionsRequest(), 0)
	if nc, err := net.Dial("tcp", r.addr); err == nil { // it may be refused so soon that there never is one
		(&rawClient{t: t, nc: nc, br: bufio.NewReader(nc)}).closed()
		nc.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	ask[*kmsg.ApiVersionsResponse](first, kmsg.NewPtrApiVersionsRequest(), 0)
}

// A silent connection is closed after the idle timeout, one that waits for an
// answer is not.
func TestIdle(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.IdleTimeout = 50 * time.Millisecond })
	r.back.mustCreate("t", 1)
	waiting, silent := r.dial(), r.dial()
	fetch := fetchReq("t", [16]byte{}, 0, 0)
	fetch.MaxWaitMillis = 200
	waiting.send(fetch, 11)
	silent.closed()
	waiting.receive(fetch, 1)
	waiting.closed()
}

// A peer that stalls within a frame is given up.
func TestStall(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.StallTimeout = 30 * time.Millisecond })
	for n := range 3 {
		c := r.dial()
		c.write(frameOf(kmsg.NewPtrMetadataRequest(), 1, 1)[:5+3*n])
		c.closed()
	}
}

// The body of a large frame arrives in pieces and is put together.
func TestLargeFrame(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MaxMessageBytes = 10 << 20 })
	r.back.mustCreate("t", 1)
	c := r.dial()
	req := produceReq("t", [16]byte{}, 0, -1, testBatch(5<<20))
	resp := ask[*kmsg.ProduceResponse](c, req, 9)
	wantCode(t, "5 MiB", resp.Topics[0].Partitions[0].ErrorCode, nil)
}

// Many small frames in one write and one frame in many writes are the same.
func TestFragments(t *testing.T) {
	c := newRig(t, nil).dial()
	var all []byte
	for i := range 20 {
		all = append(all, frameOf(kmsg.NewPtrMetadataRequest(), int16(i%13), int32(i))...)
	}
	go func() {
		for _, b := range all {
			c.nc.Write([]byte{b})
		}
		c.nc.Write(all)
	}()
	for i := range 40 {
		if correlation, _ := c.frame(); correlation != int32(i%20) {
			t.Fatal("response to", correlation)
		}
	}
}

// acks=0 gets no answer; the next request's comes first.
func TestAcksZero(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	c := r.dial()
	c.send(produceReq("t", [16]byte{}, 0, 0, testBatch(10)), 9)
	ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 0)
	if o, _ := r.back.part("t", 0).Offsets(); o.HighWatermark != 1 {
		t.Error("nothing was written")
	}
	c.send(produceReq("none", [16]byte{}, 0, 0, testBatch(10)), 9)
	c.closed()
}

// A connection that ends before its first answer, that to ApiVersions aside, is
// reset: clients take an orderly end there for wrong security settings.
func TestClosedBeforeTheFirstAnswer(t *testing.T) {
	ends := map[string]func(*Server){
		"close":   func(s *Server) { s.Close() },
		"suspend": func(s *Server) { s.Suspend() },
	}
	starts := []struct {
		name string
		ask  func(*rawClient)
		want error
	}{
		{"at once", func(*rawClient) {}, syscall.ECONNRESET},
		{"after ApiVersions", func(c *rawClient) {
			ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 3)
			ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 3)
		}, syscall.ECONNRESET},
		{"after acks=0", func(c *rawClient) {
			c.send(produceReq("t", [16]byte{}, 0, 0, testBatch(10)), 9)
			ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 3)
		}, syscall.ECONNRESET},
		{"after Metadata", func(c *rawClient) {
			ask[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest(), 9)
		}, io.EOF},
	}
	for name, end := range ends {
		for _, start := range starts {
			t.Run(name+" "+start.name, func(t *testing.T) {
				r := newRig(t, nil)
				r.back.mustCreate("t", 1)
				c := r.dial()
				eventually(t, "the connection is served", func() bool { return len(r.srv.open()) == 1 })
				start.ask(c)
				end(r.srv)
				c.nc.SetReadDeadline(time.Now().Add(patience))
				if _, err := c.br.Read(make([]byte, 1)); !errors.Is(err, start.want) {
					t.Errorf("got %v, want %v", err, start.want)
				}
			})
		}
	}
}
