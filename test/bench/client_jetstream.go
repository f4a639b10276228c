package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jsClient is nats.go: partition i is the stream Si with the one subject s.i. Offsets are the
// stream's sequence numbers. Servers are named 1, 2, 3.
type jsClient struct {
	addrs []string
	nc    *nats.Conn
	js    jetstream.JetStream
}

func streamName(partition int) string { return "S" + strconv.Itoa(partition) }
func subject(partition int) string    { return "s." + strconv.Itoa(partition) }

// dial connects to a server, and to the next one if that is gone.
func (c *jsClient) dial(first int, opts ...jetstream.JetStreamOpt) (*nats.Conn, jetstream.JetStream, error) {
	var urls []string
	for i := range c.addrs {
		urls = append(urls, "nats://"+c.addrs[(first+i)%len(c.addrs)])
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.DontRandomize(), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", urls[0], err)
	}
	js, err := jetstream.New(nc, append(opts, jetstream.WithPublishAsyncMaxPending(1<<20),
		jetstream.WithDefaultTimeout(30*time.Second))...) // of questions whose context has none
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

func (c *jsClient) close() { c.nc.Close() }

func (c *jsClient) create(ctx context.Context, partitions int, retain int64) error {
	parts := make(chan int)
	errs := make(chan error, partitions)
	var wg sync.WaitGroup
	for range min(16, partitions) {
		wg.Go(func() {
			for p := range parts {
				_, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: streamName(p), Subjects: []string{subject(p)},
					Storage: jetstream.FileStorage, Replicas: len(c.addrs), MaxBytes: max(1<<20, retain/int64(partitions))})
				if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
					errs <- fmt.Errorf("create stream %d: %w", p, err)
				}
			}
		})
	}
	for p := range partitions {
		parts <- p
	}
	close(parts)
	wg.Wait()
	close(errs)
	return <-errs
}

func (c *jsClient) leaders(ctx context.Context) ([]int, error) {
	list := c.js.ListStreams(ctx)
	var leaders []int
	found := 0
	for info := range list.Info() {
		p, err := strconv.Atoi(strings.TrimPrefix(info.Config.Name, "S"))
		if err != nil {
			return nil, fmt.Errorf("stream %s is none of ours", info.Config.Name)
		}
		leader, err := leaderOf(info, len(c.addrs))
		if err != nil {
			return nil, fmt.Errorf("stream %d: %w", p, err)
		}
		for len(leaders) <= p {
			leaders = append(leaders, -1)
		}
		leaders[p] = leader
		found++
	}
	if found != len(leaders) {
		return nil, fmt.Errorf("of %d streams %d answer", len(leaders), found)
	}
	return leaders, list.Err()
}

func leaderOf(info *jetstream.StreamInfo, nodes int) (int, error) {
	ci := info.Cluster
	if ci == nil || ci.Leader == "" || len(ci.Replicas) != nodes-1 {
		return 0, errors.New("no leader, or not all replicas")
	}
	for _, r := range ci.Replicas {
		if !r.Current || r.Offline {
			return 0, fmt.Errorf("replica %s is behind", r.Name)
		}
	}
	n, err := strconv.Atoi(ci.Leader)
	if err != nil || n < 1 || n > nodes {
		return 0, fmt.Errorf("leader %q is no node of ours", ci.Leader)
	}
	return n - 1, nil
}

// leader returns who leads one partition, or node 0 while nobody is known to.
func (c *jsClient) leader(ctx context.Context, partition int) (int, error) {
	s, err := c.js.Stream(ctx, streamName(partition))
	if err != nil {
		return 0, err
	}
	if leader, err := leaderOf(s.CachedInfo(), len(c.addrs)); err == nil {
		return leader, nil
	}
	return 0, nil
}

func (c *jsClient) offsets(ctx context.Context, partition int) (start, end int64, err error) {
	s, err := c.js.Stream(ctx, streamName(partition))
	if err != nil {
		return 0, 0, err
	}
	state := s.CachedInfo().State
	end = int64(state.LastSeq) + 1
	if state.Msgs == 0 {
		return end, end, nil
	}
	return int64(state.FirstSeq), end, nil
}

