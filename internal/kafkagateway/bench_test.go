package kafkagateway_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testcluster"
)

// BenchmarkRecords is what a record of 1 KiB costs, directly and through a gateway:
// cluster, gateway and client share the process and its cores.
func BenchmarkRecords(b *testing.B) {
	c := testcluster.Start(b, 3, nil)
	addr, _ := gateway(b, c, nil)
	adm := kadm.NewClient(c.Client())
	for _, way := range []struct {
		name   string
		client func(...kgo.Opt) *kgo.Client
	}{
		{"direct", func(opts ...kgo.Opt) *kgo.Client { return c.Client(opts...) }},
		{"gateway", func(opts ...kgo.Opt) *kgo.Client { return through(b, addr, opts...) }},
	} {
		topic := way.name
		if _, err := adm.CreateTopic(b.Context(), 6, 3, nil, topic); err != nil {
			b.Fatal(err)
		}
		led(b, adm, topic, 6)
		written := 0
		b.Run("produce/"+way.name, func(b *testing.B) {
			client := way.client()
			value := make([]byte, 1<<10)
			b.SetBytes(1 << 10)
			for b.Loop() {
				written++
				r := &kgo.Record{Topic: topic, Key: fmt.Append(nil, written%97), Value: value}
				client.Produce(b.Context(), r, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
					}
				})
			}
			if err := client.Flush(context.WithoutCancel(b.Context())); err != nil {
				b.Fatal(err)
			}
		})
		b.Run("fetch/"+way.name, func(b *testing.B) {
			b.SetBytes(1 << 10)
			client := way.client(kgo.ConsumeTopics(topic))
			left := 0
			for n := 0; b.Loop(); n++ {
				for left == 0 {
					if n > 0 && n%written == 0 { // from the beginning again
						client.Close()
						client = way.client(kgo.ConsumeTopics(topic))
						n++
					}
					fs := client.PollFetches(b.Context())
					if err := fs.Err(); err != nil {
						b.Fatal(err)
					}
					left = fs.NumRecords()
				}
				left--
			}
		})
	}
}
