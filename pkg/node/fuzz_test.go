package node

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/seglog"
)

// fuzzBatch is a record batch of records that are n bytes each.
func fuzzBatch(records, n int) []byte {
	var body []byte
	for i := range records {
		r := kmsg.NewRecord()
		r.OffsetDelta, r.TimestampDelta64, r.Value = int32(i), int64(i*10), bytes.Repeat([]byte{'v'}, n)
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		if n > 50 {
			r.Length--
			r.Length = int32(len(r.AppendTo(nil)) - 2)
		}
		body = r.AppendTo(body)
	}
	b := kmsg.NewRecordBatch()
	b.Magic, b.NumRecords, b.LastOffsetDelta = 2, int32(records), int32(records-1)
	b.ProducerID, b.ProducerEpoch, b.FirstSequence = -1, -1, -1
	b.FirstTimestamp, b.Records = int64(n*100), body
	b.MaxTimestamp = b.FirstTimestamp + int64(records-1)*10
	return sealBatch(b.AppendTo(nil), 3)
}

// sealBatch makes a batch's length (bit 0) and checksum (bit 1) right.
func sealBatch(b []byte, what uint8) []byte {
	b = slices.Clone(b)
	if what&1 != 0 && len(b) >= 12 {
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	}
	if what&2 != 0 && len(b) >= 21 {
		binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// FuzzRequests sends requests with any field values to real partitions. The
// batches of Produce have right lengths and checksums if fix says so: a fuzzer
// does not guess them. Answers parse and keep what the protocol promises, what
// is stored is valid, and what was stored before stays as it was.
func FuzzRequests(f *testing.F) {
	good := fuzzBatch(3, 20)
	pid := slices.Clone(good)
	copy(pid[43:], []byte{0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0})
	for _, b := range [][]byte{good, pid, fuzzBatch(1, 30), append(slices.Clone(good), good...), good[:50], {}} {
		for _, v := range []int16{3, 9, 13} {
			f.Add(uint8(0), v, "t", int32(0), int64(-1), int32(0), int32(1000), b, uint8(3))
		}
		f.Add(uint8(0), int16(7), "t", int32(1), int64(-1), int32(0), int32(1000), b, uint8(0))
		f.Add(uint8(0), int16(9), "t", int32(1), int64(-1), int32(0), int32(1000), b, uint8(1))
	}
	for _, ts := range []int64{0, 1000, 2010, 2020, 3000, 4000, 4010, 4011} {
		f.Add(uint8(2), int16(5), "t", int32(0), ts, int32(-1), int32(0), []byte{}, uint8(0))
	}
	for _, key := range []uint8{1, 2, 3, 10, 18, 19, 20, 22, 23, 32, 37, 60} {
		for _, v := range []int16{0, 4, 11, 16} {
			f.Add(key, v, "t", int32(0), int64(0), int32(1), int32(200), []byte{}, uint8(0))
			f.Add(key, v, "new", int32(1), int64(5), int32(-1), int32(-1), []byte{}, uint8(0))
		}
	}
	var a *alone
	requests := 0
	f.Cleanup(func() {
		if a != nil {
			if err := a.stop(); err != nil {
				f.Error(err)
			}
		}
	})
	f.Fuzz(func(t *testing.T, key uint8, version int16, topic string, index int32, offset int64, n, m int32, batch []byte, fix uint8) {
		if len(batch) > 1<<17 || len(topic) > 1000 {
			return
		}
		if requests++; a == nil || requests%rebirth == 0 {
			if a != nil {
				if err := a.stop(); err != nil {
					t.Fatal(err)
				}
			}
			a = startAlone(t)
			for i := range int32(2) { // something to find
				for range 3 {
					a.produce(t, 9, "t", i, 1000, fuzzBatch(2, 40), false)
				}
			}
			a.check(t, 0)
		}
		switch key {
		case 0:
			a.produce(t, version, topic, index, m, sealBatch(batch, fix), true)
		case 1:
			a.fetch(t, version, topic, index, offset, n, m)
		case 2:
			a.listOffsets(t, version, topic, index, offset, n)
		default:
			a.other(t, key, version, topic, index, offset, n, m, fix)
		}
		a.check(t, uint32(requests)*2654435761)
	})
}

func inRange(v, lo, hi int16) int16 { return lo + int16(uint16(v)%uint16(hi-lo+1)) }

func (a *alone) produce(t *testing.T, version int16, topic string, index, timeout int32, batch []byte, mayFail bool) {
	req := kmsg.NewPtrProduceRequest()
	req.Version = inRange(version, 0, 13)
	req.Acks, req.TimeoutMillis = -1, 10_000+timeout&0xff
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, [16]byte{15: 1}
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = index, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	sent := slices.Clone(batch)
	resp, ok := a.ask(t, req).(*kmsg.ProduceResponse)
	if !ok {
		t.Fatal("a well-formed produce closed the connection")
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		if !mayFail {
			t.Fatalf("produce: %v", kerr.ErrorForCode(got.ErrorCode))
		}
		return
	}
	b := seglog.Batch(sent)
	if err := sound(b); err != nil {
		t.Fatalf("took a batch that is none: %v", err)
	}
	if b.ProducerID() >= 0 {
		return // the first copy may have had other bytes
	}
	have := readAll(t, a.parts[index], got.BaseOffset, 1)
	if len(have) != len(sent) || !bytes.Equal(have[61:], sent[61:]) {
		t.Fatalf("acknowledged at %d, but other bytes are there", got.BaseOffset)
	}
}

func (a *alone) fetch(t *testing.T, version int16, topic string, index int32, offset int64, n, maxBytes int32) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = inRange(version, 4, 18)
	req.MaxBytes, req.MinBytes = maxBytes, n
	req.ReplicaID, req.ReplicaState.ID = -1, -1
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, [16]byte{15: 1}
	for i := range int32(2) {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = (index+i)%3, offset, maxBytes, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, ok := a.ask(t, req).(*kmsg.FetchResponse)
	if !ok {
		t.Fatal("a well-formed fetch closed the connection")
	}
	total, batches := 0, 0
	for _, p := range resp.Topics[0].Partitions {
		total += len(p.RecordBatches)
		next := offset
		for b := p.RecordBatches; len(b) > 0; batches++ {
			batch, rest, err := seglog.NextBatch(b)
			if err == nil {
				err = sound(batch)
			}
			if err != nil || batch.LastOffset() < next || batch.LastOffset() >= p.HighWatermark {
				t.Fatalf("fetched at %d: batch %d to %d, high watermark %d: %v", offset, batch.BaseOffset(), batch.LastOffset(), p.HighWatermark, err)
			}
			next, b = batch.LastOffset()+1, rest
		}
	}
	if batches > 1 && int64(total) > int64(maxBytes) {
		t.Fatalf("%d bytes in %d batches, asked for %d", total, batches, maxBytes)
	}
}

func (a *alone) listOffsets(t *testing.T, version int16, topic string, index int32, ts int64, epoch int32) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = inRange(version, 0, 11)
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch, rp.MaxNumOffsets = index, ts, epoch, 1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, ok := a.ask(t, req).(*kmsg.ListOffsetsResponse)
	if !ok {
		t.Fatal("a well-formed request closed the connection")
	}
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 || req.Version == 0 {
		return
	}
	o, _ := a.parts[index].Offsets()
	if p.Offset > o.HighWatermark || p.Offset < -1 || ts >= 0 && p.Offset >= 0 && p.Timestamp < ts {
		t.Fatalf("offset %d with timestamp %d for %d; the log is %+v", p.Offset, p.Timestamp, ts, o)
	}
	if ts < 0 || a.opaque[index] {
		return
	}
	want := recordTime{-1, -1}
	for _, s := range a.stored[index] {
		for _, r := range s.times {
			if r.ts >= ts && want.offset < 0 {
				want = r
			}
		}
	}
	if (recordTime{p.Offset, p.Timestamp}) != want {
		t.Fatalf("first record from %d on is %d with %d, want %+v", ts, p.Offset, p.Timestamp, want)
	}
}

// other sends the rest of the APIs, which have no batches.
func (a *alone) other(t *testing.T, key uint8, version int16, topic string, index int32, offset int64, n, m int32, flags uint8) {
	req := kmsg.RequestForKey(int16(key))
	if req == nil {
		return
	}
	yes := flags&1 != 0
	switch r := req.(type) {
	case *kmsg.MetadataRequest:
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic, mt.TopicID = kmsg.StringPtr(topic), [16]byte{15: flags}
		r.Topics, r.AllowAutoTopicCreation = append(r.Topics, mt), yes
	case *kmsg.FindCoordinatorRequest:
		r.CoordinatorKey, r.CoordinatorKeys, r.CoordinatorType = topic, []string{topic}, int8(n)
	case *kmsg.CreateTopicsRequest:
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, n, int16(m)
		if yes {
			ra := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
			ra.Partition, ra.Replicas = index, []int32{n, m}
			ct.ReplicaAssignment = append(ct.ReplicaAssignment, ra)
		}
		r.Topics = append(r.Topics, ct, ct)
		r.Topics = r.Topics[:1+flags>>7]
	case *kmsg.DeleteTopicsRequest:
		dt := kmsg.NewDeleteTopicsRequestTopic()
		dt.Topic, dt.TopicID = kmsg.StringPtr(topic), [16]byte{15: flags}
		r.Topics, r.TopicNames = append(r.Topics, dt), []string{topic}
		if topic == "t" {
			return
		}
	case *kmsg.InitProducerIDRequest:
		r.ProducerID, r.ProducerEpoch, r.TransactionTimeoutMillis = offset, int16(n), m
		if yes {
			r.TransactionalID = kmsg.StringPtr(topic)
		}
	case *kmsg.OffsetForLeaderEpochRequest:
		ot := kmsg.NewOffsetForLeaderEpochRequestTopic()
		ot.Topic = topic
		op := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		op.Partition, op.LeaderEpoch, op.CurrentLeaderEpoch = index, n, m
		ot.Partitions = append(ot.Partitions, op)
		r.Topics = append(r.Topics, ot)
	case *kmsg.DescribeConfigsRequest:
		rr := kmsg.NewDescribeConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceType(int8(n)), topic
		r.Resources = append(r.Resources, rr)
	case *kmsg.CreatePartitionsRequest:
		ct := kmsg.NewCreatePartitionsRequestTopic()
		ct.Topic, ct.Count = topic, n
		r.Topics = append(r.Topics, ct)
	}
	req.SetVersion(inRange(version, 0, req.MaxVersion()))
	if key == 18 {
		req.SetVersion(inRange(version, 0, 4)) // above, it answers in version 0 (KIP-511)
	}
	a.ask(t, req)
}
