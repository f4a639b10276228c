//go:build system

package system

import (
	"bytes"
	"compress/gzip"
	enc "encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stranger connects from an address of its own, 127.1.x.y: log lines are limited
// by address.
func stranger(t *testing.T, n int, to string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}, Timeout: 10 * time.Second}
	nc, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// bad is what strangers send, and what is said about it.
var bad = []struct{ name, send, says string }{
	{"TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "security.protocol"},
	{"HTTP", "POST /topics HTTP/1.1\r\nHost: x\r\n\r\n", "--http-addr"},
	{"random bytes", "\x8f\x1c\x33\x07\xd0\x44\x91\xee\x05\x21", "frame of"},
	{"negative length", "\xff\xff\xff\xf0\x00\x00\x00\x00", "frame of -16"},
	{"too large", "\x7f\xff\xff\xff\x00\x00\x00\x09", "frame of 2147483647"},
	{"too large for its API", "\x05\x00\x00\x00\x00\x03\x00\x09", "Metadata request of"},
	{"truncated", "\x00\x00\x01\x00\x00\x03\x00\x09\x00\x00\x00\x01", "connection closed after"},
	{"truncated head", "\x00\x00\x01", "3 bytes of a frame's head"},
	{"unknown API", "\x00\x00\x00\x10\x03\xe7\x00\x00aaaaaaaaaaaa", "unknown API key 999"},
	{"unknown version", "\x00\x00\x00\x10\x00\x03\x00\x63aaaaaaaaaaaa", "Metadata version 99"},
	{"false count", "\x00\x00\x00\x10\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff\x7f\xff\xff\xff\x00\x00", "truncated"},
	{"client id past the end", "\x00\x00\x00\x0a\x00\x03\x00\x00\x00\x00\x00\x01\x7f\xff", "client id"},
}

// TestBadInput: what no client sends costs a node next to nothing and one log
// line, wrong batches get the protocol's error, and clients that announce or
// fetch more than there is memory for stay within the bounds. Real clients work
// meanwhile and after that.
func TestBadInput(t *testing.T) {
	const memory = 128 << 20
	c := startCluster(t, 1, 10*time.Second, "--default-replication-factor=1",
		fmt.Sprint("--kafka-max-request-memory=", memory), fmt.Sprint("--kafka-max-response-memory=", memory))
	c.create("t", 1)
	pid := c.nodes[0].cmd.Process.Pid

	for i, b := range bad {
		nc := stranger(t, i+1, c.kafka[0])
		if _, err := io.WriteString(nc, b.send); err != nil {
			t.Fatal(err)
		}
		_ = nc.CloseWrite()
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		if got, _ := io.ReadAll(nc); len(got) > 0 {
			t.Errorf("%s was answered with %x", b.name, got)
		}
		from := fmt.Sprintf("remote=127.1.0.%d:", i+1)
		waitFor(t, "the line about "+b.name, 10*time.Second, func() bool { return strings.Contains(c.nodes[0].logs(), from) })
		for _, line := range linesWith(c.nodes[0].logs(), from) {
			if !strings.Contains(line, b.says) {
				t.Errorf("%s: no %q in %s", b.name, b.says, line)
			}
		}
		if n := len(linesWith(c.nodes[0].logs(), from)); n != 1 {
			t.Errorf("%s: %d lines, want 1", b.name, n)
		}
	}
	// A scanner is one line, whatever it tries.
	for range 200 {
		nc := stranger(t, 500, c.kafka[0])
		_, _ = nc.Write(bytes.Repeat([]byte{0xaa}, 100))
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.ReadAll(nc)
	}
	if n := len(linesWith(c.nodes[0].logs(), "remote=127.1.1.244:")); n != 1 {
		t.Errorf("a scanner made %d lines", n)
	}

	badBatches(t, c)
	realClients(t, c, "after bad bytes")

	before := rss(t, pid)
	t.Run("announcements", func(t *testing.T) {
		for i := range 2000 {
			nc := stranger(t, 600+i, c.kafka[0])
			// A Produce of 100 MiB, less what follows it.
			if _, err := nc.Write([]byte{6, 0x40, 0, 0, 0, 0, 0, 9}); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "memory to be taken", 10*time.Second, func() bool { return gauge(t, c, "raftsman_kafka_request_memory_bytes") > 0 })
		used := gauge(t, c, "raftsman_kafka_request_memory_bytes")
		small(t, c)
		t.Logf("2,000 connections announce 100 MiB each: %d MiB counted, RSS %d MiB (%d before)", used>>20, rss(t, pid)>>20, before>>20)
		if used > memory {
			t.Errorf("%d bytes are counted, the limit is %d", used, memory)
		}
		if grown := rss(t, pid) - before; grown > 2*memory {
			t.Errorf("RSS has grown by %d MiB", grown>>20)
		}
	})
	t.Run("slow fetchers", func(t *testing.T) {
		fill(t, c, 60)
		before := rss(t, pid)
		for i := range 500 {
			nc := stranger(t, 3000+i, c.kafka[0])
			_ = nc.SetReadBuffer(4 << 10)
			if _, err := nc.Write(fetch50(int32(i))); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "responses to be held", 20*time.Second, func() bool {
			return gauge(t, c, "raftsman_kafka_response_memory_bytes") > memory/2
		})
		small(t, c)
		used := gauge(t, c, "raftsman_kafka_response_memory_bytes")
		t.Logf("500 connections fetch 50 MiB each and do not read: %d MiB counted, RSS %d MiB (%d before)", used>>20, rss(t, pid)>>20, before>>20)
		if used > memory+1<<20 {
			t.Errorf("%d bytes are counted, the limit is %d", used, memory)
		}
		if grown := rss(t, pid) - before; grown > 4*memory {
			t.Errorf("RSS has grown by %d MiB", grown>>20)
		}
	})
	waitFor(t, "all memory to be given back", 60*time.Second, func() bool {
		return gauge(t, c, "raftsman_kafka_request_memory_bytes") == 0 && gauge(t, c, "raftsman_kafka_response_memory_bytes") == 0
	})
	realClients(t, c, "at the end")
	if strings.Contains(c.nodes[0].logs(), "panic") {
		t.Error("the node panicked")
	}
}

func linesWith(log, part string) (out []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return out
}

// rss is a process's memory.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatal("no VmRSS")
	}
	kib, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kib << 10
}

