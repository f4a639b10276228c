package httpgateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/api/raftsman/v1/raftsmanv1connect"
	"github.com/raftsman/raftsman/internal/httpgateway"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// h2c is a client that speaks HTTP/2 without TLS, as gRPC's do.
func h2c(t testing.TB) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// clients are the generated ones of one node.
type clients struct {
	raftsmanv1connect.RecordServiceClient
	raftsmanv1connect.TopicServiceClient
	raftsmanv1connect.GroupServiceClient
	raftsmanv1connect.ClusterServiceClient
	raftsmanv1connect.NodeServiceClient
	raftsmanv1connect.OperationServiceClient
}

func dial(t testing.TB, addr string, opts ...connect.ClientOption) clients {
	t.Helper()
	c, url := h2c(t), "http://"+addr
	return clients{
		raftsmanv1connect.NewRecordServiceClient(c, url, opts...), raftsmanv1connect.NewTopicServiceClient(c, url, opts...),
		raftsmanv1connect.NewGroupServiceClient(c, url, opts...), raftsmanv1connect.NewClusterServiceClient(c, url, opts...),
		raftsmanv1connect.NewNodeServiceClient(c, url, opts...), raftsmanv1connect.NewOperationServiceClient(c, url, opts...),
	}
}

// post sends JSON as curl does, and returns the status, headers and body.
func post(t testing.TB, addr, method, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/raftsman.v1."+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// outside is a node without a replica of a topic.
func outside(t testing.TB, c clients, topic string, nodes int32) int32 {
	t.Helper()
	found := int32(0)
	testetcd.Eventually(t, "all partitions to have leaders", func() bool {
		d, err := c.DescribeTopic(context.Background(), connect.NewRequest(&v1.DescribeTopicRequest{Name: topic}))
		if err != nil || d.Msg.Topic.Leaderless > 0 || d.Msg.Topic.UnderReplicated > 0 {
			return false
		}
		for id := int32(1); id <= nodes; id++ {
			if !slices.ContainsFunc(d.Msg.Partitions, func(p *v1.PartitionDetail) bool { return slices.Contains(p.Replicas, id) }) {
				found = id
			}
		}
		return true
	})
	if found == 0 {
		t.Fatalf("all nodes have replicas of %s", topic)
	}
	return found
}

func TestGateway(t *testing.T) {
	c := testcluster.Start(t, 4, nil)
	first := dial(t, c.Member(1).Node.HTTPAddr())
	ctx := t.Context()
	created, err := first.CreateTopic(ctx, connect.NewRequest(&v1.CreateTopicRequest{Name: "orders", Partitions: 1, ReplicationFactor: 3, Configs: map[string]string{"retention.ms": "3600000"}}))
	if err != nil {
		t.Fatal(err)
	}
	if created.Msg.TopicId == "" || created.Msg.ReplicationFactor != 3 {
		t.Errorf("created %v", created.Msg)
	}
	away := outside(t, first, "orders", 4)
	addr := c.Member(away).Node.HTTPAddr()
	t.Logf("node %d has no replica", away)

	t.Run("JSON", func(t *testing.T) {
		status, header, body := post(t, addr, "RecordService/Produce", `{"topic":"orders","records":[{"keyText":"a","valueText":"one"},{"value":"dHdv","headers":[{"key":"h","value":"eA=="}]}]}`)
		if status != 200 || header.Get(httpgateway.HeaderAnswered) == "" || header.Get(httpgateway.HeaderAnswered) == fmt.Sprint(away) {
			t.Fatalf("%d %v %s", status, header, body)
		}
		var written struct{ Written []struct{ Offset string } }
		if err := json.Unmarshal([]byte(body), &written); err != nil || len(written.Written) != 2 || written.Written[1].Offset != "1" {
			t.Errorf("%v: %s", err, body)
		}
		status, header, body = post(t, addr, "RecordService/Fetch", `{"topic":"orders","text":true}`)
		if status != 200 || header.Get(httpgateway.HeaderAnswered) == "" || header.Get(httpgateway.HeaderAnswered) == fmt.Sprint(away) {
			t.Fatalf("%d %v %s", status, header, body)
		}
		for _, want := range []string{`"keyText":"a"`, `"valueText":"one"`, `"valueText":"two"`, `"key":"h"`, `"next":{"0":"2"}`, `"ends":{"0":"2"}`} {
			if !strings.Contains(strings.ReplaceAll(body, " ", ""), want) {
				t.Errorf("no %s in %s", want, body)
			}
		}
	})
	t.Run("Protocols", func(t *testing.T) {
		for _, p := range []struct {
			name string
			opts []connect.ClientOption
		}{{"connect", nil}, {"grpc", []connect.ClientOption{connect.WithGRPC()}}, {"grpc-web", []connect.ClientOption{connect.WithGRPCWeb()}}, {"json", []connect.ClientOption{connect.WithProtoJSON()}}} {
			cl := dial(t, addr, p.opts...)
			resp, err := cl.Produce(ctx, connect.NewRequest(&v1.ProduceRequest{Topic: "orders", Records: []*v1.Record{{Value: []byte(p.name)}}, Compression: v1.Compression_COMPRESSION_ZSTD}))
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			stream, err := cl.Consume(ctx, connect.NewRequest(&v1.ConsumeRequest{
				Topic: "orders", Position: &v1.Position{From: &v1.Position_Offset{Offset: resp.Msg.Written[0].Offset}}, MaxRecords: 1,
			}))
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			var got []string
			for stream.Receive() {
				for _, r := range stream.Msg().Records {
					got = append(got, string(r.Value))
				}
			}
			if err := stream.Err(); err != nil || !slices.Equal(got, []string{p.name}) {
				t.Errorf("%s: consumed %q, %v", p.name, got, err)
			}
			if stream.ResponseHeader().Get(httpgateway.HeaderAnswered) == "" {
				t.Errorf("%s: nobody says that it answered", p.name)
			}
		}
	})
	t.Run("Wait", func(t *testing.T) {
		cl := dial(t, addr)
		resp, err := cl.Fetch(ctx, connect.NewRequest(&v1.FetchRequest{
			Topic: "orders", Position: &v1.Position{From: &v1.Position_Edge{Edge: v1.Edge_EDGE_END}}, MaxWait: durationpb.New(50 * time.Millisecond),
		}))
		if err != nil || len(resp.Msg.Records) != 0 || resp.Msg.Next[0] != 6 {
			t.Errorf("%v, %v", resp, err)
		}
	})
	t.Run("Positions", func(t *testing.T) { positions(t, dial(t, addr)) })
	t.Run("Topics", func(t *testing.T) { topics(t, dial(t, addr)) })
	t.Run("Groups", func(t *testing.T) { groups(t, dial(t, addr)) })
	t.Run("Cluster", func(t *testing.T) { operators(t, dial(t, addr), away) })
	t.Run("Retries", func(t *testing.T) { sendTwice(t, dial(t, addr)) })
	t.Run("Refusals", func(t *testing.T) { refusals(t, addr) })
	t.Run("ReflectionAndHealth", func(t *testing.T) { described(t, addr) })
	t.Run("Proxy", func(t *testing.T) { proxied(t, c, away) })
	t.Run("InTurn", func(t *testing.T) {
		by := make(map[string]int)
		for range 9 {
			resp, err := dial(t, addr).Fetch(ctx, connect.NewRequest(&v1.FetchRequest{Topic: "orders", MaxRecords: 1}))
			if err != nil {
				t.Fatal(err)
			}
			by[resp.Header().Get(httpgateway.HeaderAnswered)]++
		}
		if len(by) != 3 {
			t.Errorf("reads were answered by %v, want all three replicas in turn", by)
		}
	})
}
