package httpgateway

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/kafka"
)

const (
	// HeaderWritten of an error of Produce says whether records may have been written:
	// no or unknown.
	HeaderWritten = "Raftsman-Written"

	maxRecords     = 10_000
	produceTimeout = 20 * time.Second // for all attempts
	attemptTimeout = 10 * time.Second
	lookAgain      = 200 * time.Millisecond // for a leader, when nothing tells of one
)

// records implements the RecordService.
type records struct{ g *Gateway }

// batch is the part of a Produce that goes to one partition.
type batch struct {
	index   int32
	at      []int // of its records in the request
	records []*v1.Record
	stamp   *v1.Producer // nil: it must not be sent twice

	base     int64
	node     int32 // that has appended it
	err      error
	doubtful bool // with err: it may have been written
}

// Produce implements the service.
func (h records) Produce(ctx context.Context, req *connect.Request[v1.ProduceRequest]) (*connect.Response[v1.ProduceResponse], error) {
	ctx, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	info, err := h.g.checkProduce(req.Msg)
	if err != nil {
		return nil, err
	}
	batches := h.g.split(&info, req.Msg)
	h.g.appendAll(ctx, &info, req, batches)
	// A partition may have forgotten a producer of ours; a new one begins anew.
	if lost := slices.Clone(batches); req.Msg.Producer == nil {
		lost = slices.DeleteFunc(lost, func(b *batch) bool { return b.doubtful || !outOfSequence(b.err) })
		h.g.appendAll(ctx, &info, req, lost)
	}
	return produced(req.Msg, batches)
}

// appendAll sends batches to their leaders.
func (g *Gateway) appendAll(ctx context.Context, info *kafka.TopicInfo, req *connect.Request[v1.ProduceRequest], batches []*batch) {
	if len(batches) == 0 {
		return
	}
	done := g.stampAll(ctx, info, req.Msg.Producer, batches)
	defer done()
	var wg sync.WaitGroup
	for _, b := range batches {
		wg.Go(func() { g.append(ctx, hops(req.Header()), info, req.Msg.Compression, b) })
	}
	wg.Wait()
}

// outOfSequence says that a batch was refused for its number, here or by the leader.
func outOfSequence(err error) bool {
	return errors.Is(err, kerr.OutOfOrderSequenceNumber) || final(err) && connect.CodeOf(err) == connect.CodeFailedPrecondition
}

// checkProduce checks a request and fills in times.
func (g *Gateway) checkProduce(msg *v1.ProduceRequest) (kafka.TopicInfo, error) {
	info, err := g.topic(msg.Topic)
	if err != nil {
		return info, err
	}
	if len(msg.Records) == 0 || len(msg.Records) > maxRecords {
		return info, refuse(connect.CodeInvalidArgument, "%d records: send 1 to %d", len(msg.Records), maxRecords)
	}
	if p := msg.Partition; p != nil && (*p < 0 || int(*p) >= len(info.Partitions)) {
		return info, refuse(connect.CodeNotFound, "topic %q has no partition %d, it has %d", msg.Topic, *p, len(info.Partitions))
	}
	if _, known := v1.Compression_name[int32(msg.Compression)]; !known {
		return info, refuse(connect.CodeInvalidArgument, "compression %d is not known", msg.Compression)
	}
	if p := msg.Producer; p != nil {
		switch {
		case msg.Partition == nil:
			return info, refuse(connect.CodeInvalidArgument, "a request with a producer must name its partition: sequence numbers are per partition")
		case p.Id < 0 || p.Epoch < 0 || p.Epoch > 1<<15-1 || p.Sequence < 0:
			return info, refuse(connect.CodeInvalidArgument, "the producer's id, epoch or sequence is out of range: InitProducer hands them out")
		}
	}
	now := timestamppb.Now()
	for i, r := range msg.Records {
		if err := checkRecord(i, r); err != nil {
			return info, err
		}
		if r.Time == nil {
			r.Time = now
		}
	}
	return info, nil
}

// topic finds a topic.
func (g *Gateway) topic(name string) (kafka.TopicInfo, error) {
	info, ok := g.backend.Topic(name)
	if !ok {
		return info, refuse(connect.CodeNotFound, "there is no topic %.250q; TopicService.CreateTopic makes one", name)
	}
	return info, nil
}

