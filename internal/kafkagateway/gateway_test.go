package kafkagateway_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// led waits until all partitions of a topic have leaders.
func led(t testing.TB, adm *kadm.Client, topic string, n int) {
	t.Helper()
	testetcd.Eventually(t, "the partitions to be led", func() bool {
		ts, err := adm.ListTopics(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ts[topic].Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
		return len(ts[topic].Partitions) == n
	})
}

// A client of a gateway sees one broker, and everything it writes to partitions of
// all nodes comes back, in order.
func TestOneBroker(t *testing.T) {
	c := testcluster.Start(t, 3, nil)
	addr, _ := gateway(t, c, nil)
	client := through(t, addr)
	adm := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 6, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	led(t, adm, "t", 6)
	m, err := adm.Metadata(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	if ids := m.Brokers.NodeIDs(); !slices.Equal(ids, []int32{0}) || m.Controller != 0 {
		t.Errorf("brokers %v, controller %d", ids, m.Controller)
	}
	for _, p := range m.Topics["t"].Partitions {
		if p.Leader != 0 || !slices.Equal(p.Replicas, []int32{0}) || !slices.Equal(p.ISR, []int32{0}) {
			t.Errorf("%+v", p)
		}
	}
	const n = 3000
	for i := range n {
		client.Produce(ctx, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i%50), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	reader := through(t, addr, kgo.ConsumeTopics("t"))
	last := make(map[string]int)
	for got := 0; got < n; {
		fs := reader.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(got, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			var i int
			fmt.Sscan(string(r.Value), &i)
			if before, seen := last[string(r.Key)]; seen && i <= before {
				t.Errorf("key %s: %d after %d", r.Key, i, before)
			}
			last[string(r.Key)] = i
			got++
		})
	}
	ends, err := adm.ListEndOffsets(ctx, "t")
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	if err != nil || sum != n {
		t.Errorf("ends sum up to %d, %v", sum, err)
	}
}

// A group of consumers divides a topic among itself and commits through a gateway.
func TestGroup(t *testing.T) {
	c := testcluster.Start(t, 3, nil)
	addr, _ := gateway(t, c, nil)
	client := through(t, addr)
	adm := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 4, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	const n = 500
	for i := range n {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	a := through(t, addr, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit())
	b := through(t, addr, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit())
	seen := make(map[string]bool)
	for len(seen) < n {
		for _, one := range []*kgo.Client{a, b} {
			pctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			fs := one.PollFetches(pctx)
			cancel()
			fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
			if err := one.CommitUncommittedOffsets(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if ctx.Err() != nil {
			t.Fatal(len(seen), ctx.Err())
		}
	}
	// One of the two can have read everything before the other one joined.
	testetcd.Eventually(t, "both members to have their share", func() bool {
		groups, err := adm.DescribeGroups(ctx, "g")
		return err == nil && groups["g"].Err == nil && groups["g"].State == "Stable" && len(groups["g"].Members) == 2
	})
	listed, err := adm.ListGroups(ctx)
	if err != nil || len(listed) != 1 {
		t.Errorf("%+v, %v", listed, err)
	}
	offsets := adm.FetchManyOffsets(ctx, "g", "other")["g"]
	if offsets.Err != nil || len(offsets.Fetched["t"]) != 4 {
		t.Errorf("%+v", offsets)
	}
	a.Close()
	b.Close()
	testetcd.Eventually(t, "the group to be empty", func() bool {
		deleted, err := adm.DeleteGroups(ctx, "g")
		return err == nil && deleted["g"].Err == nil
	})
}

// Requests about brokers, partitions and configurations reach whom they are about.
func TestAdministration(t *testing.T) {
	c := testcluster.Start(t, 3, nil)
	addr, _ := gateway(t, c, nil)
	client := through(t, addr)
	adm := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 3, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	led(t, adm, "t", 3)
	for i := range 30 {
		r := &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: make([]byte, 1000)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	resp, err := dirs.RequestWith(ctx, client)
	replicas := 0
	for _, d := range resp.Dirs {
		for _, rt := range d.Topics {
			if rt.Topic == "t" {
				replicas += len(rt.Partitions)
			}
		}
	}
	if err != nil || len(resp.Dirs) != 3 || replicas != 9 {
		t.Errorf("%d directories with %d replicas, %v", len(resp.Dirs), replicas, err)
	}
	producers, err := adm.DescribeProducers(ctx, nil)
	known := 0
	for _, p := range producers["t"].Partitions {
		known += len(p.ActiveProducers)
	}
	if err != nil || known == 0 {
		t.Errorf("%d producers, %v", known, err)
	}
	var at kadm.Offsets
	for p := range int32(3) {
		at.Add(kadm.Offset{Topic: "t", Partition: p, At: 2})
	}
	deleted, err := adm.DeleteRecords(ctx, at)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Errorf("%+v, %v", deleted, err)
	}
	starts, err := adm.ListStartOffsets(ctx, "t")
	starts.Each(func(o kadm.ListedOffset) {
		if o.Offset != 2 || o.Err != nil {
			t.Errorf("%+v", o)
		}
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"0", "2", ""} {
		req := kmsg.NewPtrDescribeConfigsRequest()
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, name
		req.Resources = append(req.Resources, r)
		raw, err := client.Broker(0).Request(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if told := raw.(*kmsg.DescribeConfigsResponse).Resources[0]; told.ErrorCode != 0 || told.ResourceName != name {
			t.Errorf("broker %q: %+v", name, told)
		}
	}
	moved, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kmsg.StringPtr("123456")}}, "t")
	if err != nil || moved[0].Err != nil {
		t.Errorf("%+v, %v", moved, err)
	}
	if dels, err := adm.DeleteTopics(ctx, "t"); err != nil || dels["t"].Err != nil {
		t.Errorf("%+v, %v", dels, err)
	}
}

// A node's own gateway reaches all nodes, also without that node's Kafka listener
// being the leader of anything.
func TestOnANode(t *testing.T) {
	c := testcluster.Start(t, 3, func(cfg *node.Config) { cfg.KafkaGatewayAddr = "127.0.0.1:0" })
	client := through(t, c.Member(2).Node.KafkaGatewayAddr())
	adm := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	testetcd.Eventually(t, "the topic", func() bool {
		made, err := adm.CreateTopic(ctx, 6, 3, nil, "t")
		return err == nil && made.Err == nil
	})
	led(t, adm, "t", 6)
	for i := range 60 {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	reader := through(t, c.Member(3).Node.KafkaGatewayAddr(), kgo.ConsumeTopics("t"))
	for got := 0; got < 60; {
		fs := reader.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		got += fs.NumRecords()
	}
	reader.Close()
	client.Close()
}
