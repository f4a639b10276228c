package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What Produce refuses, and that a refused batch changes nothing.
func TestProduceRefusals(t *testing.T) {
	good := testBatch(10)
	edit := func(at int, v byte, reseal bool) []byte {
		b := testBatch(10)
		b[at] = v
		if reseal {
			seal(b)
		}
		return b
	}
	text := "txn"
	r := newRig(t, func(o *Options) { o.Limits.MaxMessageBytes = 1000 })
	r.back.mustCreate("t", 2)
	r.back.setLeader("t", 1, 2, 4)
	for _, c := range []struct {
		name    string
		version int16
		change  func(*kmsg.ProduceRequest)
		batch   []byte
		want    *kerr.Error
	}{
		{"good", 9, nil, good, nil},
		{"acks 1", 9, func(q *kmsg.ProduceRequest) { q.Acks = 1 }, good, nil},
		{"acks 2", 9, func(q *kmsg.ProduceRequest) { q.Acks = 2 }, good, kerr.InvalidRequiredAcks},
		{"acks -2", 9, func(q *kmsg.ProduceRequest) { q.Acks = -2 }, good, kerr.InvalidRequiredAcks},
		{"transactional id", 9, func(q *kmsg.ProduceRequest) { q.TransactionID = &text }, good, kerr.TransactionalIDAuthorizationFailed},
		{"no records", 9, nil, nil, kerr.InvalidRecord},
		{"too short for magic", 9, nil, good[:16], kerr.CorruptMessage},
		{"too short for a header", 9, nil, good[:60], kerr.CorruptMessage},
		{"truncated", 9, nil, good[:len(good)-1], kerr.CorruptMessage},
		{"two batches", 9, nil, append(testBatch(10), good...), kerr.InvalidRecord},
		{"bytes after the batch", 9, nil, append(testBatch(10), 0), kerr.InvalidRecord},
		{"negative length", 9, nil, edit(8, 0xff, false), kerr.CorruptMessage},
		{"checksum", 9, nil, edit(len(good)-1, 9, false), kerr.CorruptMessage},
		{"magic 0", 9, nil, edit(16, 0, false), kerr.UnsupportedForMessageFormat},
		{"magic 1", 9, nil, edit(16, 1, false), kerr.UnsupportedForMessageFormat},
		{"magic 3", 9, nil, edit(16, 3, false), kerr.InvalidRecord},
		{"too large", 9, nil, testBatch(1000), kerr.MessageTooLarge},
		{"zstd too early", 6, nil, edit(22, codecZstd, true), kerr.UnsupportedCompressionType},
		{"zstd", 7, nil, edit(22, codecZstd, true), nil},
		{"base offset", 9, nil, edit(7, 1, false), kerr.InvalidRecord},
		{"control", 9, nil, edit(22, control, true), kerr.InvalidRecord},
		{"transactional batch", 9, nil, edit(22, transactional, true), kerr.InvalidTxnState},
		{"unknown topic", 9, func(q *kmsg.ProduceRequest) { q.Topics[0].Topic = "none" }, good, kerr.UnknownTopicOrPartition},
		{"unknown partition", 9, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = 2 }, good, kerr.UnknownTopicOrPartition},
		{"negative partition", 9, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = -1 }, good, kerr.UnknownTopicOrPartition},
		{"unknown id", 13, func(q *kmsg.ProduceRequest) { q.Topics[0].TopicID = [16]byte{1} }, good, kerr.UnknownTopicID},
		{"another leads", 9, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = 1 }, good, kerr.NotLeaderForPartition},
	} {
		before, _ := r.back.part("t", 0).Offsets()
		req := produceReq("t", topicID(r, "t"), 0, -1, c.batch)
		if c.change != nil {
			c.change(req)
		}
		got := ask[*kmsg.ProduceResponse](r.dial(), req, c.version).Topics[0].Partitions[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		after, _ := r.back.part("t", 0).Offsets()
		if (after != before) != (c.want == nil) {
			t.Errorf("%s: from %+v to %+v", c.name, before, after)
		}
		if c.want != nil && got.BaseOffset != -1 {
			t.Errorf("%s: base offset %d", c.name, got.BaseOffset)
		}
		if c.version >= 8 && (got.ErrorMessage != nil) != (c.want != nil) {
			t.Errorf("%s: message %v", c.name, got.ErrorMessage)
		}
	}
}

