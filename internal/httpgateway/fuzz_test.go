package httpgateway

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
	"github.com/raftsman/raftsman/internal/kafka"
)

// lonely is a node whose Kafka server takes no connection and that knows one topic,
// which nobody leads.
type lonely struct{ gateway.Operator }

func (lonely) View() *cluster.View            { return &cluster.View{} }
func (lonely) Snapshot() health.Snapshot      { return health.Snapshot{View: &cluster.View{}} }
func (lonely) Health() health.Report          { return health.Report{} }
func (lonely) NodeID() int32                  { return 1 }
func (lonely) ClusterID() string              { return "c" }
func (lonely) Topics() []kafka.TopicInfo      { return []kafka.TopicInfo{aTopic} }
func (lonely) Peer(int32) Peer                { return Peer{} }
func (lonely) TopicsChanged() <-chan struct{} { return nil }

var aTopic = kafka.TopicInfo{Name: "t", ID: [16]byte{1}, Partitions: []kafka.PartitionInfo{{Index: 0, Leader: -1}, {Index: 1, Leader: -1}}}

func (lonely) Topic(name string) (kafka.TopicInfo, bool) { return aTopic, name == "t" }

func (lonely) Connect() net.Conn {
	near, far := net.Pipe()
	far.Close()
	return near
}

// complaints fails the test that runs for what is logged as a bug.
type complaints struct{ now **testing.T }

// Enabled implements slog.Handler.
func (c complaints) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (c complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c complaints) WithGroup(string) slog.Handler { return c }

// Handle implements slog.Handler.
func (c complaints) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "BUG") {
		r.Attrs(func(a slog.Attr) bool {
			(*c.now).Errorf("%s: %s", r.Message, a)
			return true
		})
	}
	return nil
}

// FuzzRequest sends what somebody hostile may send: no panic, no answer that says
// that it was one, and an end in time.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ path, kind, body string }{
		{"/raftsman.v1.RecordService/Produce", "application/json", `{"topic":"t","partition":1,"records":[{"valueText":"x","headers":[{"key":"a"}]}],"producer":{"id":"1"}}`},
		{"/raftsman.v1.RecordService/Produce", "application/json", `{"topic":"t","records":[{"time":"9999-12-31T23:59:59Z"},null]}`},
		{"/raftsman.v1.RecordService/Fetch", "application/json", `{"topic":"t","position":{"offsets":{"offsets":{"1":"5","0":"-1"}}},"maxWait":"0.01s"}`},
		{"/raftsman.v1.RecordService/Fetch", "application/json", `{"topic":"t","position":{"group":{"group":"g"}}}`},
		{"/raftsman.v1.RecordService/Consume", "application/connect+json", "\x00\x00\x00\x00\x22" + `{"topic":"t","position":{"offset":1}}`},
		{"/raftsman.v1.RecordService/Consume", "application/grpc", "\x00\x00\x00\x00\x03\x0a\x01t"},
		{"/raftsman.v1.RecordService/Consume", "application/grpc-web+proto", "\x00\xff\xff\xff\xff\x0a\x01t"},
		{"/raftsman.v1.RecordService/Produce", "application/proto", "\x0a\x01t\x10\x01\x1a\x00\x1a\x02\x1a\x00"},
		{"/raftsman.v1.TopicService/CreateTopic", "application/json", `{"name":"x","partitions":-1}`},
		{"/raftsman.v1.TopicService/AlterTopicConfig", "application/json", `{"name":"t","set":{"a":"b"},"reset":["a"]}`},
		{"/raftsman.v1.TopicService/DeleteRecords", "application/json", `{"topic":"t","before":{"7":"1"}}`},
		{"/raftsman.v1.GroupService/ResetGroup", "application/json", `{"group":"g","topic":"t","edge":"EDGE_END"}`},
		{"/raftsman.v1.GroupService/CommitOffsets", "application/json", `{"group":"g","topic":"t","offsets":{"0":"-5"}}`},
		{"/raftsman.v1.NodeService/DrainNode", "application/json", `{"node":-1}`},
		{"/raftsman.v1.OperationService/GetOperation", "application/json", `{"id":"\u0000"}`},
		{"/grpc.health.v1.Health/Check", "application/grpc", "\x00\x00\x00\x00\x00"},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/grpc", "\x00\x00\x00\x00\x02\x3a\x00"},
	} {
		f.Add(seed.path, seed.kind, []byte(seed.body), "")
	}
	f.Add("/raftsman.v1.TopicService/ListTopics", "", []byte(nil), "encoding=json&message=%7B%7D")
	f.Add("/raftsman.v1.RecordService/Fetch", "", []byte(nil), "connect=v1&encoding=proto&base64=1&message=CgF0&compression=gzip")
	var now *testing.T
	g, err := New(Options{Backend: lonely{}, Kafka: "127.0.0.1:1", Logger: slog.New(complaints{&now}), Limits: Limits{MaxRequestBytes: 64 << 10}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { g.Close() })
	f.Fuzz(func(t *testing.T, path, kind string, body []byte, query string) {
		now = t
		method := http.MethodPost
		if kind == "" {
			method = http.MethodGet
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, method, "http://127.0.0.1/", bytes.NewReader(body))
		r.URL.Path, r.URL.RawQuery = path, query
		r.ProtoMajor, r.ProtoMinor = 2, 0
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, r)
		if strings.Contains(w.Body.String(), "the node has a bug") {
			t.Errorf("%s: %s", path, w.Body)
		}
	})
}
