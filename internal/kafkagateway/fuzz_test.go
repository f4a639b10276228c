package kafkagateway

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Whatever a node answers to a Fetch, it lands once, gives its memory back once, and
// each part of the request finds at most what was said of it.
func FuzzFetchAnswer(f *testing.F) {
	seed := func(version int16) []byte {
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = version
		t := kmsg.NewFetchResponseTopic()
		t.Topic = "t"
		for i := range int32(3) {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.HighWatermark, p.PreferredReadReplica, p.RecordBatches = i, 5, -1, make([]byte, 70*i)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t, t)
		return resp.AppendTo(nil)
	}
	for _, v := range []int16{4, 11, 12, 18} {
		f.Add(v, seed(v), false)
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte, gone bool) {
		if version < 0 || version > 18 {
			return
		}
		released := 0
		st := &standing{bell: make(chan struct{}, 1)}
		if gone {
			st.abandon()
		}
		st.land(version, body, func() { released++ }, nil)
		if !gone && st.claim() && st.err == nil {
			size := 0
			for _, p := range fetchResults(st.resp) {
				size += len(p.RecordBatches)
			}
			if size > st.size || size > len(body) {
				t.Errorf("%d bytes of records in an answer of %d", size, len(body))
			}
		}
		st.release()
		if released != 1 {
			t.Errorf("released %d times", released)
		}
	})
}

// Whatever a node says of topics, the view takes it, and names only nodes that are
// there as leaders.
func FuzzLearn(f *testing.F) {
	f.Add("t", int32(0), int32(1), int32(7), int16(0), int32(0))
	f.Add("t", int32(-5), int32(99), int32(-1), int16(3), int32(1<<30))
	f.Fuzz(func(t *testing.T, name string, index, leader, epoch int32, code int16, ask int32) {
		v := newView(nil)
		v.members[1] = &member{id: 1, up: true}
		v.members[2] = &member{id: 2}
		for range 2 {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch = index, leader, epoch
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.ErrorCode, rt.TopicID = &name, code, [16]byte{1}
			rt.Partitions = append(rt.Partitions, p)
			v.learn([]kmsg.MetadataResponseTopic{rt})
			for _, key := range []topicKey{{name: name}, {id: [16]byte{1}}, {name: "other"}} {
				at := part{key, ask}
				if node, err := v.leader(at); err == nil && node != 1 {
					t.Errorf("node %d leads", node)
				}
				v.suspect(at, leader)
				v.hint(at, leader, epoch)
			}
		}
	})
}
