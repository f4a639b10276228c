package agent

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
)

// saramaClient is github.com/IBM/sarama.
var saramaClient = Client{
	"produce":           saramaProduce,
	"consume":           saramaConsume,
	"offset_at":         saramaOffsetAt,
	"load":              saramaLoad,
	"member":            saramaMember,
	"create_topic":      saramaAdmin(saramaCreateTopic),
	"describe_topic":    saramaAdmin(saramaDescribeTopic),
	"create_partitions": saramaAdmin(saramaCreatePartitions),
	"delete_topic":      saramaAdmin(saramaDeleteTopic),
	"describe_config":   saramaAdmin(saramaDescribeConfig),
	"alter_config":      saramaAdmin(saramaAlterConfig),
	"delete_records":    saramaAdmin(saramaDeleteRecords),
	"list_groups":       saramaAdmin(saramaListGroups),
	"describe_group":    saramaAdmin(saramaDescribeGroup),
	"delete_group":      saramaAdmin(saramaDeleteGroup),
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Retry.Max = 100
	c.Metadata.Retry.Max = 40
	c.Consumer.MaxWaitTime = 50 * time.Millisecond // a commit waits behind a fetch of the same connection
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	return c
}

func saramaProducer(j Job) *sarama.Config {
	c := saramaConfig()
	c.Producer.Compression = map[string]sarama.CompressionCodec{
		"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[j.Codec]
	if j.Idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1 // sarama's condition for idempotence
	}
	if j.MaxBytes > 0 {
		c.Producer.MaxMessageBytes = j.MaxBytes
	}
	return c
}

func saramaMessage(j Job, r Record) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: j.Topic, Partition: r.Partition}
	if r.Key != nil {
		m.Key = sarama.ByteEncoder(r.Key)
	}
	if r.Value != nil {
		m.Value = sarama.ByteEncoder(r.Value)
	}
	if r.Time != 0 {
		m.Timestamp = time.UnixMilli(r.Time)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	return m
}

func saramaProduce(_ context.Context, j Job, _ Emit) (Event, error) {
	p, err := sarama.NewSyncProducer(j.Brokers, saramaProducer(j))
	if err != nil {
		return Event{}, err
	}
	defer p.Close()
	var all []*sarama.ProducerMessage
	for _, r := range j.Records {
		r.Partition = j.Partition
		all = append(all, saramaMessage(j, r))
	}
	err = p.SendMessages(all)
	if many := (sarama.ProducerErrors)(nil); errors.As(err, &many) {
		err = many[0].Err
	}
	return Event{}, err
}

func saramaRecord(m *sarama.ConsumerMessage) Record {
	r := Record{Partition: m.Partition, Offset: m.Offset, Key: m.Key, Value: m.Value, Time: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{Key: string(h.Key), Value: h.Value})
	}
	return r
}

func saramaConsume(ctx context.Context, j Job, _ Emit) (Event, error) {
	c, err := sarama.NewConsumer(j.Brokers, saramaConfig())
	if err != nil {
		return Event{}, err
	}
	defer c.Close()
	pc, err := c.ConsumePartition(j.Topic, j.Partition, j.Offset)
	if err != nil {
		return Event{}, err
	}
	defer pc.Close()
	var e Event
	for len(e.Records) < j.Count {
		select {
		case m := <-pc.Messages():
			e.Records = append(e.Records, saramaRecord(m))
		case <-ctx.Done():
			return e, ctx.Err()
		}
	}
	return e, nil
}

func saramaOffsetAt(_ context.Context, j Job, _ Emit) (Event, error) {
	c, err := sarama.NewClient(j.Brokers, saramaConfig())
	if err != nil {
		return Event{}, err
	}
	defer c.Close()
	o, err := c.GetOffset(j.Topic, j.Partition, j.Time)
	return Event{Count: o}, err
}

func saramaLoad(ctx context.Context, j Job, emit Emit) (Event, error) {
	j.Idempotent = true
	p, err := sarama.NewAsyncProducer(j.Brokers, saramaProducer(j))
	if err != nil {
		return Event{}, err
	}
	var failed firstError
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range p.Successes() {
			emit(Event{Kind: "acked", Numbers: []int{m.Metadata.(int)}})
		}
	}()
	errs := make(chan struct{})
	go func() {
		defer close(errs)
		for e := range p.Errors() {
			failed.set(e.Err)
		}
	}()
	paced(ctx, j, func(n int, r Record) error {
		m := saramaMessage(j, r)
		m.Metadata = n
		p.Input() <- m
		return failed.get()
	})
	p.AsyncClose()
	<-done
	<-errs
	return Event{}, failed.get()
}

// saramaHandler is a member's work in one generation.
type saramaHandler struct{ emit Emit }

func (h saramaHandler) Setup(s sarama.ConsumerGroupSession) error {
	n := 0
	for _, parts := range s.Claims() {
		n += len(parts)
	}
	h.emit(Event{Kind: "assigned", Count: int64(n)})
	return nil
}

func (h saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			r := saramaRecord(m)
			h.emit(Event{Kind: "records", Records: []Record{r}})
			s.MarkMessage(m, "")
			s.Commit()
		case <-s.Context().Done():
			return nil
		}
	}
}

func saramaMember(ctx context.Context, j Job, emit Emit) (Event, error) {
	c := saramaConfig()
	if j.Assignor == "cooperative" {
		return Event{}, ErrNone
	}
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	c.Consumer.Group.Session.Timeout = j.session()
	c.Consumer.Group.Heartbeat.Interval = j.heartbeat()
	c.Consumer.Group.InstanceId = j.Instance
	g, err := sarama.NewConsumerGroup(j.Brokers, j.Group, c)
	if err != nil {
		return Event{}, err
	}
	for ctx.Err() == nil {
		// An error ends the generation; the next call joins again.
		if err := g.Consume(ctx, []string{j.Topic}, saramaHandler{emit}); err != nil && ctx.Err() == nil {
			emit(Event{Kind: "trouble", Error: err.Error()})
			pause(ctx, 200*time.Millisecond)
		}
	}
	return Event{}, g.Close()
}
