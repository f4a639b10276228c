package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestDivert: what waits for a commit on a partition that is led elsewhere by now
// is answered with its leader; the commit that comes late all the same answers
// nothing a second time, and what is led here still waits.
func TestDivert(t *testing.T) {
	r := newRig(t, nil)
	r.back.mustCreate("t", 2)
	for i := range 2 {
		r.back.part("t", i).setHold()
	}
	r.back.mu.Lock()
	r.back.brokers = append(r.back.brokers, Broker{ID: 2, Host: "127.0.0.1", Port: 9999})
	r.back.mu.Unlock()
	c := r.dial()
	req := produceReq("t", [16]byte{}, 0, -1, testBatch(100))
	two := kmsg.NewProduceRequestTopicPartition()
	two.Partition, two.Records = 1, testBatch(100)
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, two)
	id := c.send(req, 10)
	eventually(t, "both batches to wait", func() bool { return r.back.part("t", 0).heldCount() == 1 && r.back.part("t", 1).heldCount() == 1 })
	r.back.setLeader("t", 0, 2, 7)
	elsewhere := func(topic string, index int32) bool { return topic == "t" && index == 0 }
	r.srv.Divert(elsewhere)
	r.srv.Divert(elsewhere)
	r.back.part("t", 0).commit()
	r.back.part("t", 1).commit()
	resp, _ := c.receive(req, id)
	parts := resp.(*kmsg.ProduceResponse).Topics[0].Partitions
	if parts[0].ErrorCode != kerr.NotLeaderForPartition.Code || parts[0].CurrentLeader.LeaderID != 2 || parts[0].CurrentLeader.LeaderEpoch != 7 {
		t.Errorf("the diverted partition is answered with %+v", parts[0])
	}
	if parts[1].ErrorCode != 0 || parts[1].BaseOffset != 0 {
		t.Errorf("the other partition is answered with %+v", parts[1])
	}
}
