package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// startElecting makes a rig with a topic "t" whose partition 0 has an election under way.
func startElecting(t *testing.T, elected bool, wait time.Duration) *rig {
	t.Helper()
	r := newRig(t, func(o *Options) { o.Limits.ElectionWait = wait })
	r.back.mustCreate("t", 2)
	for i := range 2 {
		r.back.part("t", i).Append(testBatch(10), func(AppendResult) {})
	}
	r.back.part("t", 0).setElecting(elected)
	return r
}

// leaderRead is a request for partition 0 that only a leader answers, and the code
// in its answer.
type leaderRead struct {
	name    string
	version int16
	req     kmsg.Request
	code    func(kmsg.Response) int16
}

func leaderReads(id [16]byte) []leaderRead {
	offsets := kmsg.NewPtrListOffsetsRequest()
	offsets.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: timeLatest, CurrentLeaderEpoch: -1}}}}
	epochs := kmsg.NewPtrOffsetForLeaderEpochRequest()
	epochs.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{LeaderEpoch: 3, CurrentLeaderEpoch: -1}}}}
	producers := kmsg.NewPtrDescribeProducersRequest()
	producers.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	deletion := kmsg.NewPtrDeleteRecordsRequest()
	deletion.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}
	return []leaderRead{
		{"Fetch", 16, fetchReq("t", id, 0, 1, 0), func(resp kmsg.Response) int16 {
			return resp.(*kmsg.FetchResponse).Topics[0].Partitions[1].ErrorCode
		}},
		{"ListOffsets", 4, offsets, func(resp kmsg.Response) int16 {
			return resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode
		}},
		{"OffsetForLeaderEpoch", 3, epochs, func(resp kmsg.Response) int16 {
			return resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0].ErrorCode
		}},
		{"DescribeProducers", 0, producers, func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0].ErrorCode
		}},
		{"DeleteRecords", 2, deletion, func(resp kmsg.Response) int16 {
			return resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode
		}},
	}
}

// What comes before a leader serves is answered when it does, or sent to the one
// that does, or refused when that takes long.
func TestReadsWaitForElections(t *testing.T) {
	for _, c := range []struct {
		name    string
		elected bool
		wait    time.Duration
		then    func(r *rig)
		want    *kerr.Error
	}{
		{"this one serves", true, time.Hour, func(r *rig) { r.back.setLeader("t", 0, 1, 4) }, nil},
		{"nobody was known, and this one serves", false, time.Hour, func(r *rig) { r.back.setLeader("t", 0, 1, 4) }, nil},
		{"another one leads", false, time.Hour, func(r *rig) { r.back.setLeader("t", 0, 2, 4) }, kerr.NotLeaderForPartition},
		{"elected, and lost it", true, time.Hour, func(r *rig) { r.back.setLeader("t", 0, 2, 4) }, kerr.NotLeaderForPartition},
		{"nobody comes", false, time.Millisecond, func(*rig) {}, kerr.NotLeaderForPartition},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range leaderReads([16]byte{}) {
				r := startElecting(t, c.elected, c.wait)
				l, client := leaderReads(topicID(r, "t"))[i], r.dial()
				id := client.send(l.req, l.version)
				if c.wait == time.Hour {
					eventually(t, l.name+" waits", func() bool { return r.back.part("t", 0).watched() == 1 })
				}
				c.then(r)
				resp, _ := client.receive(l.req, id)
				wantCode(t, l.name, l.code(resp), c.want)
				if f, ok := resp.(*kmsg.FetchResponse); ok && len(f.Topics[0].Partitions[0].RecordBatches) == 0 {
					t.Error("the other partition's records are missing")
				}
				eventually(t, l.name+" watches no more", func() bool { return r.back.part("t", 0).watched() == 0 })
			}
		})
	}
}

// A fetch whose max_wait is over, or that has enough, waits for the election all the
// same; when the connection ends it does not.
func TestFetchWaitsForElectionBeyondMaxWait(t *testing.T) {
	r := startElecting(t, true, time.Hour)
	c := r.dial()
	req := fetchReq("t", topicID(r, "t"), 1, 0)
	req.MaxWaitMillis = 1
	id := c.send(req, 13)
	eventually(t, "the fetch waits", func() bool { return r.back.part("t", 0).watched() == 1 })
	r.back.part("t", 0).setStart(1, 1) // something else changes: it goes on waiting
	eventually(t, "the fetch waits on", func() bool { return r.back.part("t", 0).watched() == 1 })
	r.back.setLeader("t", 0, 1, 4)
	resp, _ := c.receive(req, id)
	p := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	wantCode(t, "answer", p.ErrorCode, nil)
	if p.HighWatermark != 1 {
		t.Errorf("high watermark %d", p.HighWatermark)
	}
	r.back.part("t", 0).setElecting(false)
	c.send(req, 13)
	eventually(t, "the fetch waits", func() bool { return r.back.part("t", 0).watched() == 1 })
	c.nc.Close()
	eventually(t, "the watch ends", func() bool { return r.back.part("t", 0).watched() == 0 })
}

// A session's partition that is waited for is told of when it serves.
func TestSessionWaitsForElection(t *testing.T) {
	r := startElecting(t, true, time.Hour)
	c := r.dial()
	req := fetchReq("t", topicID(r, "t"), 0, 0, 1)
	req.SessionEpoch = sessionInitial
	id := c.send(req, 13)
	eventually(t, "the fetch waits", func() bool { return r.back.part("t", 0).watched() == 1 })
	r.back.setLeader("t", 0, 1, 4)
	got, _ := c.receive(req, id)
	resp := got.(*kmsg.FetchResponse)
	if resp.SessionID == 0 || len(resp.Topics[0].Partitions) != 2 {
		t.Fatalf("%+v", resp)
	}
	for _, p := range resp.Topics[0].Partitions {
		wantCode(t, "first", p.ErrorCode, nil)
	}
	next := kmsg.NewPtrFetchRequest()
	next.SessionID, next.SessionEpoch, next.MinBytes, next.MaxWaitMillis = resp.SessionID, 1, 1, 60_000
	topic := kmsg.NewFetchRequestTopic()
	topic.TopicID = topicID(r, "t")
	for i := range int32(2) {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = i, 1, 1<<20
		topic.Partitions = append(topic.Partitions, p)
	}
	next.Topics = append(next.Topics, topic)
	r.back.part("t", 0).setElecting(false)
	id = c.send(next, 13)
	eventually(t, "the second fetch waits", func() bool { return r.back.part("t", 0).watched() == 1 })
	r.back.setLeader("t", 0, 2, 5)
	got, _ = c.receive(next, id)
	resp = got.(*kmsg.FetchResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		t.Fatalf("%+v", resp)
	}
	wantCode(t, "second", resp.Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
}
