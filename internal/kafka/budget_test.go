package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// announce opens a connection that promises a Produce of size bytes and sends
// none of it.
func (r *rig) announce(size int) net.Conn {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, uint32(size))
	binary.BigEndian.PutUint16(b[6:], 9)
	if _, err := nc.Write(b); err != nil {
		r.t.Fatal(err)
	}
	return nc
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestManyAnnouncements: connections that announce far more than the node has
// memory for hold no more than the bound, and small requests pass them by.
func TestManyAnnouncements(t *testing.T) {
	const conns, limit = 2000, 256 << 20
	r := newRig(t, func(o *Options) { o.Limits.MaxRequestMemory = limit })
	r.back.mustCreate("t", 1)
	before := heap()
	for range conns {
		r.announce(100 << 20)
	}
	eventually(t, "all but two wait", func() bool {
		r.srv.requests.mu.Lock()
		defer r.srv.requests.mu.Unlock()
		return len(r.srv.requests.waiting) == conns-2
	})
	c := r.dial()
	ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 3)
	ask[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest(), 9)
	// A small Produce is the only one of its connection: it passes too.
	resp := ask[*kmsg.ProduceResponse](c, produceReq("t", [16]byte{}, 0, -1, testBatch(1000)), 9)
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("produce: error %d", code)
	}
	used, peak := r.srv.requests.inUse()
	t.Logf("%d connections announce 100 MiB each: %d MiB in use, peak %d, limit %d; heap %d MiB more",
		conns, used>>20, peak>>20, limit>>20, int64(heap()-before)>>20)
	if used > limit || peak > limit {
		t.Errorf("%d bytes in use, peak %d, above the limit of %d", used, peak, limit)
	}
}

// TestAnsweredAreNotCounted: a client may ask again as soon as it has its
// response. That the writer has not come round to counting the request off does
// not make the next one wait for memory like a second one.
func TestAnsweredAreNotCounted(t *testing.T) {
	q := newQueue(2, 1<<20, &outgoing{limit: 1 << 20})
	for range 3 {
		if !q.reserve(t.Context(), 100) {
			t.Fatal("no room")
		}
		if n := q.unanswered(); n != 1 {
			t.Fatalf("%d requests are unanswered, want this one", n)
		}
		x := &exchange{size: 100}
		q.push(x)
		q.complete(x)
		xs, _ := q.take(nil, 1)
		if n := q.unanswered(); n != 0 {
			t.Fatalf("%d requests are unanswered while the response is written", n)
		}
		defer q.done(xs)
		q.maxCount++ // the bound on what is pending is not the point
	}
}

// TestSlowHoldersAreCutOff: whoever holds memory and sends nothing loses it to
// those who wait.
func TestSlowHoldersAreCutOff(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Limits.MaxRequestMemory, o.Limits.MaxMessageBytes = 8<<20, 8<<20
		o.Limits.ContendedTimeout = 20 * time.Millisecond
	})
	r.back.mustCreate("t", 1)
	for range 4 {
		r.announce(8 << 20)
	}
	eventually(t, "memory is taken", func() bool { used, _ := r.srv.requests.inUse(); return used == 8<<20 })
	c := r.dial()
	resp := ask[*kmsg.ProduceResponse](c, produceReq("t", [16]byte{}, 0, -1, testBatch(2<<20)), 9)
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("produce: error %d", code)
	}
	if !strings.Contains(r.logs.String(), "stalled after 4") {
		t.Errorf("logged %q", r.logs.String())
	}
}

