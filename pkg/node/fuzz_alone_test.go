package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/replication"
)

// alone is a node with one topic "t" of two real partitions, each with its
// raft group, log and segments, on a disk in memory, behind a real Kafka server.
type alone struct {
	elsewhere

	host   *replication.Host
	writer *seglog.Writer
	parts  []*partition.Partition
	server *kafka.Server
	ln     *pipeListener
	conn   net.Conn
	sent   int32

	mu      sync.Mutex
	created map[string]kafka.TopicInfo
	pid     int64

	stored [2][]stored // what each partition has, as first seen
	readUp [2]int64
	opaque [2]bool // a batch in it does not decode, or its header has another time
}

type stored struct {
	base  int64
	sum   uint32
	size  int
	times []recordTime
}

type recordTime struct{ offset, ts int64 }

// pipeListener hands out in-memory connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (a *alone) NodeOf(uint64) (int32, bool)    { return 1, true }
func (a *alone) PeerAddr(int32) (string, bool)  { return "127.0.0.1:1", true }
func (a *alone) Peers() []int32                 { return nil }
func (a *alone) ClusterID() string              { return "fuzz" }
func (a *alone) NodeID() int32                  { return 1 }
func (a *alone) ControllerID() int32            { return 1 }
func (a *alone) Brokers(string) []kafka.Broker  { return []kafka.Broker{{ID: 1, Host: "h", Port: 1}} }
func (a *alone) TopicsChanged() <-chan struct{} { return nil }

func (a *alone) AwaitLeaders(context.Context, []string) {}

func topicInfo(name string, id byte, partitions int32) kafka.TopicInfo {
	t := kafka.TopicInfo{Name: name, ID: [16]byte{15: id}, MaxMessageBytes: 1 << 16}
	for i := range partitions {
		t.Partitions = append(t.Partitions, kafka.PartitionInfo{Index: i, Leader: 1, Epoch: 1, Replicas: []int32{1}, ISR: []int32{1}})
	}
	return t
}

func (a *alone) Topic(name string) (kafka.TopicInfo, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.created[name]
	return t, ok
}

func (a *alone) TopicByID(id [16]byte) (kafka.TopicInfo, bool) {
	for _, t := range a.Topics() {
		if t.ID == id {
			return t, true
		}
	}
	return kafka.TopicInfo{}, false
}

func (a *alone) Topics() (all []kafka.TopicInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.created {
		all = append(all, t)
	}
	return all
}

func (a *alone) Partition(topic string, index int32) (kafka.Partition, error) {
	if topic != "t" || index < 0 || int(index) >= len(a.parts) {
		return nil, kerr.UnknownTopicOrPartition
	}
	return localPartition{a.parts[index], &space{}, &redirects{closed: true, known: func(partitionID) (bool, bool) { return false, true }}, partitionID{"t", index}, nil}, nil
}

func (a *alone) InitProducerID(context.Context) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pid++
	return a.pid, nil
}

