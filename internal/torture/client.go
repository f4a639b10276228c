package torture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// How long a request may take before its outcome is unknown.
const (
	dialTimeout    = time.Second
	requestTimeout = 3 * time.Second
	pause          = 50 * time.Millisecond // after an error
)

type partition struct {
	topic string
	index int32
}

// leadership is what a partition's metadata says.
type leadership struct {
	node     int32
	epoch    int32
	replicas []int32
}

// client is one client of the cluster, with connections of its own. Its requests are
// sent once: what became of one whose answer is lost is unknown. For one goroutine.
type client struct {
	name    string
	hist    *history.Writer
	kafka   *kgo.Client
	leaders map[partition]leadership
	racks   map[int32]string
}

// options of all Kafka clients. 3.0 is the last version that names topics in Fetch.
func (r *run) options(name string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(r.target.brokers()...), kgo.ClientID("raftsman-torture-" + name), kgo.MaxVersions(kversion.V3_0_0()),
		kgo.Dialer(r.dialer.dial), kgo.RequestTimeoutOverhead(requestTimeout), kgo.RetryTimeout(requestTimeout),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second), kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(int) time.Duration { return pause }),
	}
}

func (r *run) client(name string) (*client, error) {
	k, err := kgo.NewClient(r.options(name)...)
	if err != nil {
		return nil, err
	}
	return &client{name: name, hist: r.hist, kafka: k, leaders: make(map[partition]leadership), racks: make(map[int32]string)}, nil
}

func (c *client) close() { c.kafka.Close() }

// leader says who leads a partition, as far as is known.
func (c *client) leader(ctx context.Context, p partition) (leadership, error) {
	if l, ok := c.leaders[p]; ok {
		return l, nil
	}
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(p.topic)
	req.Topics = append(req.Topics, topic)
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := req.RequestWith(ctx, c.kafka)
	if err != nil {
		return leadership{}, err
	}
	for _, b := range resp.Brokers {
		if b.Rack != nil {
			c.racks[b.NodeID] = *b.Rack
		}
	}
	for _, t := range resp.Topics {
		for _, m := range t.Partitions {
			if t.Topic == nil || *t.Topic != p.topic || m.Partition != p.index || m.Leader < 0 {
				continue
			}
			l := leadership{m.Leader, m.LeaderEpoch, m.Replicas}
			c.leaders[p] = l
			c.hist.Note(history.Event{Op: history.Lead, Client: c.name, Topic: p.topic, Partition: p.index, Node: l.node, Term: int64(l.epoch)})
			return l, nil
		}
	}
	return leadership{}, fmt.Errorf("%s/%d has no leader", p.topic, p.index)
}

// forget has the leader looked up again.
func (c *client) forget(p partition) { delete(c.leaders, p) }

// ask sends a request to one node, once.
func (c *client) ask(ctx context.Context, node int32, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return c.kafka.Broker(int(node)).Request(ctx, req)
}

// refused are answers to an append that can't have had an effect.
var refused = map[int16]bool{
	kerr.CorruptMessage.Code: true, kerr.MessageTooLarge.Code: true, kerr.InvalidRecord.Code: true,
	kerr.UnknownTopicOrPartition.Code: true, kerr.InvalidTimestamp.Code: true, kerr.UnsupportedForMessageFormat.Code: true,
}

// append sends a batch to its partition's leader and says what became of it.
func (c *client) append(ctx context.Context, p partition, acks int16, records []byte) (offset int64, is history.Outcome, err error) {
	l, err := c.leader(ctx, p)
	if err != nil {
		return 0, history.Failed, err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, int32(requestTimeout.Milliseconds())
	topic, part := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	topic.Topic, part.Partition, part.Records = p.topic, p.index, records
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := c.ask(ctx, l.node, req)
	if err != nil {
		c.forget(p)
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return 0, history.Failed, err
		}
		return 0, history.Unknown, err
	}
	resp := answer.(*kmsg.ProduceResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, history.Unknown, errors.New("an answer about other partitions")
	}
	got := resp.Topics[0].Partitions[0]
	switch {
	case got.ErrorCode == 0:
		return got.BaseOffset, history.OK, nil
	case refused[got.ErrorCode]:
		return 0, history.Failed, kerr.ErrorForCode(got.ErrorCode)
	}
	c.forget(p)
	return 0, history.Unknown, kerr.ErrorForCode(got.ErrorCode)
}

// offsets of special times in ListOffsets.
const (
	latest   = -1
	earliest = -2
)

// offset asks a partition's leader for the offset of a time.
func (c *client) offset(ctx context.Context, p partition, millis int64) (int64, error) {
	l, err := c.leader(ctx, p)
	if err != nil {
		return 0, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	topic, part := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	topic.Topic, part.Partition, part.Timestamp, part.CurrentLeaderEpoch = p.topic, p.index, millis, l.epoch
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := c.ask(ctx, l.node, req)
	if err != nil {
		c.forget(p)
		return 0, err
	}
	resp := answer.(*kmsg.ListOffsetsResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errors.New("an answer about other partitions")
	}
	got := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		c.forget(p)
		return 0, err
	}
	return got.Offset, nil
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	return s[:min(len(s), 200)]
}
