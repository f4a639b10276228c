package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

// fakeCluster is an Operator in memory.
type fakeCluster struct {
	mu     sync.Mutex
	ops    map[string]cluster.Op
	paused bool
	fail   error
}

func (f *fakeCluster) View() *cluster.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := &cluster.View{Ops: make(map[string]cluster.Op), Topics: map[string]cluster.Topic{"a": {}, "b": {}}, Rebalance: cluster.Rebalance{Paused: f.paused}}
	for id, op := range f.ops {
		v.Ops[id] = op
	}
	return v
}

func (f *fakeCluster) Snapshot() health.Snapshot {
	return health.Snapshot{
		View:  f.View(),
		Nodes: []health.Node{{Node: cluster.Node{Node: 1}, Alive: true}},
		Partitions: []health.Partition{
			{Topic: "a", Leader: 1, Replicas: []int32{1, 2}, InSync: []int32{1}}, {Topic: "b", Leader: -1, Replicas: []int32{2}, InSync: []int32{}},
		},
	}
}

func (f *fakeCluster) Health() health.Report {
	return health.Report{Cluster: "c", State: health.Degraded, Findings: []health.Finding{{Kind: "node-away", Severity: health.Degraded}}}
}

func (f *fakeCluster) CreateOp(_ context.Context, id string, op cluster.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, exists := f.ops[id]; exists {
		return fmt.Errorf("ask for %s: %w", id, cluster.ErrOpExists)
	}
	if f.fail != nil {
		return f.fail
	}
	op.State = cluster.OpPending
	f.ops[id] = op
	return nil
}

func (f *fakeCluster) CancelOp(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	op, ok := f.ops[id]
	switch {
	case f.fail != nil:
		return f.fail
	case !ok:
		return cluster.ErrOpUnknown
	case op.State.Final():
		return cluster.ErrOpEnded
	}
	op.Cancel = true
	f.ops[id] = op
	return nil
}

func (f *fakeCluster) SetRebalance(_ context.Context, paused bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.paused = paused
	}
	return f.fail
}

// startOps runs a server with some operations.
func startOps(t *testing.T) (base string, f *fakeCluster) {
	t.Helper()
	f = &fakeCluster{ops: map[string]cluster.Op{
		"old": {Kind: cluster.OpDrain, Node: 2, State: cluster.OpDone, CreateRevision: 1},
		"now": {Kind: cluster.OpMove, Topic: "a", Replicas: []int32{1, 3}, State: cluster.OpRunning, CreateRevision: 2},
	}}
	return start(t, Options{Operator: f}), f
}

// send makes a request as programs do; headers overwrite.
func send(t *testing.T, method, url, body string, headers ...string) (status int, answer string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestReadsOfOperators(t *testing.T) {
	base, _ := startOps(t)
	for _, tc := range []struct {
		path   string
		status int
		want   string
	}{
		{"/health.json", 200, `"kind": "node-away"`},
		{"/nodes", 200, `"alive": true`},
		{"/ops", 200, `"id": "old"`},
		{"/ops/now", 200, `"state": "running"`},
		{"/ops/none", 404, "raftsman ops list"},
		{"/ops/" + strings.Repeat("x", 3000), 404, "unknown operation"},
		{"/partitions", 200, `"topic": "b"`},
		{"/partitions?topic=a", 200, `"leader": 1`},
		{"/partitions?topic=c", 404, "topic list"},
		{"/partitions?node=two", 400, "not a number"},
		{"/rebalance", 200, `"paused": false`},
	} {
		status, body, header := get(t, base+tc.path)
		if status != tc.status || !strings.Contains(body, tc.want) || header.Get("Content-Type") != "application/json" || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %q (%s), want %d with %s", tc.path, status, body, header.Get("Content-Type"), tc.status, tc.want)
		}
	}
	for query, want := range map[string]int{"": 2, "?topic=a": 1, "?node=2": 2, "?node=1": 1, "?topic=b&node=1": 0} {
		var list []health.Partition
		_, body, _ := get(t, base+"/partitions"+query)
		if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != want {
			t.Errorf("%q: %d partitions, %v, want %d", query, len(list), err, want)
		}
	}
	var ops []Operation
	_, body, _ := get(t, base+"/ops")
	if err := json.Unmarshal([]byte(body), &ops); err != nil || len(ops) != 2 || ops[0].ID != "old" || ops[1].Replicas[1] != 3 {
		t.Errorf("got %s, %v", body, err)
	}
}