// split makes a batch for each partition.
func (g *Gateway) split(info *kafka.TopicInfo, msg *v1.ProduceRequest) []*batch {
	byIndex := make(map[int32]*batch)
	var all []*batch
	keyed := kgo.StickyKeyPartitioner(nil).ForTopic(info.Name)
	keyless := int32(-1)
	for i, r := range msg.Records {
		var index int32
		switch key := keyOf(r); {
		case msg.Partition != nil:
			index = *msg.Partition
		case key != nil:
			index = int32(keyed.Partition(&kgo.Record{Key: key}, len(info.Partitions)))
		default:
			if keyless < 0 {
				keyless = g.anyPartition(info)
			}
			index = keyless
		}
		b := byIndex[index]
		if b == nil {
			b = &batch{index: index, base: -1}
			byIndex[index], all = b, append(all, b)
		}
		b.at, b.records = append(b.at, i), append(b.records, r)
	}
	return all
}

// turns spreads records without a key.
var turns atomic.Uint32

// anyPartition is one that has a leader, if there is one.
func (g *Gateway) anyPartition(info *kafka.TopicInfo) int32 {
	n, first := len(info.Partitions), int(turns.Add(1))
	for i := range n {
		if p := &info.Partitions[(first+i)%n]; p.Leader > 0 && g.backend.Peer(p.Leader).Alive {
			return p.Index
		}
	}
	return int32(first % n)
}

// stampAll gives batches their producer id and numbers. done is called when it is
// known what became of them.
func (g *Gateway) stampAll(ctx context.Context, info *kafka.TopicInfo, own *v1.Producer, batches []*batch) (done func()) {
	if own != nil {
		batches[0].stamp = own
		return func() {}
	}
	p, err := g.producers.borrow(ctx)
	if err != nil {
		g.log.Debug("no producer id for a request: it is sent once", "err", err)
		return func() {}
	}
	for _, b := range batches {
		b.stamp = p.stamp(place{info.ID, b.index}, len(b.records))
	}
	return func() {
		for _, b := range batches {
			switch {
			case b.err == nil:
			case b.doubtful || outOfSequence(b.err):
				p.spent = true
			default:
				p.next[place{info.ID, b.index}] = b.stamp.Sequence // it was not used
			}
		}
		g.producers.giveBack(p)
	}
}

// append sends a batch to its partition's leader until it is known what became of
// it.
func (g *Gateway) append(ctx context.Context, hops int, info *kafka.TopicInfo, c v1.Compression, b *batch) {
	var encoded []byte
	for {
		changed := g.backend.TopicsChanged()
		now, ok := g.backend.Topic(info.Name)
		if !ok || now.ID != info.ID {
			b.fail(refuse(connect.CodeNotFound, "topic %q was deleted meanwhile", info.Name))
			return
		}
		leader, self := now.Partitions[b.index].Leader, g.backend.NodeID()
		var err error
		var doubt bool
		switch {
		case leader == self:
			if encoded == nil {
				encoded = encodeBatch(b.records, c, b.stamp)
			}
			doubt, err = g.appendHere(ctx, info.Name, b, encoded)
		case leader <= 0 || !g.backend.Peer(leader).Alive:
			err = kafkaError(kerr.LeaderNotAvailable.Code, nil)
		case hops >= maxHops:
			b.fail(refuse(connect.CodeUnavailable, "node %d leads %s/%d, not this one, and the request has passed %d nodes already", leader, info.Name, b.index, hops))
			return
		default:
			doubt, err = g.appendThere(ctx, leader, hops, info.Name, c, b)
		}
		b.doubtful = b.doubtful || doubt
		if err == nil {
			b.err, b.doubtful = nil, false
			return
		}
		b.err = err
		if judged(err) || b.doubtful && b.stamp == nil {
			return
		}
		retry := time.NewTimer(lookAgain)
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return
		}
		retry.Stop()
	}
}

func (b *batch) fail(err error) { b.err = err }

// appendHere hands a batch to the own Kafka server.
func (g *Gateway) appendHere(ctx context.Context, topic string, b *batch, encoded []byte) (doubt bool, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, int32(attemptTimeout.Milliseconds())
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = b.index, encoded
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	req.Topics = []kmsg.ProduceRequestTopic{t}
	resp, err := g.asker.ask(ctx, req)
	if err != nil {
		var unsent unsentError
		return !errors.As(err, &unsent), err
	}
	topics := resp.(*kmsg.ProduceResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return true, errors.New("BUG: the answer to a batch is not about one")
	}
	r := &topics[0].Partitions[0]
	if err := kafkaError(r.ErrorCode, r.ErrorMessage); err != nil {
		for _, e := range r.ErrorRecords {
			if e.ErrorMessage != nil && int(e.RelativeOffset) < len(b.at) && e.RelativeOffset >= 0 {
				err = &said{err, "record " + strconv.Itoa(b.at[e.RelativeOffset]) + ": " + *e.ErrorMessage}
				break
			}
		}
		return !judged(err) && !errors.Is(err, kerr.UnknownTopicOrPartition), err
	}
	b.base, b.node = r.BaseOffset, g.backend.NodeID()
	return false, nil
}

