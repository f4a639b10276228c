package httpgateway_test

import (
	"testing"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kgo"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/testcluster"
)

// BenchmarkRecords is what a record of 1 KiB costs in requests of 100, one after the
// other: over the Kafka protocol, through the HTTP gateway of the leader, and through
// that of a node that has to send it on. Cluster and client share the process.
func BenchmarkRecords(b *testing.B) {
	const batch = 100
	c := testcluster.Start(b, 4, nil)
	first := dial(b, c.Member(1).Node.HTTPAddr())
	create(b, first, "t", 1)
	away := outside(b, first, "t", 4)
	d, err := first.DescribeTopic(b.Context(), connect.NewRequest(&v1.DescribeTopicRequest{Name: "t"}))
	if err != nil {
		b.Fatal(err)
	}
	leader := d.Msg.Partitions[0].Leader
	value := make([]byte, 1<<10)
	written := int64(0)
	perRecord := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/record")
	}
	b.Run("produce/kafka", func(b *testing.B) {
		client := c.Client(kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
		for b.Loop() {
			records := make([]*kgo.Record, batch)
			for i := range records {
				records[i] = &kgo.Record{Topic: "t", Value: value}
			}
			if err := client.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
				b.Fatal(err)
			}
			written += batch
		}
		perRecord(b)
	})
	ways := []struct {
		name string
		node int32
		opts []connect.ClientOption
	}{
		{"leader/grpc", leader, []connect.ClientOption{connect.WithGRPC()}}, {"leader/json", leader, []connect.ClientOption{connect.WithProtoJSON()}},
		{"forwarded/grpc", away, []connect.ClientOption{connect.WithGRPC()}},
	}
	for _, way := range ways {
		b.Run("produce/"+way.name, func(b *testing.B) {
			cl := dial(b, c.Member(way.node).Node.HTTPAddr(), way.opts...)
			req := &v1.ProduceRequest{Topic: "t"}
			for range batch {
				req.Records = append(req.Records, &v1.Record{Value: value})
			}
			for b.Loop() {
				if _, err := cl.Produce(b.Context(), connect.NewRequest(req)); err != nil {
					b.Fatal(err)
				}
				written += batch
			}
			perRecord(b)
		})
	}
	b.Run("consume/kafka", func(b *testing.B) {
		client := c.Client(kgo.ConsumeTopics("t"))
		left := 0
		for n := int64(0); b.Loop(); n++ {
			for got := 0; got < batch; {
				if left == 0 {
					if n*batch%written < batch && n > 0 { // from the beginning again
						client.Close()
						client = c.Client(kgo.ConsumeTopics("t"))
					}
					left = client.PollFetches(b.Context()).NumRecords()
				}
				take := min(left, batch-got)
				left, got = left-take, got+take
			}
		}
		perRecord(b)
	})
	for _, way := range ways {
		b.Run("consume/"+way.name, func(b *testing.B) {
			cl := dial(b, c.Member(way.node).Node.HTTPAddr(), way.opts...)
			var stream *connect.ServerStreamForClient[v1.ConsumeResponse]
			left := 0
			for b.Loop() {
				for got := 0; got < batch; {
					for left == 0 {
						if stream == nil || !stream.Receive() {
							if stream, err = cl.Consume(b.Context(), connect.NewRequest(&v1.ConsumeRequest{Topic: "t", UntilEnd: true})); err != nil {
								b.Fatal(err)
							}
							continue
						}
						left = len(stream.Msg().Records)
					}
					take := min(left, batch-got)
					left, got = left-take, got+take
				}
			}
			perRecord(b)
		})
	}
}
