package kafkagateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// script is a cluster of two nodes with one partition, as far as a producer sees
// it: they take batches in sequence, from whoever has the leader's address.
type script struct {
	t  *testing.T
	ln [2]net.Listener

	mu     sync.Mutex
	leader int32 // 1 or 2
	next   int32 // sequence
	asked  int   // produce requests
	// on is called with each produce request, before it is looked at; false hangs up.
	on func(node int32, asked int) bool
	// led are the leaders of topic t's partitions; nil: leader leads its only one.
	led []int32
	// fetch answers Fetch requests, without s.mu.
	fetch func(node int32, req *kmsg.FetchRequest) *kmsg.FetchResponse
	// before is called with each Produce request, without s.mu.
	before func()
	// coordinator coordinates all groups; it alone answers Heartbeat without an error.
	coordinator int32
	// most is the highest version of Produce that a node takes.
	most func(node int32) int16
	dial func(ctx context.Context, addr string) (net.Conn, error) // the gateway's
}

func newScript(t *testing.T) *script {
	s := &script{
		t: t, leader: 1, coordinator: 1, on: func(int32, int) bool { return true }, before: func() {},
		most: func(int32) int16 { return 9 },
	}
	for i := range s.ln {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.ln[i] = ln
		t.Cleanup(func() { ln.Close() })
	}
	return s
}

// start has the nodes serve; what is set before needs no lock.
func (s *script) start() {
	for i, ln := range s.ln {
		var wg sync.WaitGroup
		s.t.Cleanup(func() {
			ln.Close()
			wg.Wait()
		})
		wg.Go(func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { s.serve(int32(i+1), nc) })
			}
		})
	}
}

func (s *script) serve(node int32, nc net.Conn) {
	defer nc.Close()
	br := bufio.NewReader(nc)
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(br, head); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(br, frame); err != nil {
			return
		}
		req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame)))
		req.SetVersion(int16(binary.BigEndian.Uint16(frame[2:])))
		body := frame[10+binary.BigEndian.Uint16(frame[8:]):]
		if req.IsFlexible() {
			body = body[1:]
		}
		if err := req.ReadFrom(body); err != nil {
			s.t.Error(err)
			return
		}
		resp, ok := s.answer(node, req)
		if !ok {
			return
		}
		resp.SetVersion(req.GetVersion())
		out := append(make([]byte, 4, 64), frame[4:8]...)
		if resp.IsFlexible() && req.Key() != 18 {
			out = append(out, 0)
		}
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

func (s *script) answer(node int32, req kmsg.Request) (kmsg.Response, bool) {
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		resp := kmsg.NewPtrApiVersionsResponse()
		for _, r := range [][3]int16{{0, 0, s.most(node)}, {1, 0, 12}, {3, 0, 12}, {10, 0, 4}, {12, 0, 4}, {18, 0, 3}, {32, 0, 4}} {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: r[0], MinVersion: r[1], MaxVersion: r[2]})
		}
		return resp, true
	case *kmsg.MetadataRequest:
		return s.metadata(req), true
	case *kmsg.DescribeConfigsRequest:
		resp := kmsg.NewPtrDescribeConfigsResponse()
		resp.Resources = make([]kmsg.DescribeConfigsResponseResource, 1)
		if req.Resources[0].ResourceName != strconv.Itoa(int(node)) {
			resp.Resources[0].ErrorCode = kerr.InvalidRequest.Code
		}
		return resp, true
	case *kmsg.FindCoordinatorRequest:
		s.mu.Lock()
		defer s.mu.Unlock()
		resp := kmsg.NewPtrFindCoordinatorResponse()
		resp.NodeID = s.coordinator
		for _, key := range req.CoordinatorKeys {
			resp.Coordinators = append(resp.Coordinators, kmsg.FindCoordinatorResponseCoordinator{Key: key, NodeID: s.coordinator})
		}
		return resp, true
	case *kmsg.HeartbeatRequest:
		s.mu.Lock()
		defer s.mu.Unlock()
		resp := kmsg.NewPtrHeartbeatResponse()
		if node != s.coordinator {
			resp.ErrorCode = kerr.NotCoordinator.Code
		}
		return resp, true
	case *kmsg.ProduceRequest:
		s.before()
		return s.produce(node, req)
	case *kmsg.FetchRequest:
		return s.fetch(node, req), true
	}
	s.t.Errorf("unexpected %T", req)
	return nil, false
}