// TestLargeRequestsTakeTurns: many requests that do not fit together are all
// served, whatever comes first.
func TestLargeRequestsTakeTurns(t *testing.T) {
	const limit = 3 << 20
	r := newRig(t, func(o *Options) {
		o.Limits.MaxRequestMemory, o.Limits.MaxMessageBytes = limit, 8<<20
	})
	r.back.mustCreate("t", 1)
	var wg sync.WaitGroup
	for i := range 40 {
		c := r.dial()
		wg.Go(func() {
			size := 20_000 + i*100_000 // the largest exceed the limit and get it all
			c.write(frameOf(produceReq("t", [16]byte{}, 0, -1, testBatch(size)), 9, 1))
			c.frame()
		})
	}
	wg.Wait()
	eventually(t, "all memory is given back", func() bool { used, _ := r.srv.requests.inUse(); return used == 0 })
	if _, peak := r.srv.requests.inUse(); peak > limit {
		t.Errorf("peak %d, limit %d", peak, limit)
	}
}

// TestBatchesUnderWayAreCounted: a client that leaves does not free what the
// partition still holds.
func TestBatchesUnderWayAreCounted(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	p.setHold()
	c := r.dial()
	c.write(frameOf(produceReq("t", [16]byte{}, 0, -1, testBatch(500_000)), 9, 1))
	eventually(t, "the batch is handed over", func() bool { return p.heldCount() == 1 })
	c.nc.Close()
	eventually(t, "the connection has ended", func() bool { return len(r.srv.open()) == 0 })
	if used, _ := r.srv.requests.inUse(); used < 500_000 {
		t.Fatalf("%d bytes are counted while a batch of 500,000 is under way", used)
	}
	p.commit()
	eventually(t, "it is given back", func() bool { used, _ := r.srv.requests.inUse(); return used == 0 })
}

// TestWaitersLeave: a connection that waits for memory ends when the server
// closes, and its claim does not hold up others.
func TestWaitersLeave(t *testing.T) {
	b := &budget{limit: 10}
	if _, ok := b.acquire(t.Context(), nil, 8); !ok {
		t.Fatal("no room in an empty budget")
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan bool)
	go func() { _, ok := b.acquire(ctx, nil, 10); gone <- ok }()
	eventually(t, "one waits", b.contended)
	got := make(chan bool)
	go func() { _, ok := b.acquire(t.Context(), nil, 2); got <- ok }()
	eventually(t, "two wait", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.waiting) == 2 })
	cancel()
	if <-gone {
		t.Fatal("granted after it was cancelled")
	}
	if !<-got {
		t.Fatal("the one behind was not granted")
	}
	if used, _ := b.inUse(); used != 10 {
		t.Fatalf("%d in use, want 10", used)
	}
}

