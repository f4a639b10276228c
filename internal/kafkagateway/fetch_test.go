package kafkagateway

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
)

// fetched is an answer with one partition.
func fetched(partition int32, code int16, records []byte) *kmsg.FetchResponse {
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = partition, code, 100, 100, 0
	p.PreferredReadReplica, p.RecordBatches = -1, records
	t := kmsg.NewFetchResponseTopic()
	t.Topic, t.Partitions = "t", []kmsg.FetchResponseTopicPartition{p}
	resp := kmsg.NewPtrFetchResponse()
	resp.Topics = []kmsg.FetchResponseTopic{t}
	return resp
}

// consume sends a Fetch for partitions 0 and 1 of topic t, and waits for the answer.
func (p *producer) consume(wait time.Duration, offsets ...int64) []kmsg.FetchResponseTopicPartition {
	p.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.ReplicaID = 12, int32(wait/time.Millisecond), 1, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = "t"
	for i, offset := range offsets {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(i), offset, 1<<20
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = []kmsg.FetchRequestTopic{t}
	if _, err := p.nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, 1)); err != nil {
		p.t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(p.br, head); err != nil {
		p.t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(p.br, frame); err != nil {
		p.t.Fatal(err)
	}
	_, body, err := kafka.SplitAnswer(frame, true)
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 12
	if err == nil {
		err = kafka.DecodeAnswer(resp, body)
	}
	if err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != len(offsets) {
		p.t.Fatalf("%+v, %v", resp, err)
	}
	return resp.Topics[0].Partitions
}

// A fetch of two nodes' partitions is answered when the first has something. What
// the other one was asked stays asked, and is in a later answer, once.
func TestFetchWaitsAtAllNodes(t *testing.T) {
	s := newScript(t)
	late := make(chan struct{})
	var asked atomic.Int32 // of node 2
	s.mu.Lock()
	s.led = []int32{1, 2}
	s.fetch = func(node int32, req *kmsg.FetchRequest) *kmsg.FetchResponse {
		if node == 1 {
			return fetched(0, 0, []byte("first"))
		}
		asked.Add(1)
		<-late
		return fetched(1, 0, []byte("second"))
	}
	s.mu.Unlock()
	p := s.producer()
	for i := range int64(3) {
		got := p.consume(30*time.Second, i, 7)
		if string(got[0].RecordBatches) != "first" || len(got[1].RecordBatches) != 0 || got[1].ErrorCode != 0 {
			t.Fatalf("%+v", got)
		}
	}
	close(late)
	got := p.consume(30*time.Second, 3, 7)
	for n := 0; len(got[1].RecordBatches) == 0; n++ {
		if n == 1000 {
			t.Fatal("node 2's records don't come")
		}
		got = p.consume(30*time.Second, 3, 7)
	}
	if string(got[1].RecordBatches) != "second" || asked.Load() != 1 {
		t.Errorf("%q after %d requests", got[1].RecordBatches, asked.Load())
	}
}

// A partition whose leader has moved is asked for at the next one in the same
// request, and a large answer passes as it is.
func TestFetchFollowsLeader(t *testing.T) {
	s := newScript(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 200<<10)
	s.mu.Lock()
	s.led = []int32{1}
	s.fetch = func(node int32, req *kmsg.FetchRequest) *kmsg.FetchResponse {
		s.mu.Lock()
		defer s.mu.Unlock()
		if node != 2 {
			s.led = []int32{2}
			return fetched(0, kerr.NotLeaderForPartition.Code, nil)
		}
		return fetched(0, 0, large)
	}
	s.mu.Unlock()
	p := s.producer()
	for range 3 {
		if got := p.consume(20*time.Second, 5); got[0].ErrorCode != 0 || !bytes.Equal(got[0].RecordBatches, large) {
			t.Fatalf("%d bytes, %v", len(got[0].RecordBatches), kerr.ErrorForCode(got[0].ErrorCode))
		}
	}
}

// A fetch that finds nothing is answered when its time is over, with the offsets
// that the nodes have told.
func TestFetchFindsNothing(t *testing.T) {
	s := newScript(t)
	s.mu.Lock()
	s.led = []int32{1, 2}
	s.fetch = func(node int32, req *kmsg.FetchRequest) *kmsg.FetchResponse { return fetched(node-1, 0, nil) }
	s.mu.Unlock()
	p := s.producer()
	got := p.consume(50*time.Millisecond, 100, 100)
	for _, r := range got {
		if r.ErrorCode != 0 || r.HighWatermark != 100 || len(r.RecordBatches) != 0 {
			t.Errorf("%+v", r)
		}
	}
}

// A partition comes to a node that is being asked for another one: that node is asked
// for both, once, not for each in turn.
func TestFetchOfOneMore(t *testing.T) {
	s := newScript(t)
	moved, end := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32 // of node 1
	s.mu.Lock()
	s.led = []int32{1, 2}
	s.fetch = func(node int32, req *kmsg.FetchRequest) *kmsg.FetchResponse {
		if node == 2 {
			for asked.Load() == 0 {
				runtime.Gosched() // node 1 is being asked
			}
			s.mu.Lock()
			s.led = []int32{1, 1}
			s.mu.Unlock()
			close(moved)
			return fetched(1, kerr.NotLeaderForPartition.Code, nil)
		}
		asked.Add(1)
		if parts := req.Topics[0].Partitions; len(parts) == 2 {
			resp := fetched(0, 0, nil)
			resp.Topics[0].Partitions = append(resp.Topics[0].Partitions, fetched(1, 0, []byte("both")).Topics[0].Partitions...)
			<-moved
			return resp
		}
		<-end
		return fetched(0, 0, nil)
	}
	s.mu.Unlock()
	p := s.producer()
	got := p.consume(20*time.Second, 7, 7)
	close(end)
	if string(got[1].RecordBatches) != "both" || asked.Load() != 2 {
		t.Errorf("%q after %d requests", got[1].RecordBatches, asked.Load())
	}
}

// opOf is a fetch under way, by hand.
func opOf(parts ...*fetchPart) *fetchOp {
	return &fetchOp{parts: parts, prompt: true, req: &kmsg.FetchRequest{MaxBytes: 10}}
}

// A fetch that does not wait is answered when something has come, and neither what
// does not fit nor a partition without a leader can change that.
func TestPromptFetchLeaves(t *testing.T) {
	big := &standing{state: landed, size: 20}
	here := &fetchPart{answer: new(kmsg.FetchResponseTopicPartition)}
	for _, c := range []struct {
		name  string
		parts []*fetchPart
		total int
		want  bool
	}{
		{"it does not fit", []*fetchPart{here, {asked: big}}, 5, true},
		{"no leader", []*fetchPart{here, {err: kerr.LeaderNotAvailable}}, 5, true},
		{"no leader, and nothing", []*fetchPart{here, {err: kerr.LeaderNotAvailable}}, 0, false},
		{"another node is being asked", []*fetchPart{here, {asked: new(standing)}}, 5, false},
		{"unknown", []*fetchPart{{err: kerr.UnknownTopicOrPartition}}, 0, true},
	} {
		op := opOf(c.parts...)
		op.total = c.total
		if got := op.ready(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// An answer that a fetch has looked at and not taken is let go after a while, if the
// client does not come back.
func TestAnswerIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := 0
		resp := fetched(0, 0, make([]byte, 100))
		resp.Version = 12
		st := &standing{bell: make(chan struct{}, 1)}
		st.land(12, resp.AppendTo(nil), func() { released++ }, nil)
		if st.err != nil || !st.adopt(make(chan struct{}, 1)) {
			t.Fatal(st.err)
		}
		time.Sleep(2 * keepAnswer)
		if state, _ := st.look(); state != landed {
			t.Fatal("it was let go while a fetch had it")
		}
		st.keep()
		time.Sleep(2 * keepAnswer)
		synctest.Wait()
		if state, _ := st.look(); state == landed || released == 0 {
			t.Errorf("state %d, released %d times", state, released)
		}
	})
}