func (s *script) metadata(req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := kmsg.NewPtrMetadataResponse()
	resp.ClusterID = kmsg.StringPtr("script")
	for i, ln := range s.ln {
		host, port, _ := net.SplitHostPort(ln.Addr().String())
		n, _ := strconv.Atoi(port)
		resp.Brokers = append(resp.Brokers, kmsg.MetadataResponseBroker{NodeID: int32(i + 1), Host: host, Port: int32(n)})
	}
	for range req.Topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.TopicID = kmsg.StringPtr("t"), [16]byte{1}
		rt.Partitions = []kmsg.MetadataResponseTopicPartition{{Leader: s.leader, LeaderEpoch: s.leader}}
		for i, node := range s.led {
			rt.Partitions = append(rt.Partitions[:i], kmsg.MetadataResponseTopicPartition{Partition: int32(i), Leader: node, LeaderEpoch: 1})
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *script) produce(node int32, req *kmsg.ProduceRequest) (kmsg.Response, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if !s.on(node, s.asked) {
		return nil, false
	}
	p := req.Topics[0].Partitions[0]
	rp := kmsg.NewProduceResponseTopicPartition()
	sequence := int32(binary.BigEndian.Uint32(p.Records[53:]))
	switch {
	case node != s.leader:
		rp.ErrorCode = kerr.NotLeaderForPartition.Code
	case int64(binary.BigEndian.Uint64(p.Records[producerIDAt:])) < 0, sequence == s.next:
		rp.BaseOffset = int64(s.next)
		s.next++
	case sequence > s.next:
		rp.ErrorCode = kerr.OutOfOrderSequenceNumber.Code
	default:
		rp.BaseOffset = int64(sequence) // it has that already
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.Topics = []kmsg.ProduceResponseTopic{{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{rp}}}
	return resp, true
}

// producer is a client's connection to a gateway in front of a script.
type producer struct {
	t  *testing.T
	g  *Gateway
	nc net.Conn
	br *bufio.Reader
}

func (s *script) producer() *producer {
	s.t.Helper()
	g, addr := s.gateway()
	testetcd.Eventually(s.t, "both nodes", func() bool { return len(g.view.up()) == 2 })
	return s.connect(g, addr)
}

// gateway starts the nodes, and a gateway in front of them.
func (s *script) gateway() (g *Gateway, addr string) {
	s.t.Helper()
	s.start()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	g, err = New(Options{
		Listeners: []kafka.Listener{{Name: "gateway", Net: ln, Advertised: ln.Addr().String()}}, Logger: slog.New(slog.DiscardHandler),
		Seeds: func(context.Context) ([]string, error) { return []string{s.ln[0].Addr().String()}, nil },
		Dial:  s.dial,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	return g, ln.Addr().String()
}

func (s *script) connect(g *Gateway, addr string) *producer {
	s.t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	return &producer{s.t, g, nc, bufio.NewReader(nc)}
}

// ask sends a request and waits for its answer.
func (p *producer) ask(req kmsg.Request) kmsg.Response {
	p.t.Helper()
	resp, err := p.try(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

func (p *producer) try(req kmsg.Request) (kmsg.Response, error) {
	if _, err := p.nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, 1)); err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(p.br, head); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(p.br, frame); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	_, body, err := kafka.SplitAnswer(frame, resp.IsFlexible() && req.Key() != 18)
	if err != nil {
		return nil, err
	}
	return resp, resp.ReadFrom(body)
}

// send sends a batch and does not wait.
func (p *producer) send(id int64, sequence int32) {
	p.t.Helper()
	b := make([]byte, 70)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[batchMagicAt] = 2
	binary.BigEndian.PutUint64(b[producerIDAt:], uint64(id))
	binary.BigEndian.PutUint32(b[53:], uint32(sequence))
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 20_000
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = b
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{rp}}}
	if _, err := p.nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, sequence)); err != nil {
		p.t.Fatal(err)
	}
}

// receive waits for the next answer.
func (p *producer) receive() (correlation int32, offset int64, code int16) {
	p.t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(p.br, head); err != nil {
		p.t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(p.br, frame); err != nil {
		p.t.Fatal(err)
	}
	correlation, body, err := kafka.SplitAnswer(frame, true)
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = 9
	if err == nil {
		err = kafka.DecodeAnswer(resp, body)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	r := resp.Topics[0].Partitions[0]
	return correlation, r.BaseOffset, r.ErrorCode
}

// Batches of an idempotent producer that are in flight when the leader moves, or
// dies, or both, are written once and in order, and the client sees no error.
func TestOrderSurvivesLeaders(t *testing.T) {
	for _, c := range []struct {
		name string
		on   func(s *script) func(node int32, asked int) bool
	}{
		{"moves", func(s *script) func(int32, int) bool {
			return func(_ int32, asked int) bool {
				if asked%7 == 0 {
					s.leader = 3 - s.leader
				}
				return true
			}
		}},
		{"hangs up", func(*script) func(int32, int) bool {
			return func(_ int32, asked int) bool { return asked%11 != 0 }
		}},
		{"moves and hangs up", func(s *script) func(int32, int) bool {
			return func(_ int32, asked int) bool {
				if asked%9 == 0 {
					s.leader = 3 - s.leader
				}
				return asked%13 != 0
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t)
			s.mu.Lock()
			s.on = c.on(s)
			s.mu.Unlock()
			p := s.producer()
			const n, flight = 200, 5
			for i := range int32(n) {
				p.send(7, i)
				if i < flight-1 {
					continue
				}
				want := i - flight + 1
				if at, offset, code := p.receive(); code != 0 || at != want || offset != int64(want) {
					t.Fatalf("batch %d: answer to %d, offset %d, %v", want, at, offset, kerr.ErrorForCode(code))
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.next < n-flight {
				t.Errorf("%d of %d batches are written", s.next, n)
			}
		})
	}
}

// A batch without a producer id is not written twice: when nobody knows what became
// of it the client is told so.
func TestInDoubtOnce(t *testing.T) {
	s := newScript(t)
	s.mu.Lock()
	s.on = func(_ int32, asked int) bool {
		if asked == 1 {
			s.next++ // it is written, and the answer is lost
			return false
		}
		return true
	}
	s.mu.Unlock()
	p := s.producer()
	p.send(-1, 0)
	if _, _, code := p.receive(); code != kerr.RequestTimedOut.Code {
		t.Errorf("%v", kerr.ErrorForCode(code))
	}
	p.send(-1, 1)
	if _, offset, code := p.receive(); code != 0 || offset != 1 {
		t.Errorf("offset %d, %v", offset, kerr.ErrorForCode(code))
	}
}