func gauge(t *testing.T, c *cluster, name string) int64 {
	t.Helper()
	resp, err := http.Get("http://" + c.http[0] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(v)
}

// realClients writes and reads with kcat and with franz-go.
func realClients(t *testing.T, c *cluster, value string) {
	t.Helper()
	command(t, value+"\n", "kcat", "-b", c.kafka[0], "-P", "-t", "t", "-p", "0")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), kgo.StringRecord(value+", franz-go")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := string(command(t, "", "kcat", "-b", c.kafka[0], "-C", "-t", "t", "-o", "-2", "-e", "-q"))
	if want := value + "\n" + value + ", franz-go\n"; got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

// small asks what a client asks first, while memory is short.
func small(t *testing.T, c *cluster) {
	t.Helper()
	if out := string(command(t, "", "kcat", "-b", c.kafka[0], "-L", "-t", "t")); !strings.Contains(out, `topic "t"`) {
		t.Errorf("metadata: %s", out)
	}
	command(t, "while memory is short\n", "kcat", "-b", c.kafka[0], "-P", "-t", "t", "-p", "0")
}

// fill makes the topic so many MiB long.
func fill(t *testing.T, c *cluster, mib int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := bytes.Repeat([]byte("0123456789abcdef"), 512<<10/16)
	for range 2 * mib {
		client.Produce(t.Context(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func fetch50(correlation int32) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	req.MaxBytes, req.MinBytes, req.MaxWaitMillis = 50<<20, 1, 300_000
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = 50<<20, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return kmsg.NewRequestFormatter().AppendRequest(nil, req, correlation)
}

// goodBatch has one record.
func goodBatch() []byte {
	r := kmsg.NewRecord()
	r.Value = []byte("value")
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	b := kmsg.NewRecordBatch()
	b.Magic, b.NumRecords, b.ProducerID, b.ProducerEpoch, b.FirstSequence = 2, 1, -1, -1, -1
	b.FirstTimestamp, b.MaxTimestamp, b.Records = 1_700_000_000_000, 1_700_000_000_000, r.AppendTo(nil)
	return sealed(b.AppendTo(nil))
}

// sealed has length and checksum right.
func sealed(b []byte) []byte {
	enc.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	enc.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// bomb decompresses to 512 MiB, and has to be looked into for its timestamp.
func bomb(t *testing.T) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	zeros := make([]byte, 1<<20)
	for range 512 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	b := append(goodBatch()[:61], z.Bytes()...)
	b[22] = 1
	enc.BigEndian.PutUint64(b[35:], ^uint64(0)) // no greatest timestamp
	return sealed(b)
}

// badBatches gets the protocol's error for each wrong batch.
func badBatches(t *testing.T, c *cluster) {
	change := func(at int, v ...byte) []byte {
		b := goodBatch()
		copy(b[at:], v)
		return sealed(b)
	}
	unsealed := func(at int, v byte) []byte {
		b := goodBatch()
		b[at] ^= v
		return b
	}
	for _, tc := range []struct {
		name  string
		batch []byte
		want  *kerr.Error
	}{
		{"good", goodBatch(), nil},
		{"checksum", unsealed(20, 1), kerr.CorruptMessage},
		{"a flipped bit", unsealed(66, 4), kerr.CorruptMessage},
		{"magic 1", change(16, 1), kerr.UnsupportedForMessageFormat},
		{"magic 9", change(16, 9), kerr.InvalidRecord},
		{"records that are not there", change(57, 0x7f, 0xff, 0xff, 0xff), kerr.InvalidRecord},
		{"negative count", change(57, 0xff, 0xff, 0xff, 0xff), kerr.InvalidRecord},
		{"last offset", change(23, 0, 0, 1, 0), kerr.InvalidRecord},
		{"codec", change(22, 6), kerr.UnsupportedCompressionType},
		{"timestamps", change(27, 0x80), kerr.InvalidTimestamp},
		{"greatest timestamp below the first", change(35, 0, 0, 0, 0, 0, 0, 0, 5), kerr.InvalidTimestamp},
		{"control", change(22, 0x20), kerr.InvalidRecord},
		{"transactional", change(22, 0x10), kerr.InvalidTxnState},
		{"truncated", goodBatch()[:40], kerr.CorruptMessage},
		{"garbage behind", append(goodBatch(), "garbage"...), kerr.InvalidRecord},
		{"two batches", append(goodBatch(), goodBatch()...), kerr.InvalidRecord},
		{"none", []byte{}, kerr.InvalidRecord},
		{"decompression bomb", bomb(t), kerr.MessageTooLarge},
		{"good again", goodBatch(), nil},
	} {
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 10_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Records = slices.Clone(tc.batch)
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		req.Version = 9
		nc := stranger(t, 400, c.kafka[0])
		if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
			t.Fatal(err)
		}
		_ = nc.SetReadDeadline(time.Now().Add(30 * time.Second))
		var head [9]byte // length, correlation, no tags
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		body := make([]byte, enc.BigEndian.Uint32(head[:])-5)
		if _, err := io.ReadFull(nc, body); err != nil {
			t.Fatal(err)
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(body); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got := resp.Topics[0].Partitions[0].ErrorCode
		if want := int16(0); tc.want != nil && got != tc.want.Code || tc.want == nil && got != want {
			t.Errorf("%s: got %v, want %v", tc.name, kerr.ErrorForCode(got), tc.want)
		}
	}
}