func startAlone(t testing.TB) *alone {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mem := vfs.NewMem()
	quiet := slog.New(slog.DiscardHandler)
	a := &alone{created: map[string]kafka.TopicInfo{"t": topicInfo("t", 1, 2)}}
	a.writer = seglog.NewWriter(seglog.WriterOptions{TailBytes: 8 << 20, ReadCacheBytes: 4 << 20})
	a.host, err = replication.Open(replication.Config{
		Dir: "data", ClusterID: "fuzz", NodeID: 1, Incarnation: "i", Store: replication.StoreWAL, Listener: ln, Resolver: a,
		FS: mem, WALFileSize: 1 << 20, WALSizeLimit: 8 << 20, SnapshotBytes: 1 << 20, TrailingBytes: 1 << 18,
		HeartbeatTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.host.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		p, err := partition.Open(partition.Config{
			Topic: "t", TopicID: "T", Index: int32(i), Replica: uint64(i + 1), Initial: []uint64{uint64(i + 1)},
			Dir: vfs.Join("data", string(rune('a'+i))), Host: a.host,
			Segments: seglog.Options{FS: mem, Writer: a.writer, Logger: quiet}, Logger: quiet, Now: time.Now,
			Settings: partition.Settings{SegmentBytes: 1 << 14, RetentionTime: -1, RetentionBytes: -1, MaxMessageBytes: 1 << 16},
		})
		if err != nil {
			t.Fatal(err)
		}
		a.parts = append(a.parts, p)
	}
	a.ln = &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	a.server, err = kafka.New(kafka.Options{
		Listeners: []kafka.Listener{{Name: "default", Net: a.ln}}, Backend: a, Logger: quiet,
		Limits: kafka.Limits{MaxMessageBytes: 1 << 16, CreateWait: time.Millisecond, LeaderWait: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	go a.server.Serve()
	for _, p := range a.parts {
		for deadline := time.Now().Add(20 * time.Second); ; {
			_, leading := p.Offsets()
			if leading {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no leader")
			}
			<-time.After(time.Millisecond)
		}
	}
	return a
}

func (a *alone) stop() error {
	if a.conn != nil {
		a.conn.Close()
	}
	err := a.server.Close()
	for _, p := range a.parts {
		err = errors.Join(err, p.Close())
	}
	return errors.Join(err, a.host.Close(), a.writer.Close())
}

// ask sends a request and returns its response, which must parse and have
// nothing after its end; nil when the server has closed the connection.
func (a *alone) ask(t *testing.T, req kmsg.Request) kmsg.Response {
	t.Helper()
	if a.conn == nil {
		client, server := net.Pipe()
		a.ln.conns <- server
		a.conn = client
	}
	a.sent++
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz")).AppendRequest(nil, req, a.sent)
	a.conn.SetDeadline(time.Now().Add(20 * time.Second))
	hangUp := func(err error) kmsg.Response {
		if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Fatalf("key %d version %d: no answer in 20 s", req.Key(), req.GetVersion())
		}
		a.conn.Close()
		a.conn = nil
		return nil
	}
	if _, err := a.conn.Write(frame); err != nil {
		return hangUp(err)
	}
	var head [8]byte
	if _, err := io.ReadFull(a.conn, head[:]); err != nil {
		return hangUp(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(a.conn, body); err != nil {
		return hangUp(err)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != a.sent {
		t.Fatalf("answer to %d, asked %d", got, a.sent)
	}
	resp := req.ResponseKind()
	if req.IsFlexible() && req.Key() != 18 {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		t.Fatalf("key %d version %d: answer does not parse: %v", req.Key(), req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); len(again) != len(body) {
		t.Fatalf("key %d version %d: answer of %d bytes parses to %d", req.Key(), req.GetVersion(), len(body), len(again))
	}
	return resp
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// check reads what is new in the partitions, and something old again.
func (a *alone) check(t *testing.T, old uint32) {
	t.Helper()
	for i, p := range a.parts {
		o, leading := p.Offsets()
		if !leading {
			t.Fatal("a partition lost its leader")
		}
		for a.readUp[i] < o.HighWatermark {
			a.readUp[i] = a.remember(t, i, readAll(t, p, a.readUp[i], 1<<20), a.readUp[i])
		}
		if n := len(a.stored[i]); n > 0 {
			was := a.stored[i][int(old)%n]
			b, _, err := seglog.NextBatch(readAll(t, p, was.base, was.size))
			if err != nil || crc32.ChecksumIEEE(b) != was.sum || b.BaseOffset() != was.base {
				t.Fatalf("partition %d: the batch at %d has changed: %v", i, was.base, err)
			}
		}
	}
}

func readAll(t *testing.T, p *partition.Partition, offset int64, maxBytes int) []byte {
	t.Helper()
	d, _, err := p.Read(offset, maxBytes, true)
	if err != nil {
		t.Fatalf("read at %d: %v", offset, err)
	}
	defer d.Release()
	return bytes.Join(d.Bytes(), nil)
}

// sound checks a batch without the code under test.
func sound(b []byte) error {
	be := binary.BigEndian
	switch {
	case len(b) < 61 || int(be.Uint32(b[8:])) != len(b)-12 || b[16] != 2:
		return errors.New("no whole batch of magic 2")
	case be.Uint32(b[17:]) != crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)):
		return errors.New("wrong checksum")
	case int32(be.Uint32(b[57:])) < 1 || be.Uint32(b[23:]) != be.Uint32(b[57:])-1:
		return errors.New("wrong count")
	case b[22]&7 > 4 || b[22]&0x30 != 0:
		return errors.New("attributes that a producer may not set")
	}
	return nil
}

// remember takes in new batches, which must be what a producer may write.
func (a *alone) remember(t *testing.T, i int, b []byte, from int64) int64 {
	t.Helper()
	if len(b) == 0 {
		t.Fatalf("partition %d: nothing at %d, below the high watermark", i, from)
	}
	for len(b) > 0 {
		batch, rest, err := seglog.NextBatch(b)
		if err == nil {
			err = sound(batch)
		}
		if err != nil || batch.BaseOffset() != from {
			t.Fatalf("partition %d: batch at %d, wanted at %d: %v", i, batch.BaseOffset(), from, err)
		}
		s := stored{base: from, sum: crc32.ChecksumIEEE(batch), size: len(batch)}
		if seglog.Records(batch, func(offset, ts int64, _, _ []byte) bool {
			s.times = append(s.times, recordTime{offset, ts})
			return true
		}) != nil { // it counts as one record
			s.times = []recordTime{{from, max(batch.MaxTimestamp(), batch.BaseTimestamp())}}
			a.opaque[i] = true
		}
		for _, r := range s.times {
			// The greatest timestamp is the producer's word, and batches are skipped by it.
			a.opaque[i] = a.opaque[i] || r.ts < 0 || r.ts > max(batch.MaxTimestamp(), batch.BaseTimestamp())
		}
		a.stored[i] = append(a.stored[i], s)
		from, b = batch.LastOffset()+1, rest
	}
	return from
}

// rebirth is how many requests one node gets: what is stored adds up.
const rebirth = 500
