package testcluster

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// fetchAt is one fetch of partition 0 from a node.
func fetchAt(t *testing.T, client *kgo.Client, node int32, topic string, offset int64) kmsg.FetchResponseTopicPartition {
	t.Helper()
	meta, err := kadm.NewClient(client).Metadata(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes = 1 << 30
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, meta.Topics[topic].ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, 1<<30
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), client.Broker(int(node)))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0]
}

// TestReadBeforeDamage: a fetch whose range holds a damaged batch is answered with
// the batches before it; one that begins there is KAFKA_STORAGE_ERROR, and one
// behind it is fine.
func TestReadBeforeDamage(t *testing.T) {
	c := Start(t, 1, func(cfg *node.Config) {
		cfg.WAL = node.WAL{FileSize: 1 << 20, SizeLimit: 8 << 20}
		cfg.SegmentBytes = 1 << 20
	})
	client := c.Client(kgo.ProducerBatchMaxBytes(80 << 10)) // a record each
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "v"); err != nil {
		t.Fatal(err)
	}
	fill(t, client, "v", 0, 60)
	testetcd.Eventually(t, "sealed segments", func() bool { return len(c.logFiles(1)) > 2 })
	c.Stop(1)
	name := c.logFiles(1)[0]
	whole := []byte(fileBytes(t, name))
	ends := []int64{0} // of batches
	for rest := whole; len(rest) > 0; rest = whole[ends[len(ends)-1]:] {
		ends = append(ends, ends[len(ends)-1]+12+int64(binary.BigEndian.Uint32(rest[8:])))
	}
	const bad = 5
	flipBit(t, name, ends[bad]+1000, 3)
	c.Restart(1)
	testetcd.Eventually(t, "a leader", func() bool { return leaderOf(c, client, "v") == 1 })
	if got := fetchAt(t, client, 1, "v", 0); got.ErrorCode != 0 || !bytes.Equal(got.RecordBatches, whole[:ends[bad]]) {
		t.Errorf("from the start: code %d, %d bytes, the damaged batch begins at %d", got.ErrorCode, len(got.RecordBatches), ends[bad])
	}
	if got := fetchAt(t, client, 1, "v", bad); got.ErrorCode != kerr.KafkaStorageError.Code || len(got.RecordBatches) > 0 {
		t.Errorf("from the damage: code %d, %d bytes", got.ErrorCode, len(got.RecordBatches))
	}
	if got := fetchAt(t, client, 1, "v", bad+1); got.ErrorCode != 0 || !bytes.Equal(got.RecordBatches, whole[ends[bad+1]:]) {
		t.Errorf("from behind it: code %d, %d bytes", got.ErrorCode, len(got.RecordBatches))
	}
}
