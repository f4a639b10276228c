package agent

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// franz is github.com/twmb/franz-go.
var franz = Client{
	"produce":           franzProduce,
	"consume":           franzConsume,
	"offset_at":         franzOffsetAt,
	"load":              franzLoad,
	"member":            franzMember,
	"create_topic":      franzAdmin(franzCreateTopic),
	"describe_topic":    franzAdmin(franzDescribeTopic),
	"create_partitions": franzAdmin(franzCreatePartitions),
	"delete_topic":      franzAdmin(franzDeleteTopic),
	"describe_config":   franzAdmin(franzDescribeConfig),
	"alter_config":      franzAdmin(franzAlterConfig),
	"delete_records":    franzAdmin(franzDeleteRecords),
	"list_groups":       franzAdmin(franzListGroups),
	"describe_group":    franzAdmin(franzDescribeGroup),
	"delete_group":      franzAdmin(franzDeleteGroup),
}

func franzProducer(j Job) (*kgo.Client, error) {
	codecs := map[string]kgo.CompressionCodec{
		"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(j.Brokers...), kgo.DefaultProduceTopic(j.Topic), kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchCompression(codecs[j.Codec]), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}
	if !j.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if j.MaxBytes > 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(int32(j.MaxBytes)))
	}
	return kgo.NewClient(opts...)
}

func franzProduce(ctx context.Context, j Job, _ Emit) (Event, error) {
	cl, err := franzProducer(j)
	if err != nil {
		return Event{}, err
	}
	defer cl.Close()
	var records []*kgo.Record
	for _, r := range j.Records {
		out := &kgo.Record{Partition: j.Partition, Key: r.Key, Value: r.Value}
		if r.Time != 0 {
			out.Timestamp = time.UnixMilli(r.Time)
		}
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		records = append(records, out)
	}
	return Event{}, cl.ProduceSync(ctx, records...).FirstErr()
}

func franzRecord(r *kgo.Record) Record {
	out := Record{Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp.UnixMilli()}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return out
}

func franzConsume(ctx context.Context, j Job, _ Emit) (Event, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		j.Topic: {j.Partition: kgo.NewOffset().At(j.Offset)},
	}))
	if err != nil {
		return Event{}, err
	}
	defer cl.Close()
	var e Event
	for len(e.Records) < j.Count {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return e, err
		}
		fetches.EachRecord(func(r *kgo.Record) { e.Records = append(e.Records, franzRecord(r)) })
	}
	return e, nil
}

func franzLoad(ctx context.Context, j Job, emit Emit) (Event, error) {
	j.Idempotent = true
	cl, err := franzProducer(j)
	if err != nil {
		return Event{}, err
	}
	defer cl.Close()
	failed := firstError{}
	paced(ctx, j, func(n int, r Record) error {
		cl.Produce(context.Background(), &kgo.Record{Partition: r.Partition, Value: r.Value}, func(_ *kgo.Record, err error) {
			failed.set(err)
			if err == nil {
				emit(Event{Kind: "acked", Numbers: []int{n}})
			}
		})
		return failed.get()
	})
	failed.set(cl.Flush(context.Background()))
	return Event{}, failed.get()
}

func franzMember(ctx context.Context, j Job, emit Emit) (Event, error) {
	balancer := kgo.GroupBalancer(kgo.RangeBalancer())
	if j.Assignor == "cooperative" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	assigned := func(ctx context.Context, cl *kgo.Client, parts map[string][]int32) {
		emit(Event{Kind: "assigned", Count: int64(len(parts[j.Topic]))})
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(j.Brokers...), kgo.ConsumerGroup(j.Group), kgo.ConsumeTopics(j.Topic),
		kgo.DisableAutoCommit(), kgo.Balancers(balancer), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(j.session()), kgo.HeartbeatInterval(j.heartbeat()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.OnPartitionsAssigned(assigned),
	}
	if j.Instance != "" {
		opts = append(opts, kgo.InstanceID(j.Instance))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return Event{}, err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fetches := cl.PollRecords(ctx, 200)
		var e Event
		fetches.EachRecord(func(r *kgo.Record) { e.Records = append(e.Records, franzRecord(r)) })
		if len(e.Records) > 0 {
			e.Kind = "records"
			emit(e)
			if err := cl.CommitRecords(context.Background(), fetches.Records()...); err == nil {
				emit(Event{Kind: "committed", Offsets: nextOffsets(e.Records)})
			}
		}
		cl.AllowRebalance()
	}
	if j.Instance != "" {
		return Event{}, nil // a static member keeps its place
	}
	return Event{}, cl.LeaveGroupContext(context.Background())
}