// A topic's own limit counts, not the server's.
func TestTopicMessageLimit(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	r.back.topics["t"].info.MaxMessageBytes = 100
	got := ask[*kmsg.ProduceResponse](r.dial(), produceReq("t", [16]byte{}, 0, -1, testBatch(100)), 9)
	wantCode(t, "large", got.Topics[0].Partitions[0].ErrorCode, kerr.MessageTooLarge)
}

// After the client's timeout the rest is REQUEST_TIMED_OUT; a later commit
// changes nothing in the answer.
func TestProduceTimeout(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 2)
	r.back.part("t", 1).setHold()
	req := produceReq("t", [16]byte{}, 0, -1, testBatch(10))
	p := req.Topics[0].Partitions[0]
	p.Partition = 1
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
	req.TimeoutMillis = 20
	c := r.dial()
	got := ask[*kmsg.ProduceResponse](c, req, 9).Topics[0].Partitions
	wantCode(t, "committed", got[0].ErrorCode, nil)
	wantCode(t, "held", got[1].ErrorCode, kerr.RequestTimedOut)
	r.back.part("t", 1).commit()
	ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 0)
}

// parkedFetch sends a fetch and returns when it waits.
func parkedFetch(t *testing.T, r *rig, req *kmsg.FetchRequest) *rawClient {
	t.Helper()
	p := r.back.part("t", 0)
	before := p.lentCount()
	c := r.dial()
	c.send(req, 11)
	eventually(t, "fetch has looked", func() bool { return p.lentCount() > before && p.outstanding() == 0 })
	return c
}

func TestFetchWakes(t *testing.T) {
	for _, c := range []struct {
		name string
		wake func(r *rig)
		code *kerr.Error
		size int
	}{
		{"on an append", func(r *rig) { r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {}) }, nil, len(testBatch(10))},
		{"on a move of the leader", func(r *rig) { r.back.setLeader("t", 0, 2, 4) }, kerr.NotLeaderForPartition, 0},
	} {
		for _, parts := range [][]int32{{0}, {0, 1, 2}} {
			r := newRig(t, nil)
			r.back.mustCreate("t", 3)
			req := fetchReq("t", [16]byte{}, 0, parts...)
			req.MaxWaitMillis = 60_000
			client := parkedFetch(t, r, req)
			c.wake(r)
			resp, _ := client.receive(req, 1)
			got := resp.(*kmsg.FetchResponse).Topics[0].Partitions
			wantCode(t, c.name, got[0].ErrorCode, c.code)
			if len(got[0].RecordBatches) != c.size || len(got) != len(parts) {
				t.Errorf("%s: %d bytes", c.name, len(got[0].RecordBatches))
			}
		}
	}
}

