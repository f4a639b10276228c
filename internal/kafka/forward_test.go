package kafka

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every answer's shape fits what kmsg encodes, and no prefix of it is taken.
func TestAnswerShapesMatchCodec(t *testing.T) {
	for key := range answerShapes {
		most := kmsg.RequestForKey(key).MaxVersion()
		if a := newAPITable(newRig(t, nil).srv).find(key); a != nil {
			most = a.max
		}
		for v := range most + 1 {
			resp := kmsg.ResponseForKey(key)
			fill(reflect.ValueOf(resp).Elem())
			resp.SetVersion(v)
			body := resp.AppendTo(nil)
			w := walker{src: body, version: v, flexible: resp.IsFlexible(), most: maxAnswerElements}
			if w.structure(answerShapes[key]); w.err != nil || len(w.src) != 0 {
				t.Errorf("%s version %d: %d bytes are left, %v", kmsg.NameForKey(key), v, len(w.src), w.err)
				continue
			}
			for n := range body {
				again := kmsg.ResponseForKey(key)
				again.SetVersion(v)
				if DecodeAnswer(again, body[:n:n]) == nil {
					t.Errorf("%s version %d: %d of %d bytes are taken", kmsg.NameForKey(key), v, n, len(body))
					break
				}
			}
			again := kmsg.ResponseForKey(key)
			again.SetVersion(v)
			if err := DecodeAnswer(again, body); err != nil || !bytes.Equal(again.AppendTo(nil), body) {
				t.Errorf("%s version %d: decoded it is another: %v", kmsg.NameForKey(key), v, err)
			}
		}
	}
}

// A Produce frame in pieces is what kmsg would encode.
func TestProduceFrame(t *testing.T) {
	for v := range int16(14) {
		req := kmsg.NewPtrProduceRequest()
		req.Version = v
		req.Acks, req.TimeoutMillis = -1, 1500
		for i := range 3 {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID = "topic", [16]byte{1, byte(i)}
			for j := range 4 {
				rp := kmsg.NewProduceRequestTopicPartition()
				rp.Partition = int32(j)
				if j > 0 {
					rp.Records = bytes.Repeat([]byte{byte(i), byte(j)}, 100*j)
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			req.Topics = append(req.Topics, rt)
		}
		want := kmsg.NewRequestFormatter(kmsg.FormatterClientID("me")).AppendRequest(nil, req, 0)
		if got := bytes.Join(ProduceFrame(req, "me"), nil); !bytes.Equal(got, want) {
			t.Errorf("version %d:\n%x\n%x", v, got, want)
		}
	}
}

// A Fetch answer in pieces is what kmsg would encode, and its records are let go
// once.
func TestReplyFetch(t *testing.T) {
	r := newRig(t, nil)
	for v := int16(4); v <= 18; v++ {
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = v
		for i := range 2 {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = "topic", [16]byte{1, byte(i)}
			for j := range 4 {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset, rp.PreferredReadReplica = int32(j), 9, 8, 7, -1
				rp.RecordBatches = bytes.Repeat([]byte{byte(i), byte(j)}, 100*j)
				if j == 1 {
					rp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 5, FirstOffset: 6}}
				}
				if j == 2 && v >= 12 {
					rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = 3, 44
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		c := newConn(r.srv, Listener{Name: "default"}, sinkConn{}, func() {})
		a := r.srv.apis.find(1)
		x := &exchange{conn: c, api: a, version: v, flexible: a.flexible(v), correlation: 3}
		c.queue.push(x)
		released := 0
		(&Call{x: x}).ReplyFetch(resp, func() { released++ })
		body := bytes.Join(x.out.appendTo(nil), nil)
		_, got, err := SplitAnswer(body[4:], x.flexible)
		if want := resp.AppendTo(nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("version %d: %v\n%x\n%x", v, err, got, want)
		}
		x.giveBack(r.srv.outgoing)
		if used, _ := r.srv.outgoing.inUse(); used != 0 || released != 1 {
			t.Errorf("version %d: released %d times, %d bytes are counted", v, released, used)
		}
	}
}

// Whatever another node answers, decoding it ends, and says no or yes.
func FuzzDecodeAnswer(f *testing.F) {
	for key := range answerShapes {
		resp := kmsg.ResponseForKey(key)
		fill(reflect.ValueOf(resp).Elem())
		resp.SetVersion(0)
		f.Add(key, int16(0), resp.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, key, version int16, frame []byte) {
		if _, known := answerShapes[key]; !known {
			return
		}
		resp := kmsg.ResponseForKey(key)
		if version < 0 || version > resp.MaxVersion() {
			return
		}
		resp.SetVersion(version)
		_, body, err := SplitAnswer(frame, resp.IsFlexible())
		if err == nil {
			_ = DecodeAnswer(resp, body)
		}
	})
}
