package agent

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// segmentio is github.com/segmentio/kafka-go.
var segmentio = Client{
	"produce":           segmentioProduce,
	"consume":           segmentioConsume,
	"offset_at":         segmentioOffsetAt,
	"load":              segmentioLoad,
	"member":            segmentioMember,
	"create_topic":      segmentioAdmin(segmentioCreateTopic),
	"describe_topic":    segmentioAdmin(segmentioDescribeTopic),
	"create_partitions": segmentioAdmin(segmentioCreatePartitions),
	"delete_topic":      segmentioAdmin(segmentioDeleteTopic),
	"describe_config":   segmentioAdmin(segmentioDescribeConfig),
	"alter_config":      segmentioAdmin(segmentioAlterConfig),
	"list_groups":       segmentioAdmin(segmentioListGroups),
	"describe_group":    segmentioAdmin(segmentioDescribeGroup),
	"delete_group":      segmentioAdmin(segmentioDeleteGroup),
}

func segmentioWriter(j Job) (*kafka.Writer, error) {
	if j.Idempotent {
		return nil, ErrNone
	}
	codecs := map[string]kafka.Compression{
		"": 0, "none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
	}
	w := &kafka.Writer{
		Addr: kafka.TCP(j.Brokers...), Topic: j.Topic, RequiredAcks: kafka.RequireAll, Compression: codecs[j.Codec],
		AllowAutoTopicCreation: true, BatchTimeout: 5 * time.Millisecond, MaxAttempts: 40, BatchBytes: int64(j.MaxBytes),
		Balancer: kafka.BalancerFunc(func(m kafka.Message, parts ...int) int {
			if p, ok := m.WriterData.(int32); ok {
				return parts[int(p)%len(parts)]
			}
			return parts[0]
		}),
	}
	return w, nil
}

func segmentioMessage(r Record) kafka.Message {
	m := kafka.Message{Key: r.Key, Value: r.Value, WriterData: r.Partition}
	if r.Time != 0 {
		m.Time = time.UnixMilli(r.Time)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	return m
}

func segmentioProduce(ctx context.Context, j Job, _ Emit) (Event, error) {
	w, err := segmentioWriter(j)
	if err != nil {
		return Event{}, err
	}
	defer w.Close()
	var all []kafka.Message
	for _, r := range j.Records {
		r.Partition = j.Partition
		all = append(all, segmentioMessage(r))
	}
	for {
		// A question about a topic may make it, and is answered that there is none yet:
		// this client wants its caller to ask again.
		err := w.WriteMessages(ctx, all...)
		if !errors.Is(err, kafka.UnknownTopicOrPartition) && !errors.Is(err, kafka.LeaderNotAvailable) {
			return Event{}, err
		}
		select {
		case <-ctx.Done():
			return Event{}, err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func segmentioRecord(m kafka.Message) Record {
	r := Record{Partition: int32(m.Partition), Offset: m.Offset, Key: m.Key, Value: m.Value, Time: m.Time.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return r
}

func segmentioConsume(ctx context.Context, j Job, _ Emit) (Event, error) {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: j.Brokers, Topic: j.Topic, Partition: int(j.Partition), MaxBytes: 8 << 20, MaxWait: 500 * time.Millisecond,
	})
	defer r.Close()
	if err := r.SetOffset(j.Offset); err != nil {
		return Event{}, err
	}
	var e Event
	for len(e.Records) < j.Count {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return e, err
		}
		e.Records = append(e.Records, segmentioRecord(m))
	}
	return e, nil
}

func segmentioOffsetAt(ctx context.Context, j Job, _ Emit) (Event, error) {
	cl := &kafka.Client{Addr: kafka.TCP(j.Brokers...)}
	resp, err := cl.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		j.Topic: {{Partition: int(j.Partition), Timestamp: j.Time}},
	}})
	if err != nil {
		return Event{}, err
	}
	for _, p := range resp.Topics[j.Topic] {
		if p.Error != nil {
			return Event{}, p.Error
		}
		switch j.Time {
		case -1:
			return Event{Count: p.LastOffset}, nil
		case -2:
			return Event{Count: p.FirstOffset}, nil
		}
		for o := range p.Offsets {
			return Event{Count: o}, nil
		}
		return Event{Count: -1}, nil
	}
	return Event{}, errors.New("the partition is not in the answer")
}

// segmentioLoad is not idempotent: kafka-go has no idempotent producer. It
// writes one record after the other, so what is repeated stays in order.
func segmentioLoad(ctx context.Context, j Job, emit Emit) (Event, error) {
	w, err := segmentioWriter(j)
	if err != nil {
		return Event{}, err
	}
	defer w.Close()
	var failed firstError
	paced(ctx, j, func(n int, r Record) error {
		err := w.WriteMessages(context.Background(), segmentioMessage(r))
		failed.set(err)
		if err == nil {
			emit(Event{Kind: "acked", Numbers: []int{n}})
		}
		return err
	})
	return Event{}, failed.get()
}

func segmentioMember(ctx context.Context, j Job, emit Emit) (Event, error) {
	if j.Instance != "" || j.Assignor == "cooperative" {
		return Event{}, ErrNone
	}
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: j.Brokers, Topic: j.Topic, GroupID: j.Group, MaxWait: 500 * time.Millisecond, StartOffset: kafka.FirstOffset,
		GroupBalancers: []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		SessionTimeout: j.session(), HeartbeatInterval: j.heartbeat(), RebalanceTimeout: j.session(),
	})
	for ctx.Err() == nil {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			if ctx.Err() == nil {
				emit(Event{Kind: "trouble", Error: err.Error()})
				pause(ctx, 200*time.Millisecond)
			}
			continue
		}
		rec := segmentioRecord(m)
		emit(Event{Kind: "records", Records: []Record{rec}})
		if err := r.CommitMessages(context.Background(), m); err == nil {
			emit(Event{Kind: "committed", Offsets: nextOffsets([]Record{rec})})
		}
	}
	return Event{}, r.Close()
}