func TestOperationsAreAskedFor(t *testing.T) {
	base, f := startOps(t)
	status, body, _ := send(t, "POST", base+"/ops", `{"kind":"drain","node":2}`)
	var made Operation
	if err := json.Unmarshal([]byte(body), &made); status != 201 || err != nil || !strings.HasPrefix(made.ID, "drain-2-") || made.State != cluster.OpPending {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if op := f.View().Ops[made.ID]; op.Kind != cluster.OpDrain || op.Node != 2 {
		t.Errorf("asked for %+v", op)
	}
	const move = `{"id":"m","kind":"move","topic":"a","partition":1,"replicas":[3,1],"force":true}`
	if status, body, _ := send(t, "POST", base+"/ops", move); status != 201 || !strings.Contains(body, `"id": "m"`) {
		t.Errorf("%d %s", status, body)
	}
	if op := f.View().Ops["m"]; op.TP().String() != "a/1" || len(op.Replicas) != 2 || !op.Force {
		t.Errorf("asked for %+v", op)
	}
	if status, _, _ := send(t, "POST", base+"/ops", move); status != 409 {
		t.Errorf("the same id again: %d", status)
	}
	if status, body, _ := send(t, "POST", base+"/ops/m/cancel", ""); status != 200 || !strings.Contains(body, `"cancel": true`) {
		t.Errorf("cancel: %d %s", status, body)
	}
	if status, body, _ := send(t, "POST", base+"/ops/old/cancel", ""); status != 409 || !strings.Contains(body, "remedy") {
		t.Errorf("cancel what has ended: %d %s", status, body)
	}
	if status, _, _ := send(t, "POST", base+"/ops/none/cancel", ""); status != 404 {
		t.Errorf("cancel nothing: %d", status)
	}
	if status, body, _ := send(t, "PUT", base+"/rebalance", `{"paused":true}`); status != 200 || !f.View().Rebalance.Paused {
		t.Errorf("pause: %d %s", status, body)
	}
	if status, _, _ := send(t, "DELETE", base+"/ops/m", ""); status != 405 {
		t.Errorf("DELETE: %d", status)
	}
}

// What makes no sense is refused with what is wrong.
func TestBadOperations(t *testing.T) {
	base, f := startOps(t)
	before := len(f.View().Ops)
	for _, tc := range []struct {
		body   string
		status int
		want   string
	}{
		{``, 400, "makes no sense"},
		{`null`, 400, "kind"},
		{`[]`, 400, "makes no sense"},
		{`{"kind":"drain","node":2} {}`, 400, "more than one"},
		{`{"kind":"drain","nodes":2}`, 400, `unknown field \"nodes\"`},
		{`{"kind":"drain","node":2,"state":"done"}`, 400, "unknown field"},
		{`{"kind":"drain"}`, 400, "the number of a node"},
		{`{"kind":"drain","node":3000000000}`, 400, "makes no sense"},
		{`{"kind":"erase","node":2}`, 400, "unknown kind"},
		{`{"kind":"move","topic":"a/b","replicas":[1]}`, 400, "topic"},
		{`{"kind":"move","topic":"a","replicas":[1,1]}`, 400, "another node"},
		{`{"kind":"transfer","topic":"a"}`, 400, "shall lead"},
		{`{"id":"a/b","kind":"drain","node":2}`, 400, "leave"},
		{`{"kind":"move","topic":"` + strings.Repeat("a", 70<<10) + `"}`, 413, "more than"},
	} {
		status, body, _ := send(t, "POST", base+"/ops", tc.body)
		if status != tc.status || !strings.Contains(body, tc.want) || !strings.Contains(body, "remedy") {
			t.Errorf("%.80s: %d %s, want %d with %s", tc.body, status, body, tc.status, tc.want)
		}
	}
	if status, _, _ := send(t, "PUT", base+"/rebalance", `{}`); status != 400 {
		t.Errorf("PUT /rebalance {}: %d", status)
	}
	if now := len(f.View().Ops); now != before {
		t.Errorf("%d operations were made of nonsense", now-before)
	}
}

// TestWebPagesChangeNothing: what a browser may send on behalf of a page is
// refused before it is read.
func TestWebPagesChangeNothing(t *testing.T) {
	base, f := startOps(t)
	for _, tc := range []struct {
		header, value string
		status        int
	}{
		{"Origin", "https://example.com", 403},
		{"Origin", "null", 403},
		{"Origin", base, 403}, // after DNS rebinding a page has the node's own origin
		{"Sec-Fetch-Site", "cross-site", 403},
		{"Sec-Fetch-Site", "same-origin", 403},
		{"Content-Type", "text/plain", 415}, // what a form can send without being asked
		{"Content-Type", "application/x-www-form-urlencoded", 415},
		{"Content-Type", "multipart/form-data; boundary=x", 415},
		{"Content-Type", "application/json; charset=utf-8", 0},
	} {
		for _, r := range []struct{ method, path, body string }{
			{"POST", "/ops", `{"kind":"drain","node":2}`}, {"POST", "/ops/now/cancel", ""}, {"PUT", "/rebalance", `{"paused":true}`},
		} {
			status, body, _ := send(t, r.method, base+r.path, r.body, tc.header, tc.value)
			if tc.status == 0 && status < 300 {
				continue
			}
			if status != tc.status || !json.Valid([]byte(body)) {
				t.Errorf("%s %s with %s: %s: %d %s", r.method, r.path, tc.header, tc.value, status, body)
			}
		}
		if v := f.View(); tc.status != 0 && (len(v.Ops) != 2 || v.Ops["now"].Cancel || v.Rebalance.Paused) {
			t.Fatalf("%s: %s changed something", tc.header, tc.value)
		}
	}
}

// TestEtcdAwayIsSaid: a retriable error, with when to try again.
func TestEtcdAwayIsSaid(t *testing.T) {
	base, f := startOps(t)
	for _, tc := range []struct {
		err   error
		after string
	}{{fmt.Errorf("x: %w", cluster.ErrUnavailable), "2"}, {fmt.Errorf("%w: older", cluster.ErrFrozen), "30"}} {
		f.mu.Lock()
		f.fail = tc.err
		f.mu.Unlock()
		for _, r := range []struct{ method, path, body string }{
			{"POST", "/ops", `{"kind":"drain","node":2}`}, {"POST", "/ops/now/cancel", ""}, {"PUT", "/rebalance", `{"paused":true}`},
		} {
			status, body, header := send(t, r.method, base+r.path, r.body)
			if status != 503 || header.Get("Retry-After") != tc.after || !strings.Contains(body, "raftsman cluster health") {
				t.Errorf("%s %s: %d %q %s", r.method, r.path, status, header.Get("Retry-After"), body)
			}
		}
	}
	if status, _, _ := get(t, base+"/ops"); status != 200 {
		t.Errorf("reading: %d", status)
	}
}

// FuzzBody: any body gets an answer, never more than an operation that makes
// sense.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"kind":"drain","node":2}`, `{"id":"x","kind":"move","topic":"t","partition":3,"replicas":[1,2,3]}`,
		`{"kind":"transfer","topic":"t","node":1,"force":true}`, `{"kind":"undrain","node":-1}`, `{"kind":"drain","node":1}{}`, `[[[[`, "\xff", `{"kind":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fake := &fakeCluster{ops: make(map[string]cluster.Op)}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "/ops", strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = create(req, fake)
		if err != nil {
			if e := explained(err); e.Status < 400 || e.Status >= 500 || len(e.Text) > 3000 {
				t.Fatalf("%d with %d bytes: %s", e.Status, len(e.Text), e.Text)
			}
			if len(fake.ops) > 0 {
				t.Fatal("refused, and made")
			}
			return
		}
		for id, op := range fake.ops {
			if err := op.Sensible(); err != nil || cluster.ValidateOpID(id) != nil {
				t.Fatalf("made %q %+v: %v", id, op, err)
			}
		}
	})
}