// TestSlowFetchers: many clients that ask for 50 MiB and do not read hold no
// more than the bound, and one that does read is served meanwhile.
func TestSlowFetchers(t *testing.T) {
	const conns, limit, batch = 500, 128 << 20, 512 << 10
	r := newRig(t, func(o *Options) { o.Limits.MaxResponseMemory = limit })
	r.back.mustCreate("t", 1)
	p := r.back.part("t", 0)
	for range 60 << 20 / batch {
		p.Append(testBatch(batch-100), func(AppendResult) {})
	}
	before := heap()
	for i := range conns {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		req := fetchReq("t", [16]byte{}, 0, 0)
		req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
		req.MaxWaitMillis = 300_000
		if _, err := nc.Write(frameOf(req, 12, int32(i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all fetches have arrived", func() bool {
		return p.lentCount() >= conns/8
	})
	// A client that reads gets everything, if in small pieces.
	c := r.dial()
	for next := int64(0); next < 4; {
		req := fetchReq("t", [16]byte{}, next, 0)
		req.MaxBytes, req.MaxWaitMillis = 50<<20, 10
		resp := ask[*kmsg.FetchResponse](c, req, 12)
		for b := resp.Topics[0].Partitions[0].RecordBatches; len(b) > 0; next++ {
			b = b[binary.BigEndian.Uint32(b[8:])+12:]
		}
	}
	used, peak := r.srv.outgoing.inUse()
	t.Logf("%d connections fetch 50 MiB each and do not read: %d MiB in use, peak %d, limit %d; heap %d MiB more (before: %d)",
		conns, used>>20, peak>>20, limit>>20, (int64(heap())-int64(before))>>20, before>>20)
	if peak > limit+1<<20 {
		t.Errorf("peak %d is above the limit of %d", peak, limit)
	}
	if used == 0 {
		t.Error("nobody holds anything: the test does not test")
	}
}

// TestOneLineEach: whatever a stranger sends, the connection is closed and one
// line says who, what and what to do.
func TestOneLineEach(t *testing.T) {
	for name, tc := range map[string]struct {
		send string
		want string
	}{
		"TLS":               {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "security.protocol"},
		"HTTP":              {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "--http-addr"},
		"SSH":               {"SSH-2.0-OpenSSH_9\r\n", "SSH"},
		"negative length":   {"\xff\xff\xff\xff\x00\x00\x00\x00", "frame of -1 bytes"},
		"too short":         {"\x00\x00\x00\x03abcdefgh", "frame of 3 bytes"},
		"too large":         {"\x7f\xff\xff\xff\x00\x00\x00\x09", "frame of 2147483647 bytes"},
		"unknown API":       {"\x00\x00\x00\x10\x03\xe7\x00\x00aaaaaaaaaaaa", "unknown API key 999"},
		"unknown version":   {"\x00\x00\x00\x10\x00\x03\x00\x63aaaaaaaaaaaa", "Metadata version 99"},
		"large for its API": {"\x01\x00\x00\x00\x00\x03\x00\x09", "at most"},
		"truncated head":    {"\x00\x00", "after 2 bytes"},
		"truncated":         {"\x00\x00\x00\x20\x00\x03\x00\x09\x00\x00", "closed after 6 of"},
		"client id":         {"\x00\x00\x00\x0a\x00\x03\x00\x09\x00\x00\x00\x01\x7f\xff", "client id"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			nc, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := io.WriteString(nc, tc.send); err != nil {
				t.Fatal(err)
			}
			nc.(*net.TCPConn).CloseWrite()
			nc.SetReadDeadline(time.Now().Add(10 * time.Second))
			if got, _ := io.ReadAll(nc); len(got) != 0 {
				t.Errorf("answered %q", got)
			}
			eventually(t, "the line", func() bool { return strings.Contains(r.logs.String(), "\n") })
			line := r.logs.String()
			if strings.Count(line, "\n") != 1 || !strings.Contains(line, tc.want) || !strings.Contains(line, nc.LocalAddr().String()) {
				t.Errorf("logged %s, want one line with %q and the peer", line, tc.want)
			}
		})
	}
}

// TestScannerIsQuiet: many bad connections from one address are one line.
func TestScannerIsQuiet(t *testing.T) {
	r := newRig(t, nil)
	for range 50 {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.Write(bytes.Repeat([]byte{0xaa}, 64))
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		io.ReadAll(nc)
		nc.Close()
	}
	eventually(t, "all have ended", func() bool { return len(r.srv.open()) == 0 })
	if got := strings.Count(r.logs.String(), "\n"); got != 1 {
		t.Errorf("%d lines for 50 bad connections", got)
	}
}

// TestLeaseIsGivenBackOnce: a connection that ends while its reader handles a request
// gives back the request's memory once, when the last batch has let go of it.
func TestLeaseIsGivenBackOnce(t *testing.T) {
	for _, before := range []bool{true, false} {
		b := &budget{limit: 100}
		n, ok := b.acquire(t.Context(), nil, 60)
		if !ok {
			t.Fatal("no room")
		}
		l, q := newLease(b, n), newQueue(2, 1<<20, &outgoing{limit: 1 << 20})
		if before {
			q.close()
		}
		q.push(&exchange{lease: l})
		if !before {
			q.close()
		}
		l.hold() // a batch of the request
		l.drop() // the reader has done its part
		if used, _ := b.inUse(); used != 60 {
			t.Errorf("closed before: %t: %d bytes are counted while a batch is under way", before, used)
		}
		l.drop()
		if used, _ := b.inUse(); used != 0 {
			t.Errorf("closed before: %t: %d bytes are counted in the end", before, used)
		}
	}
}