// judged says that a request was refused for what it is: nothing was written by this
// attempt, and another one would end the same.
func judged(err error) bool {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return !ke.Retriable || errors.Is(err, kerr.CorruptMessage)
	}
	return final(err)
}

// appendThere sends a batch to the leader's gateway.
func (g *Gateway) appendThere(ctx context.Context, leader int32, hops int, topic string, c v1.Compression, b *batch) (doubt bool, err error) {
	client, err := g.peers.records(leader)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	ctx, stop := g.peers.whileAlive(ctx, leader)
	defer stop()
	ctx, sent := traced(ctx)
	resp, err := client.Produce(ctx, forwarded(&v1.ProduceRequest{Topic: topic, Partition: &b.index, Records: b.records, Compression: c, Producer: b.stamp}, hops))
	if err != nil {
		var e *connect.Error
		if errors.As(err, &e) && e.Meta().Get(HeaderWritten) == "no" {
			return false, err
		}
		return sent.Load() && !final(err), err
	}
	if len(resp.Msg.Written) != len(b.records) {
		return true, errors.New("the leader's answer is not about the records that it was sent")
	}
	b.base, b.node = resp.Msg.Written[0].Offset, leader
	if by, err := strconv.ParseInt(resp.Header().Get(HeaderAnswered), 10, 32); err == nil {
		b.node = int32(by) // it has sent it on
	}
	return false, nil
}

// produced is the answer to a request.
func produced(msg *v1.ProduceRequest, batches []*batch) (*connect.Response[v1.ProduceResponse], error) {
	resp := connect.NewResponse(&v1.ProduceResponse{Written: make([]*v1.Written, len(msg.Records))})
	var failed *batch
	var by []int32
	doubtful, some := false, false
	for _, b := range batches {
		for i, at := range b.at {
			w := &v1.Written{Partition: b.index, Offset: -1}
			if b.err == nil {
				w.Offset = b.base + int64(i)
			}
			resp.Msg.Written[at] = w
		}
		if b.err == nil {
			some = true
			by = append(by, b.node)
			continue
		}
		doubtful = doubtful || b.doubtful
		if failed == nil || b.doubtful && !failed.doubtful {
			failed = b
		}
	}
	resp.Header().Set(HeaderAnswered, nodeList(by))
	if failed == nil {
		return resp, nil
	}
	cause := explained(failed.err)
	err := refuse(cause.Code(), "topic %s, partition %d: nothing was written: %s", msg.Topic, failed.index, cause.Message())
	err.Meta().Set(HeaderWritten, "no")
	if doubtful {
		code := connect.CodeUnavailable
		if cause.Code() == connect.CodeDeadlineExceeded {
			code = cause.Code()
		}
		err = refuse(code, "topic %s, partition %d: it is not known whether the records were written: %s", msg.Topic, failed.index, cause.Message())
	}
	if doubtful || some {
		err.Meta().Set(HeaderWritten, "unknown")
		if detail, derr := connect.NewErrorDetail(resp.Msg); derr == nil {
			err.AddDetail(detail)
		}
	}
	return nil, err
}

// nodeList is what HeaderAnswered has.
func nodeList(nodes []int32) string {
	slices.Sort(nodes)
	var all []string
	for _, n := range slices.Compact(nodes) {
		all = append(all, strconv.Itoa(int(n)))
	}
	return strings.Join(all, ",")
}

// InitProducer implements the service.
func (h records) InitProducer(ctx context.Context, _ *connect.Request[v1.InitProducerRequest]) (*connect.Response[v1.InitProducerResponse], error) {
	p, err := h.g.initProducer(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.InitProducerResponse{Producer: p}), nil
}

func (g *Gateway) initProducer(ctx context.Context) (*v1.Producer, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.ProducerID, req.ProducerEpoch = 4, -1, -1
	resp, err := g.asker.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	r := resp.(*kmsg.InitProducerIDResponse)
	if err := kafkaError(r.ErrorCode, nil); err != nil {
		return nil, err
	}
	return &v1.Producer{Id: r.ProducerID, Epoch: int32(r.ProducerEpoch)}, nil
}
