package httpgateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/raftsman/raftsman/api/raftsman/v1"
	"github.com/raftsman/raftsman/api/raftsman/v1/raftsmanv1connect"
	"github.com/raftsman/raftsman/internal/httpgateway"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// code is what an error says.
func code(err error) connect.Code { return connect.CodeOf(err) }

// produce writes values and returns where they are.
func produce(t testing.TB, c clients, topic string, partition int32, values ...string) []*v1.Written {
	t.Helper()
	req := &v1.ProduceRequest{Topic: topic, Partition: &partition}
	for _, v := range values {
		req.Records = append(req.Records, &v1.Record{ValueText: &v})
	}
	resp, err := c.Produce(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Msg.Written
}

// consume reads to an end and returns the values.
func consume(t testing.TB, c clients, req *v1.ConsumeRequest) (values []string) {
	t.Helper()
	req.Text = true
	stream, err := c.Consume(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		for _, r := range stream.Msg().Records {
			values = append(values, r.GetValueText())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(values)
	return values
}

func create(t testing.TB, c clients, topic string, partitions int32) {
	t.Helper()
	if _, err := c.CreateTopic(t.Context(), connect.NewRequest(&v1.CreateTopicRequest{Name: topic, Partitions: partitions, ReplicationFactor: 3})); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "leaders of "+topic, func() bool {
		d, err := c.DescribeTopic(context.Background(), connect.NewRequest(&v1.DescribeTopicRequest{Name: topic}))
		return err == nil && d.Msg.Topic.Leaderless == 0
	})
}

func want(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func positions(t *testing.T, c clients) {
	ctx := t.Context()
	create(t, c, "positions", 2)
	produce(t, c, "positions", 0, "a", "b")
	between := time.Now()
	partition := int32(1)
	late := &v1.Record{ValueText: proto.String("late"), Time: timestamppb.New(between.Add(time.Hour))}
	if _, err := c.Produce(ctx, connect.NewRequest(&v1.ProduceRequest{Topic: "positions", Partition: &partition, Records: []*v1.Record{{ValueText: proto.String("c")}, late}})); err != nil {
		t.Fatal(err)
	}
	read := func(p *v1.Position) []string {
		return consume(t, c, &v1.ConsumeRequest{Topic: "positions", Position: p, UntilEnd: true})
	}
	want(t, "from the start", read(nil), "a", "b", "c", "late")
	want(t, "from the end", read(&v1.Position{From: &v1.Position_Edge{Edge: v1.Edge_EDGE_END}}))
	want(t, "from offset 1", read(&v1.Position{From: &v1.Position_Offset{Offset: 1}}), "b", "late")
	want(t, "from offsets", read(&v1.Position{From: &v1.Position_Offsets{Offsets: &v1.Offsets{Offsets: map[int32]int64{0: 2}}}}), "c", "late")
	want(t, "from a time", read(&v1.Position{From: &v1.Position_Time{Time: timestamppb.New(between.Add(time.Minute))}}), "late")
	want(t, "three at most", consume(t, c, &v1.ConsumeRequest{Topic: "positions", Partitions: []int32{0}, MaxRecords: 1}), "a")

	listed, err := c.ListOffsets(ctx, connect.NewRequest(&v1.ListOffsetsRequest{Topic: "positions", Time: timestamppb.New(between.Add(time.Minute))}))
	if err != nil {
		t.Fatal(err)
	}
	if p := listed.Msg.Partitions; len(p) != 2 || p[0].End != 2 || p[0].AtTime != nil || p[1].GetAtTime() != 1 || p[1].AtTime == nil {
		t.Errorf("offsets %v", p)
	}
	_, err = c.Fetch(ctx, connect.NewRequest(&v1.FetchRequest{Topic: "positions", Partitions: []int32{0}, Position: &v1.Position{From: &v1.Position_Offset{Offset: 99}}}))
	if code(err) != connect.CodeOutOfRange {
		t.Errorf("offset 99: %v", err)
	}
	deleted, err := c.DeleteRecords(ctx, connect.NewRequest(&v1.DeleteRecordsRequest{Topic: "positions", Before: map[int32]int64{0: 1}}))
	if err != nil || deleted.Msg.Starts[0] != 1 {
		t.Fatalf("%v, %v", deleted, err)
	}
	want(t, "after a was deleted", read(nil), "b", "c", "late")
}

func topics(t *testing.T, c clients) {
	ctx := t.Context()
	create(t, c, "things", 1)
	if _, err := c.CreateTopic(ctx, connect.NewRequest(&v1.CreateTopicRequest{Name: "things"})); code(err) != connect.CodeAlreadyExists {
		t.Errorf("created twice: %v", err)
	}
	if _, err := c.CreateTopic(ctx, connect.NewRequest(&v1.CreateTopicRequest{Name: "dry", ValidateOnly: true})); err != nil {
		t.Error(err)
	}
	if _, err := c.AlterTopicConfig(ctx, connect.NewRequest(&v1.AlterTopicConfigRequest{Name: "things", Set: map[string]string{"retention.ms": "60000"}})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AlterTopicConfig(ctx, connect.NewRequest(&v1.AlterTopicConfigRequest{Name: "things", Set: map[string]string{"retention.ms": "soon"}})); code(err) != connect.CodeInvalidArgument {
		t.Errorf("retention.ms soon: %v", err)
	}
	if _, err := c.AddPartitions(ctx, connect.NewRequest(&v1.AddPartitionsRequest{Name: "things", Total: 3})); err != nil {
		t.Fatal(err)
	}
	d, err := c.DescribeTopic(ctx, connect.NewRequest(&v1.DescribeTopicRequest{Name: "things"}))
	if err != nil {
		t.Fatal(err)
	}
	set := slices.ContainsFunc(d.Msg.Configs, func(c *v1.TopicConfig) bool { return c.Name == "retention.ms" && c.Value == "60000" && !c.IsDefault })
	if d.Msg.Topic.Partitions != 3 || len(d.Msg.Partitions) != 3 || !set {
		t.Errorf("described %v", d.Msg)
	}
	names := func() (all []string) {
		l, err := c.ListTopics(ctx, connect.NewRequest(&v1.ListTopicsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range l.Msg.Topics {
			all = append(all, topic.Name)
		}
		return all
	}
	if all := names(); !slices.Contains(all, "things") || slices.Contains(all, "dry") {
		t.Errorf("topics %q", all)
	}
	if _, err := c.DeleteTopic(ctx, connect.NewRequest(&v1.DeleteTopicRequest{Name: "things"})); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "the topic to be gone", func() bool { return !slices.Contains(names(), "things") })
	if _, err := c.DescribeTopic(ctx, connect.NewRequest(&v1.DescribeTopicRequest{Name: "things"})); code(err) != connect.CodeNotFound {
		t.Errorf("described after its end: %v", err)
	}
}

func groups(t *testing.T, c clients) {
	ctx := t.Context()
	create(t, c, "work", 1)
	produce(t, c, "work", 0, "1", "2", "3", "4")
	of := func(auto bool) *v1.Position {
		return &v1.Position{From: &v1.Position_Group{Group: &v1.GroupPosition{Group: "g", AutoCommit: auto}}}
	}
	want(t, "the first two", consume(t, c, &v1.ConsumeRequest{Topic: "work", Position: of(true), MaxRecords: 2}), "1", "2")
	want(t, "the rest", consume(t, c, &v1.ConsumeRequest{Topic: "work", Position: of(false), UntilEnd: true}), "3", "4")
	want(t, "the rest, which was not committed", consume(t, c, &v1.ConsumeRequest{Topic: "work", Position: of(false), UntilEnd: true}), "3", "4")
	if _, err := c.CommitOffsets(ctx, connect.NewRequest(&v1.CommitOffsetsRequest{Group: "g", Topic: "work", Offsets: map[int32]int64{0: 3}})); err != nil {
		t.Fatal(err)
	}
	d, err := c.DescribeGroup(ctx, connect.NewRequest(&v1.DescribeGroupRequest{Group: "g"}))
	if err != nil {
		t.Fatal(err)
	}
	if o := d.Msg.Offsets; d.Msg.Group.State != "Empty" || len(o) != 1 || o[0].Committed != 3 || o[0].End != 4 || o[0].Lag != 1 {
		t.Errorf("described %v", d.Msg)
	}
	if r, err := c.ResetGroup(ctx, connect.NewRequest(&v1.ResetGroupRequest{Group: "g", Topic: "work", To: &v1.ResetGroupRequest_Edge{Edge: v1.Edge_EDGE_START}})); err != nil || r.Msg.Offsets[0] != 0 {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := c.ResetGroup(ctx, connect.NewRequest(&v1.ResetGroupRequest{Group: "g", Topic: "work", To: &v1.ResetGroupRequest_Offset{Offset: 5}})); code(err) != connect.CodeOutOfRange {
		t.Errorf("reset behind the end: %v", err)
	}
	want(t, "after the reset", consume(t, c, &v1.ConsumeRequest{Topic: "work", Position: of(false), UntilEnd: true}), "1", "2", "3", "4")
	l, err := c.ListGroups(ctx, connect.NewRequest(&v1.ListGroupsRequest{}))
	if err != nil || !slices.ContainsFunc(l.Msg.Groups, func(g *v1.GroupSummary) bool { return g.Group == "g" }) {
		t.Errorf("groups %v, %v", l, err)
	}
	if _, err := c.DeleteGroup(ctx, connect.NewRequest(&v1.DeleteGroupRequest{Group: "g"})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DescribeGroup(ctx, connect.NewRequest(&v1.DescribeGroupRequest{Group: "g"})); code(err) != connect.CodeNotFound {
		t.Errorf("described after its end: %v", err)
	}
}

func operators(t *testing.T, c clients, node int32) {
	ctx := t.Context()
	s, err := c.GetStatus(ctx, connect.NewRequest(&v1.GetStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if s.Msg.NodesAlive != 4 || s.Msg.Winner == 0 || s.Msg.Topics == 0 || s.Msg.ClusterId == "" || s.Header().Get(httpgateway.HeaderAnswered) != fmt.Sprint(node) {
		t.Errorf("status %v of %v", s.Msg, s.Header())
	}
	drained, err := c.DrainNode(ctx, connect.NewRequest(&v1.DrainNodeRequest{Node: node}))
	if err != nil {
		t.Fatal(err)
	}
	id := drained.Msg.Operation.Id
	state := func() string {
		op, err := c.GetOperation(context.Background(), connect.NewRequest(&v1.GetOperationRequest{Id: id}))
		if err != nil {
			return err.Error()
		}
		return op.Msg.Operation.State
	}
	testetcd.Eventually(t, "the node to be drained", func() bool { return state() == "done" })
	d, err := c.DescribeNode(ctx, connect.NewRequest(&v1.DescribeNodeRequest{Node: node}))
	if err != nil || d.Msg.Node.Wish != "drained" || !d.Msg.Node.Alive {
		t.Errorf("described %v, %v", d, err)
	}
	undrained, err := c.UndrainNode(ctx, connect.NewRequest(&v1.UndrainNodeRequest{Node: node}))
	if err != nil {
		t.Fatal(err)
	}
	id = undrained.Msg.Operation.Id
	testetcd.Eventually(t, "the node to be in service", func() bool { return state() == "done" })
	l, err := c.ListOperations(ctx, connect.NewRequest(&v1.ListOperationsRequest{}))
	if err != nil || len(l.Msg.Operations) < 2 {
		t.Errorf("operations %v, %v", l, err)
	}
	n, err := c.ListNodes(ctx, connect.NewRequest(&v1.ListNodesRequest{}))
	if err != nil || len(n.Msg.Nodes) != 4 {
		t.Errorf("nodes %v, %v", n, err)
	}
	if _, err := c.DecommissionNode(ctx, connect.NewRequest(&v1.DecommissionNodeRequest{Node: 77})); code(err) != connect.CodeNotFound {
		t.Errorf("node 77: %v", err)
	}
}

// sendTwice: a request with a producer counts once.
func sendTwice(t *testing.T, c clients) {
	ctx := t.Context()
	create(t, c, "once", 1)
	p, err := c.InitProducer(ctx, connect.NewRequest(&v1.InitProducerRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	partition := int32(0)
	req := &v1.ProduceRequest{Topic: "once", Partition: &partition, Records: []*v1.Record{{}, {}}, Producer: p.Msg.Producer}
	for range 2 {
		resp, err := c.Produce(ctx, connect.NewRequest(req))
		if err != nil || resp.Msg.Written[0].Offset != 0 || resp.Msg.Written[1].Offset != 1 {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	req.Producer.Sequence = 7
	if _, err := c.Produce(ctx, connect.NewRequest(req)); code(err) != connect.CodeFailedPrecondition {
		t.Errorf("with a hole: %v", err)
	}
	req.Partition = nil
	if _, err := c.Produce(ctx, connect.NewRequest(req)); code(err) != connect.CodeInvalidArgument {
		t.Errorf("without a partition: %v", err)
	}
	// One part of a request fails: which one is said.
	large := &v1.Record{Value: make([]byte, 3<<19)}
	_, err = c.Produce(ctx, connect.NewRequest(&v1.ProduceRequest{Topic: "once", Records: []*v1.Record{large}}))
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeInvalidArgument || e.Meta().Get(httpgateway.HeaderWritten) != "no" || !strings.Contains(e.Message(), "max.message.bytes") {
		t.Errorf("too large: %v", err)
	}
}

func refusals(t *testing.T, addr string) {
	for _, c := range []struct {
		what, method, body string
		header             []string
		status             int
		says               string
	}{
		{"no topic", "RecordService/Produce", `{"topic":"none","records":[{}]}`, nil, 404, "CreateTopic"},
		{"no records", "RecordService/Produce", `{"topic":"orders"}`, nil, 400, "1 to 10000"},
		{"a field that is not known", "RecordService/Produce", `{"topic":"orders","recrods":[{}]}`, nil, 400, "recrods"},
		{"no JSON", "RecordService/Produce", `{"topic"`, nil, 400, ""},
		{"the groups' own topic", "RecordService/Produce", `{"topic":"__consumer_offsets","partition":0,"records":[{}]}`, nil, 400, ""},
		{"a page elsewhere", "TopicService/DeleteTopic", `{"name":"orders"}`, []string{"Origin", "https://evil.example"}, 403, "--http-allowed-origins"},
		{"a name that was rebound", "TopicService/DeleteTopic", `{"name":"orders"}`, []string{"Host", "evil.example"}, 403, "--http-allowed-hosts"},
		{"a form", "TopicService/DeleteTopic", `{"name":"orders"}`, []string{"Content-Type", "text/plain"}, 415, ""},
		{"too much", "RecordService/Produce", `{"topic":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 429, ""},
		{"no position", "RecordService/Fetch", `{"topic":"orders","position":{"offset":"-3"}}`, nil, 400, "negative"},
		{"too many hops", "RecordService/Produce", `{"topic":"orders","records":[{}]}`, []string{httpgateway.HeaderHops, "2"}, 503, "passed 2 nodes"},
	} {
		status, _, body := post(t, addr, c.method, c.body, c.header...)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d and %q", c.what, status, body, c.status, c.says)
		}
	}
	// Reads are there by GET, changes are not.
	for path, status := range map[string]int{
		"TopicService/ListTopics?encoding=json&message=" + url.QueryEscape("{}"):                    200,
		"TopicService/DeleteTopic?encoding=json&message=" + url.QueryEscape(`{"name":"orders"}`):    405,
		"RecordService/Fetch?encoding=json&message=" + url.QueryEscape(`{"topic":"orders"}`):        200,
		"RecordService/Produce?encoding=json&message=" + url.QueryEscape(`{"topic":"orders"}`):      405,
		"ClusterService/GetStatus?connect=v1&encoding=json&message=" + url.QueryEscape("{}"):        200,
		"OperationService/GetOperation?encoding=json&message=" + url.QueryEscape(`{"id":"nobody"}`): 404,
	} {
		resp, err := http.Get("http://" + addr + "/raftsman.v1." + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != status {
			t.Errorf("GET %s: %d %s, %v", path, resp.StatusCode, body, err)
		}
	}
}

// described asks as grpcurl and load balancers do.
func described(t *testing.T, addr string) {
	r := grpcreflect.NewClient(h2c(t), "http://"+addr, connect.WithGRPC())
	stream := r.NewStream(t.Context())
	names, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{raftsmanv1connect.RecordServiceName, raftsmanv1connect.OperationServiceName} {
		if !slices.ContainsFunc(names, func(n protoreflect.FullName) bool { return string(n) == name }) {
			t.Errorf("%s is not among %v", name, names)
		}
	}
	files, err := stream.FileContainingSymbol(raftsmanv1connect.RecordServiceName)
	if err != nil || len(files) == 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if _, err := stream.Close(); err != nil {
		t.Error(err)
	}
	for service, wanted := range map[string]connect.Code{"": 0, raftsmanv1connect.RecordServiceName: 0, "raftsman.v1.Nothing": connect.CodeNotFound} {
		status, body := check(t, addr, service)
		if wanted == 0 && (status != 200 || !strings.Contains(body, "SERVING") || strings.Contains(body, "NOT_SERVING")) || wanted != 0 && status != 404 {
			t.Errorf("health of %q: %d %s", service, status, body)
		}
	}
}

func check(t *testing.T, addr, service string) (int, string) {
	t.Helper()
	resp, err := http.Post("http://"+addr+"/"+grpchealth.HealthV1ServiceName+"/Check", "application/json", strings.NewReader(`{"service":"`+service+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
