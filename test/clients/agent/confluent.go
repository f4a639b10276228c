package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// confluent is github.com/confluentinc/confluent-kafka-go with the librdkafka
// that it brings along.
var confluent = Client{
	"produce":           confluentProduce,
	"consume":           confluentConsume,
	"offset_at":         confluentOffsetAt,
	"load":              confluentLoad,
	"member":            confluentMember,
	"create_topic":      confluentAdmin(confluentCreateTopic),
	"describe_topic":    confluentAdmin(confluentDescribeTopic),
	"create_partitions": confluentAdmin(confluentCreatePartitions),
	"delete_topic":      confluentAdmin(confluentDeleteTopic),
	"describe_config":   confluentAdmin(confluentDescribeConfig),
	"alter_config":      confluentAdmin(confluentAlterConfig),
	"delete_records":    confluentAdmin(confluentDeleteRecords),
	"list_groups":       confluentAdmin(confluentListGroups),
	"describe_group":    confluentAdmin(confluentDescribeGroup),
	"delete_group":      confluentAdmin(confluentDeleteGroup),
}

func confluentConfig(j Job, more kafka.ConfigMap) *kafka.ConfigMap {
	c := kafka.ConfigMap{"bootstrap.servers": strings.Join(j.Brokers, ",")}
	for k, v := range more {
		c[k] = v
	}
	return &c
}

func confluentProducer(j Job) (*kafka.Producer, error) {
	more := kafka.ConfigMap{"linger.ms": 5, "enable.idempotence": j.Idempotent, "acks": "all"}
	if j.Codec != "" {
		more["compression.type"] = j.Codec
	}
	if j.MaxBytes > 0 {
		more["message.max.bytes"] = j.MaxBytes
	}
	return kafka.NewProducer(confluentConfig(j, more))
}

func confluentMessage(j Job, r Record) *kafka.Message {
	m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &j.Topic, Partition: r.Partition}, Key: r.Key, Value: r.Value}
	if r.Time != 0 {
		m.Timestamp = time.UnixMilli(r.Time)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	return m
}

func confluentProduce(_ context.Context, j Job, _ Emit) (Event, error) {
	p, err := confluentProducer(j)
	if err != nil {
		return Event{}, err
	}
	defer p.Close()
	reports := make(chan kafka.Event, len(j.Records))
	for _, r := range j.Records {
		r.Partition = j.Partition
		if err := p.Produce(confluentMessage(j, r), reports); err != nil {
			return Event{}, err
		}
	}
	for range j.Records {
		if m := (<-reports).(*kafka.Message); m.TopicPartition.Error != nil {
			return Event{}, m.TopicPartition.Error
		}
	}
	return Event{}, nil
}

func confluentRecord(m *kafka.Message) Record {
	r := Record{
		Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
		Key: m.Key, Value: m.Value, Time: m.Timestamp.UnixMilli(),
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return r
}

func confluentConsume(ctx context.Context, j Job, _ Emit) (Event, error) {
	c, err := kafka.NewConsumer(confluentConfig(j, kafka.ConfigMap{"group.id": "unused", "enable.auto.commit": false}))
	if err != nil {
		return Event{}, err
	}
	defer c.Close()
	if err := c.Assign([]kafka.TopicPartition{{Topic: &j.Topic, Partition: j.Partition, Offset: kafka.Offset(j.Offset)}}); err != nil {
		return Event{}, err
	}
	var e Event
	for len(e.Records) < j.Count && ctx.Err() == nil {
		m, err := c.ReadMessage(100 * time.Millisecond)
		if err == nil {
			e.Records = append(e.Records, confluentRecord(m))
		} else if !err.(kafka.Error).IsTimeout() {
			return e, err
		}
	}
	return e, ctx.Err()
}

func confluentOffsetAt(_ context.Context, j Job, _ Emit) (Event, error) {
	c, err := kafka.NewConsumer(confluentConfig(j, kafka.ConfigMap{"group.id": "unused"}))
	if err != nil {
		return Event{}, err
	}
	defer c.Close()
	if j.Time < 0 {
		low, high, err := c.QueryWatermarkOffsets(j.Topic, j.Partition, 10000)
		return Event{Count: map[int64]int64{-1: high, -2: low}[j.Time]}, err
	}
	got, err := c.OffsetsForTimes([]kafka.TopicPartition{{Topic: &j.Topic, Partition: j.Partition, Offset: kafka.Offset(j.Time)}}, 10000)
	if err != nil || len(got) != 1 {
		return Event{}, fmt.Errorf("%v: %w", got, err)
	}
	return Event{Count: int64(got[0].Offset)}, got[0].Error
}

func confluentLoad(ctx context.Context, j Job, emit Emit) (Event, error) {
	j.Idempotent = true
	p, err := confluentProducer(j)
	if err != nil {
		return Event{}, err
	}
	defer p.Close()
	var failed firstError
	go func() {
		for e := range p.Events() {
			if m, ok := e.(*kafka.Message); ok {
				failed.set(m.TopicPartition.Error)
				if m.TopicPartition.Error == nil {
					emit(Event{Kind: "acked", Numbers: []int{m.Opaque.(int)}})
				}
			}
		}
	}()
	paced(ctx, j, func(n int, r Record) error {
		m := confluentMessage(j, r)
		m.Opaque = n
		failed.set(p.Produce(m, nil))
		return failed.get()
	})
	if left := p.Flush(60000); left > 0 {
		failed.set(fmt.Errorf("%d records were not flushed", left))
	}
	return Event{}, failed.get()
}

func confluentMember(ctx context.Context, j Job, emit Emit) (Event, error) {
	more := kafka.ConfigMap{
		"group.id": j.Group, "enable.auto.commit": false, "auto.offset.reset": "earliest",
		"partition.assignment.strategy": "range", "session.timeout.ms": j.Session,
		"heartbeat.interval.ms": j.Session / 6,
	}
	if j.Assignor == "cooperative" {
		more["partition.assignment.strategy"] = "cooperative-sticky"
	}
	if j.Instance != "" {
		more["group.instance.id"] = j.Instance
	}
	c, err := kafka.NewConsumer(confluentConfig(j, more))
	if err != nil {
		return Event{}, err
	}
	err = c.Subscribe(j.Topic, func(_ *kafka.Consumer, ev kafka.Event) error {
		if a, ok := ev.(kafka.AssignedPartitions); ok {
			emit(Event{Kind: "assigned", Count: int64(len(a.Partitions))})
		}
		return nil
	})
	if err != nil {
		return Event{}, err
	}
	for ctx.Err() == nil {
		m, err := c.ReadMessage(100 * time.Millisecond)
		if err != nil {
			if !err.(kafka.Error).IsTimeout() {
				emit(Event{Kind: "trouble", Error: err.Error()})
			}
			continue
		}
		r := confluentRecord(m)
		emit(Event{Kind: "records", Records: []Record{r}})
		if _, err := c.CommitMessage(m); err == nil {
			emit(Event{Kind: "committed", Offsets: nextOffsets([]Record{r})})
		}
	}
	return Event{}, c.Close()
}
