package testcluster

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/testetcd"
)

func text(s string) *string { return &s }

// TestLogAppendTime: the leader's clock is every record's time, told to the
// producer, found by lookups, and the same on all replicas.
func TestLogAppendTime(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 1, 3, map[string]*string{"message.timestamp.type": text("LogAppendTime")}, "log"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Truncate(time.Millisecond)
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for _, codec := range codecs {
		producer := c.Client(kgo.ProducerBatchCompression(codec))
		for i := range 3 {
			r := &kgo.Record{Topic: "log", Value: make([]byte, 200), Timestamp: time.UnixMilli(int64(1000 * i))}
			if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := time.Now()
	total := 3 * len(codecs)
	consumer := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"log": {0: kgo.NewOffset().AtStart()}}))
	for n := 0; n < total; {
		consumer.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			n++
			if r.Attrs.TimestampType() != 1 || r.Timestamp.Before(begin) || r.Timestamp.After(end) {
				t.Errorf("offset %d: type %d at %v, written between %v and %v", r.Offset, r.Attrs.TimestampType(), r.Timestamp, begin, end)
			}
		})
	}
	found, err := admin.ListOffsetsAfterMilli(t.Context(), begin.UnixMilli(), "log")
	if o, ok := found.Lookup("log", 0); err != nil || !ok || o.Offset != 0 || o.Timestamp < begin.UnixMilli() {
		t.Errorf("the first record of now: %+v %v", o, err)
	}
	c.inSync(t, "log", 3)
	c.mustBeClean(1)

	// Times that are the producer's have bounds, which are told by record.
	if _, err := admin.CreateTopic(t.Context(), 1, 3, map[string]*string{
		"message.timestamp.before.max.ms": text("60000"), "message.timestamp.after.max.ms": text("60000")}, "bounded"); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Duration{0, -2 * time.Minute, 2 * time.Minute} {
		err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "bounded", Value: []byte("v"), Timestamp: time.Now().Add(at)}).FirstErr()
		if (err == nil) != (at == 0) || err != nil && fmt.Sprint(kerr.ErrorForCode(kerr.InvalidTimestamp.Code)) != fmt.Sprint(err) {
			t.Errorf("%v from now: %v", at, err)
		}
	}
}

// TestAppendTimeIsTold: the answer has the time that the records got, that of the
// first copy for a duplicate.
func TestAppendTimeIsTold(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 3, map[string]*string{"message.timestamp.type": text("LogAppendTime")}, "log"); err != nil {
		t.Fatal(err)
	}
	b := kmsg.NewRecordBatch()
	b.Magic, b.NumRecords, b.ProducerID, b.ProducerEpoch, b.FirstSequence = 2, 1, 7, 0, 0
	b.FirstTimestamp, b.MaxTimestamp = 5, 5
	b.Records = []byte{12, 0, 0, 0, 1, 1, 0} // one record, without a key and a value
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	leader := c.inSync(t, "log", 3)
	begin, first := time.Now().UnixMilli(), int64(-1)
	for copies := range 3 {
		req := kmsg.NewPtrProduceRequest()
		req.SetVersion(9)
		req.Acks, req.TimeoutMillis = -1, 10_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = "log"
		meta, err := kadm.NewClient(client).Metadata(t.Context(), "log")
		if err != nil {
			t.Fatal(err)
		}
		rt.TopicID = meta.Topics["log"].ID
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = raw
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(t.Context(), client.Broker(int(leader)))
		if err != nil {
			t.Fatal(err)
		}
		got := resp.Topics[0].Partitions[0]
		if copies == 0 {
			first = got.LogAppendTime
		}
		if got.ErrorCode != 0 || got.BaseOffset != 0 || first < begin || got.LogAppendTime != first {
			t.Errorf("copy %d: %+v, written after %d, the first one at %d", copies, got, begin, first)
		}
		testetcd.Eventually(t, "the clock has gone on", func() bool { return time.Now().UnixMilli() > first })
	}
}