// A jsProducer has a connection to each leader of its partitions, as Kafka's clients have.
type jsProducer struct {
	conns map[int]*nats.Conn // by node
	js    map[int]jetstream.JetStream
	to    map[int]jetstream.JetStream // by partition
	how   producing

	mu  sync.Mutex
	out map[*nats.Msg]*message // on their way
}

// ackTimeout is when nats.go gives up on an acknowledgement that may be lost: by default never.
const ackTimeout = 500 * time.Millisecond

func (c *jsClient) producer(ctx context.Context, how producing) (producer, error) {
	p := &jsProducer{conns: make(map[int]*nats.Conn), js: make(map[int]jetstream.JetStream),
		to: make(map[int]jetstream.JetStream), how: how, out: make(map[*nats.Msg]*message)}
	all, err := c.leaders(ctx)
	if err != nil {
		return nil, err
	}
	for _, part := range how.partitions {
		if err := p.connect(c, all[part]); err != nil {
			p.close()
			return nil, err
		}
		p.to[part] = p.js[all[part]]
	}
	return p, nil
}

func (p *jsProducer) connect(c *jsClient, node int) (err error) {
	if p.conns[node] != nil {
		return nil
	}
	opts := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, msg *nats.Msg, ack *jetstream.PubAck) {
			p.finish(msg, int64(ack.Sequence), nil)
		}),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, msg *nats.Msg, err error) {
			p.finish(msg, -1, err)
		}),
	}
	if p.how.lossy {
		opts = append(opts, jetstream.WithPublishAsyncTimeout(ackTimeout))
	}
	p.conns[node], p.js[node], err = c.dial(node, opts...)
	return err
}

func (p *jsProducer) finish(msg *nats.Msg, offset int64, err error) {
	p.mu.Lock()
	m := p.out[msg]
	delete(p.out, msg)
	p.mu.Unlock()
	if m != nil {
		m.offset, m.err = offset, err
		p.how.done(m)
	}
}

func (p *jsProducer) send(m *message) {
	msg := &nats.Msg{Subject: subject(m.partition), Data: m.value}
	p.mu.Lock()
	p.out[msg] = m
	p.mu.Unlock()
	if _, err := p.to[m.partition].PublishMsgAsync(msg); err != nil {
		p.finish(msg, -1, err)
	}
}

func (p *jsProducer) close() {
	for _, nc := range p.conns {
		nc.Close()
	}
}

func (c *jsClient) consume(ctx context.Context, partition int, how consuming, f func(offset int64, value []byte) bool) error {
	leader, err := c.leader(ctx, partition)
	if err != nil {
		return err
	}
	nc, js, err := c.dial(leader)
	if err != nil {
		return err
	}
	defer nc.Close()
	from := jetstream.DeliverAllPolicy
	if how.tail {
		from = jetstream.DeliverNewPolicy
	}
	consumer, err := js.OrderedConsumer(ctx, streamName(partition), jetstream.OrderedConsumerConfig{DeliverPolicy: from})
	if err != nil {
		return fmt.Errorf("read partition %d: %w", partition, err)
	}
	over := make(chan error, 1)
	running, err := consumer.Consume(readWith(how, f, over), jetstream.PullMaxMessages(8192))
	if err != nil {
		return fmt.Errorf("read partition %d: %w", partition, err)
	}
	defer func() {
		running.Stop()
		<-running.Closed() // f is called no more
	}()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return nil
	}
}

// readWith hands messages to f, and tells over when f has had enough.
func readWith(how consuming, f func(offset int64, value []byte) bool, over chan<- error) jetstream.MessageHandler {
	enough := false
	return func(m jetstream.Msg) {
		if enough {
			return
		}
		offset := int64(-1)
		var err error
		if how.offsets {
			var meta *jetstream.MsgMetadata
			if meta, err = m.Metadata(); err == nil {
				offset = int64(meta.Sequence.Stream)
			}
		}
		if err != nil || !f(offset, m.Data()) {
			enough = true
			over <- err
		}
	}
}