// Data that comes while a fetch waits for more than that is held back until
// there is enough, or the time is over.
func TestFetchMinBytes(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	one := len(testBatch(10))
	req := fetchReq("t", [16]byte{}, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 60_000, int32(3*one)
	c := parkedFetch(t, r, req)
	for range 3 {
		r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	}
	resp, _ := c.receive(req, 1)
	if got := len(resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches); got != 3*one {
		t.Errorf("%d bytes", got)
	}
	req = fetchReq("t", [16]byte{}, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 50, 1<<20
	start := time.Now()
	if got := len(ask[*kmsg.FetchResponse](r.dial(), req, 11).Topics[0].Partitions[0].RecordBatches); got != 3*one {
		t.Errorf("%d bytes", got)
	}
	if waited := time.Since(start); waited < 50*time.Millisecond {
		t.Errorf("waited %v", waited)
	}
}

// A parked fetch does not keep the connection's next requests from starting,
// and is dropped with its connection.
func TestFetchParksAside(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	req := fetchReq("t", [16]byte{}, 0, 0)
	req.MaxWaitMillis = 60_000
	c := parkedFetch(t, r, req)
	produce := produceReq("t", [16]byte{}, 0, -1, testBatch(10))
	c.send(produce, 9) // wakes the fetch before it
	c.receive(req, 1)
	c.receive(produce, 2)
	gone := fetchReq("t", [16]byte{}, 1, 0)
	gone.MaxWaitMillis = 60_000
	parkedFetch(t, r, gone).nc.Close()
	eventually(t, "its connection has ended", func() bool { return len(r.srv.open()) == 1 })
}

func TestFetchByteLimits(t *testing.T) {
	one := int32(len(testBatch(1000)))
	r := newRig(t, func(o *Options) { o.Limits.MaxFetchBytes = int(6 * one) })
	r.back.mustCreate("t", 4) // partition 0 stays empty
	for i := 1; i < 4; i++ {
		for range 5 {
			r.back.part("t", i).Append(testBatch(1000), func(AppendResult) {})
		}
	}
	for _, c := range []struct {
		name           string
		partition, max int32
		want           [4]int32 // batches
	}{
		{"each partition has its limit", 2 * one, 100 * one, [4]int32{0, 2, 2, 2}},
		{"max_bytes over all", 5 * one, 4*one + 1, [4]int32{0, 4, 0, 0}},
		{"the rest goes to the next", 3 * one, 4 * one, [4]int32{0, 3, 1, 0}},
		{"our own limit", 5 * one, 100 * one, [4]int32{0, 5, 1, 0}},
		{"one batch from the first that has any", 1, 1, [4]int32{0, 1, 0, 0}},
		{"zero and less", 0, -1, [4]int32{0, 1, 0, 0}},
		{"small partitions, large max", 1, 100 * one, [4]int32{0, 1, 0, 0}},
	} {
		req := fetchReq("t", [16]byte{}, 0, 0, 1, 2, 3)
		req.MaxBytes = c.max
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = c.partition
		}
		resp := ask[*kmsg.FetchResponse](r.dial(), req, 11)
		var got [4]int32
		for i, p := range resp.Topics[0].Partitions {
			got[i] = int32(len(p.RecordBatches)) / one
			if p.HighWatermark != 5 && i > 0 {
				t.Errorf("%s: high watermark %d", c.name, p.HighWatermark)
			}
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for i := range 4 {
		eventually(t, "released", func() bool { return r.back.part("t", i).outstanding() == 0 })
	}
}

func TestFetchErrors(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 2)
	r.back.setLeader("t", 1, 2, 4)
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	type part = kmsg.FetchRequestTopicPartition
	for _, c := range []struct {
		name    string
		version int16
		change  func(*kmsg.FetchRequest, *part)
		want    *kerr.Error
	}{
		{"fine", 12, func(*kmsg.FetchRequest, *part) {}, nil},
		{"read committed", 12, func(q *kmsg.FetchRequest, p *part) { q.IsolationLevel = 1 }, nil},
		{"current epoch", 12, func(_ *kmsg.FetchRequest, p *part) { p.CurrentLeaderEpoch = 3 }, nil},
		{"old epoch", 12, func(_ *kmsg.FetchRequest, p *part) { p.CurrentLeaderEpoch = 2 }, kerr.FencedLeaderEpoch},
		{"future epoch", 12, func(_ *kmsg.FetchRequest, p *part) { p.CurrentLeaderEpoch = 4 }, kerr.UnknownLeaderEpoch},
		{"past the end", 12, func(_ *kmsg.FetchRequest, p *part) { p.FetchOffset = 2 }, kerr.OffsetOutOfRange},
		{"negative", 12, func(_ *kmsg.FetchRequest, p *part) { p.FetchOffset = -1 }, kerr.OffsetOutOfRange},
		{"another leads", 12, func(_ *kmsg.FetchRequest, p *part) { p.Partition = 1 }, kerr.NotLeaderForPartition},
		{"no such partition", 12, func(_ *kmsg.FetchRequest, p *part) { p.Partition = 9 }, kerr.UnknownTopicOrPartition},
		{"no such id", 13, func(q *kmsg.FetchRequest, p *part) { q.Topics[0].TopicID[0] = 9 }, kerr.UnknownTopicID},
		{"a replica", 12, func(q *kmsg.FetchRequest, p *part) { q.ReplicaID = 2 }, kerr.InvalidRequest},
		{"a replica by its tag", 15, func(q *kmsg.FetchRequest, p *part) { q.ReplicaState.ID = 2 }, kerr.InvalidRequest},
		{"last epoch is ours", 12, func(_ *kmsg.FetchRequest, p *part) { p.LastFetchedEpoch = 3 }, nil},
		{"last epoch is unknown", 12, func(_ *kmsg.FetchRequest, p *part) { p.LastFetchedEpoch = 1 }, kerr.OffsetOutOfRange},
	} {
		req := fetchReq("t", topicID(r, "t"), 0, 0)
		req.MaxWaitMillis = 60_000 // an error does not wait
		c.change(req, &req.Topics[0].Partitions[0])
		got := ask[*kmsg.FetchResponse](r.dial(), req, c.version).Topics[0].Partitions[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		if c.want != nil && (got.HighWatermark != -1 || len(got.RecordBatches) != 0) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// A client whose last epoch goes on where ours has ended is told where.
func TestFetchDivergence(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	req := fetchReq("t", [16]byte{}, 1, 0)
	req.MaxWaitMillis = 60_000
	req.Topics[0].Partitions[0].LastFetchedEpoch = 5
	got := ask[*kmsg.FetchResponse](r.dial(), req, 12).Topics[0].Partitions[0]
	wantCode(t, "divergent", got.ErrorCode, nil)
	if got.DivergingEpoch.Epoch != 3 || got.DivergingEpoch.EndOffset != 1 || len(got.RecordBatches) != 0 {
		t.Errorf("%+v", got.DivergingEpoch)
	}
}

// An unknown topic beside one that can be waited for does not cut the wait
// short.
func TestFetchUnknownTopicWaits(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	req := fetchReq("t", [16]byte{}, 0, 0)
	req.Topics = append(req.Topics, fetchReq("none", [16]byte{}, 0, 0).Topics...)
	req.MaxWaitMillis = 60_000
	c := parkedFetch(t, r, req)
	r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	resp, _ := c.receive(req, 1)
	topics := resp.(*kmsg.FetchResponse).Topics
	wantCode(t, "none", topics[1].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	if len(topics[0].Partitions[0].RecordBatches) == 0 {
		t.Error("no data")
	}
}

func listOffsetsReq(topic string, at int64, index int32) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.MaxNumOffsets = index, at, 1
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

func TestListOffsets(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 2)
	r.back.setLeader("t", 1, 2, 4)
	for range 3 {
		r.back.part("t", 0).Append(testBatch(10), func(AppendResult) {})
	}
	const at = 1_700_000_000_000
	for _, c := range []struct {
		name      string
		version   int16
		time      int64
		epoch     int32 // that the client believes in
		want      *kerr.Error
		offset    int64
		timestamp int64
		told      int32 // epoch
	}{
		{"latest", 11, timeLatest, -1, nil, 3, -1, 3},
		{"latest of the past", 1, timeLatest, -1, nil, 3, -1, -1},
		{"earliest", 11, timeEarliest, 3, nil, 0, -1, 3},
		{"max", 11, timeMax, 3, nil, 0, at, 3},
		{"max too early", 6, timeMax, -1, kerr.UnsupportedVersion, -1, -1, -1},
		{"local start", 8, timeLocalStart, -1, nil, 0, -1, 3},
		{"local start too early", 7, timeLocalStart, -1, kerr.UnsupportedVersion, -1, -1, -1},
		{"tiered end", 9, timeTieredEnd, -1, nil, -1, -1, -1},
		{"tiered end too early", 8, timeTieredEnd, -1, kerr.UnsupportedVersion, -1, -1, -1},
		{"tiered upload", 11, timeTieredUpload, -1, nil, -1, -1, -1},
		{"nonsense", 11, -7, -1, kerr.UnsupportedVersion, -1, -1, -1},
		{"a time", 11, at, -1, nil, 0, at, 3},
		{"the first of all", 11, 0, -1, nil, 0, at, 3},
		{"after all", 11, at + 1, -1, nil, -1, -1, -1},
		{"an old epoch", 4, timeLatest, 2, kerr.FencedLeaderEpoch, -1, -1, -1},
		{"a newer epoch", 11, at, 4, kerr.UnknownLeaderEpoch, -1, -1, -1},
		{"no field for the epoch", 3, timeLatest, 2, nil, 3, -1, -1},
	} {
		req := listOffsetsReq("t", c.time, 0)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = c.epoch
		got := ask[*kmsg.ListOffsetsResponse](r.dial(), req, c.version).Topics[0].Partitions[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		if got.Offset != c.offset || got.Timestamp != c.timestamp || got.LeaderEpoch != c.told {
			t.Errorf("%s: offset %d at %d in epoch %d", c.name, got.Offset, got.Timestamp, got.LeaderEpoch)
		}
		req.ReplicaID = 1
		wantCode(t, c.name, ask[*kmsg.ListOffsetsResponse](r.dial(), req, c.version).Topics[0].Partitions[0].ErrorCode, kerr.InvalidRequest)
	}
	for _, c := range []struct {
		name  string
		topic string
		index int32
		want  *kerr.Error
	}{
		{"another leads", "t", 1, kerr.NotLeaderForPartition},
		{"no such partition", "t", 2, kerr.UnknownTopicOrPartition},
		{"no such topic", "none", 0, kerr.UnknownTopicOrPartition},
	} {
		got := ask[*kmsg.ListOffsetsResponse](r.dial(), listOffsetsReq(c.topic, timeLatest, c.index), 11).Topics[0].Partitions[0]
		wantCode(t, c.name, got.ErrorCode, c.want)
		if got.Offset != -1 || got.Timestamp != -1 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	twice := listOffsetsReq("t", timeLatest, 0)
	twice.Topics = append(twice.Topics, twice.Topics[0])
	topics := ask[*kmsg.ListOffsetsResponse](r.dial(), twice, 11).Topics
	wantCode(t, "once", topics[0].Partitions[0].ErrorCode, nil)
	wantCode(t, "twice", topics[1].Partitions[0].ErrorCode, kerr.InvalidRequest)
	old := ask[*kmsg.ListOffsetsResponse](r.dial(), listOffsetsReq("t", timeLatest, 0), 0).Topics[0].Partitions[0]
	if len(old.OldStyleOffsets) != 1 || old.OldStyleOffsets[0] != 3 {
		t.Errorf("version 0: %v", old.OldStyleOffsets)
	}
}

// Batches of zstd are for any version, as in Kafka where compression.type is
// producer: python-kafka 2.0 fetches with version 4 and does know zstd.
func TestFetchZstd(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	batch := testBatch(10)
	batch[22] |= codecZstd
	seal(batch)
	r.back.part("t", 0).Append(batch, func(AppendResult) {})
	for _, version := range []int16{4, 9, 10} {
		got := ask[*kmsg.FetchResponse](r.dial(), fetchReq("t", [16]byte{}, 0, 0), version).Topics[0].Partitions[0]
		wantCode(t, fmt.Sprint("version ", version), got.ErrorCode, nil)
		if len(got.RecordBatches) != len(batch) {
			t.Errorf("version %d: %d bytes, want %d", version, len(got.RecordBatches), len(batch))
		}
	}
}

// A single record's faults reach its producer (KIP-467).
func TestProduceRecordErrors(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 1)
	r.back.part("t", 0).refuse = &AppendResult{BaseOffset: -1, AppendTime: -1, Err: Errorf(kerr.InvalidTimestamp, "bad times"),
		Records: []RecordError{{Index: 2, Message: "two"}, {Index: 7, Message: "seven"}}}
	for version := int16(3); version <= 13; version++ {
		got := ask[*kmsg.ProduceResponse](r.dial(), produceReq("t", topicID(r, "t"), 0, -1, testBatch(10)), version).Topics[0].Partitions[0]
		wantCode(t, fmt.Sprint("version ", version), got.ErrorCode, kerr.InvalidTimestamp)
		if version < 8 {
			continue
		}
		if e := got.ErrorRecords; len(e) != 2 || e[0].RelativeOffset != 2 || e[1].RelativeOffset != 7 || *e[0].ErrorMessage != "two" || *got.ErrorMessage != "bad times" {
			t.Errorf("version %d: %+v %v", version, e, got.ErrorMessage)
		}
	}
}
