package httpgateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/httpgateway"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// proxy starts what `raftsman gateway` has on its HTTP address.
func proxy(t *testing.T, seed string) string {
	t.Helper()
	p, err := httpgateway.NewProxy(httpgateway.ProxyOptions{
		Seeds: func(context.Context) ([]string, error) { return []string{seed}, nil }, Logger: testcluster.Logger("proxy"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := gateway.New(gateway.Options{Listener: ln, ClusterJSON: p.ClusterJSON, API: p.Handler(), APIPaths: httpgateway.ProxyPaths()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	for _, run := range []func(context.Context) error{p.Run, srv.Run} {
		go func() { done <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	testetcd.Eventually(t, "the proxy to find a node", func() bool { return p.Ready() == nil })
	return ln.Addr().String()
}

// proxied: through a proxy that knows one node at first everything works, and goes on
// when that node has gone.
func proxied(t *testing.T, c *testcluster.Cluster, node int32) {
	addr := proxy(t, c.Member(node).Node.HTTPAddr())
	for topic, opt := range map[string]connect.ClientOption{"proxied-grpc": connect.WithGRPC(), "proxied-json": connect.WithProtoJSON()} {
		cl := dial(t, addr, opt)
		create(t, cl, topic, 2)
		produce(t, cl, topic, 0, "a", "b")
		produce(t, cl, topic, 1, "c")
		want(t, "through the proxy", consume(t, cl, &v1.ConsumeRequest{Topic: topic, UntilEnd: true}), "a", "b", "c")
	}
	described(t, addr)
	for path, says := range map[string]string{"/cluster.json": `"nodes"`, "/nodes": `"alive"`, "/health.json": `"findings"`} {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), says) {
			t.Errorf("%s: %d %.200s, %v", path, resp.StatusCode, body, err)
		}
	}
	for name, value := range map[string]string{"Host": "evil.example", "Origin": "https://evil.example"} {
		if status, _, body := post(t, addr, "TopicService/DeleteTopic", `{"name":"orders"}`, name, value); status != 403 {
			t.Errorf("%s %s: %d %s", name, value, status, body)
		}
	}
	if status, _, body := post(t, addr, "TopicService/ListTopics", `{}`, "Origin", "http://"+addr); status != 200 {
		t.Errorf("the proxy's own page: %d %s", status, body)
	}
	if status, _, body := post(t, addr, "TopicService/ListTopics", `{}`, httpgateway.HeaderHops, "2"); status != 503 {
		t.Errorf("after two hops: %d %s", status, body)
	}
	c.Stop(node)
	for range 4 { // each of the others in turn
		if status, header, body := post(t, addr, "RecordService/Produce", `{"topic":"orders","records":[{}]}`); status != 200 || header.Get(httpgateway.HeaderAnswered) == "" {
			t.Errorf("without node %d: %d %s", node, status, body)
		}
	}
	c.Restart(node)
}
