package kafka

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rig is a server over a memBackend.
type rig struct {
	t    testing.TB
	srv  *Server
	back *memBackend
	addr string
	logs *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, back: newMemBackend(), addr: ln.Addr().String(), logs: &logBuffer{}}
	r.back.brokers = []Broker{{ID: 1, Host: "127.0.0.1", Port: int32(ln.Addr().(*net.TCPAddr).Port), Rack: "a"}}
	opts := Options{
		Listeners: []Listener{{Name: "default", Net: ln}}, Backend: r.back,
		Logger:     slog.New(slog.NewTextHandler(r.logs, nil)),
		Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&opts)
	}
	if r.srv, err = New(opts); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.srv.Serve() }()
	t.Cleanup(func() {
		if err := r.srv.Close(); err != nil {
			t.Error("close:", err)
		}
		if err := <-served; err != nil {
			t.Error("serve:", err)
		}
		if n, _ := r.srv.outgoing.inUse(); n != 0 {
			t.Errorf("%d bytes of responses are still counted", n)
		}
	})
	return r
}

// patience is for what must happen in the end, however busy the machine is.
const patience = time.Minute

// rawClient speaks frames.
type rawClient struct {
	t    testing.TB
	nc   net.Conn
	br   *bufio.Reader
	next int32
}

func (r *rig) dial() *rawClient {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	return &rawClient{t: r.t, nc: nc, br: bufio.NewReader(nc)}
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))

func frameOf(req kmsg.Request, version int16, correlation int32) []byte {
	req.SetVersion(version)
	return formatter.AppendRequest(nil, req, correlation)
}

// send writes a request and returns its correlation id.
func (c *rawClient) send(req kmsg.Request, version int16) int32 {
	c.t.Helper()
	c.next++
	c.write(frameOf(req, version, c.next))
	return c.next
}

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal("write:", err)
	}
}

// frame reads a response's correlation id and what follows it.
func (c *rawClient) frame() (int32, []byte) {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(patience))
	var head [8]byte
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		c.t.Fatal("read:", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c.br, body); err != nil {
		c.t.Fatal("read:", err)
	}
	return int32(binary.BigEndian.Uint32(head[4:])), body
}

// receive reads the response to a request and returns its body too.
func (c *rawClient) receive(req kmsg.Request, correlation int32) (kmsg.Response, []byte) {
	c.t.Helper()
	got, body := c.frame()
	if got != correlation {
		c.t.Fatalf("response to %d, want %d", got, correlation)
	}
	resp := req.ResponseKind()
	if req.IsFlexible() && req.Key() != apiVersionsKey {
		if body[0] != 0 {
			c.t.Fatal("header has tags")
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("decode response to key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	return resp, body
}

// ask sends a request and waits for its response.
func ask[P kmsg.Response](c *rawClient, req kmsg.Request, version int16) P {
	c.t.Helper()
	resp, _ := c.receive(req, c.send(req, version))
	return resp.(P)
}

// closed waits until the server has closed the connection without a word.
func (c *rawClient) closed() {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.br.Read(make([]byte, 1)); n > 0 {
		c.t.Fatal("got an answer, want a closed connection")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("connection is still open")
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never:", what)
		}
	}
}

// testBatch is a record batch of one record with a value of size bytes.
func testBatch(size int) []byte {
	rec := kmsg.NewRecord()
	rec.Value = make([]byte, size)
	rec.Length = int32(len(rec.AppendTo(nil)) - 1)
	if size > 40 { // the length's own varint takes more
		rec.Length = 0
		rec.Length = int32(len(rec.AppendTo(nil)) - 1)
	}
	b := kmsg.NewRecordBatch()
	b.Magic, b.NumRecords, b.ProducerID, b.ProducerEpoch, b.FirstSequence = 2, 1, -1, -1, -1
	b.FirstTimestamp, b.MaxTimestamp = 1_700_000_000_000, 1_700_000_000_000
	b.Records = rec.AppendTo(nil)
	return seal(b.AppendTo(nil))
}

// seal sets a batch's length and checksum.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

func produceReq(topic string, id [16]byte, index int32, acks int16, batch []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = acks
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic, id
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = index, batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func fetchReq(topic string, id [16]byte, offset int64, indexes ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxWaitMillis = 1, 0
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	for _, i := range indexes {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = i, offset, 1<<20
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}
