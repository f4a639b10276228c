package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// nodeAPI answers as a node does; an operation takes a step each time it is
// looked at.
type nodeAPI struct {
	mu    sync.Mutex
	asked []gateway.OpRequest
	steps []cluster.Op
	fail  *gateway.Error // the answer to POST /ops
	code  int
	files map[string]string // path: file in testdata
}

func (a *nodeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case r.Method == "POST" && r.URL.Path == "/ops":
		var req gateway.OpRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		a.asked = append(a.asked, req)
		if a.fail != nil {
			w.WriteHeader(a.code)
			_ = json.NewEncoder(w).Encode(a.fail)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(gateway.Operation{ID: req.ID, Op: cluster.Op{Kind: req.Kind, Node: req.Node, State: cluster.OpPending}})
	case strings.HasPrefix(r.URL.Path, "/ops/") && len(a.steps) > 0:
		op := a.steps[0]
		if len(a.steps) > 1 {
			a.steps = a.steps[1:]
		}
		_ = json.NewEncoder(w).Encode(gateway.Operation{ID: strings.TrimPrefix(r.URL.Path, "/ops/"), Op: op})
	case a.files[r.URL.Path] != "":
		http.ServeFile(w, r, filepath.Join("testdata", a.files[r.URL.Path]))
	default:
		http.NotFound(w, r)
	}
}

func startAPI(t *testing.T, a *nodeAPI) string {
	t.Helper()
	clearEnv(t)
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	return srv.URL
}

// typed runs a command line and returns what it printed and its exit code.
func typed(ctx context.Context, line string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(""))
	root.SetArgs(strings.Fields(line))
	err := root.ExecuteContext(ctx)
	if err != nil {
		errs.WriteString("raftsman: " + err.Error() + "\n")
	}
	return out.String(), errs.String(), exitCode(err)
}

func step(state cluster.OpState, done int, reason string) cluster.Op {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	op := cluster.Op{Kind: cluster.OpDrain, Node: 2, State: state, Reason: reason, Created: &at, Started: &at}
	if done >= 0 {
		op.Progress = &cluster.Progress{Done: done, Total: 4, EstimateSeconds: int64(4-done) * 10}
	}
	if state.Final() {
		end := at.Add(40 * time.Second)
		op.Finished = &end
	}
	return op
}

func TestDrainWaitsAndShowsHowFarItIs(t *testing.T) {
	api := &nodeAPI{steps: []cluster.Op{
		step(cluster.OpPending, -1, ""), step(cluster.OpRunning, 1, ""), step(cluster.OpRunning, 1, ""),
		step(cluster.OpRunning, 3, "orders/3: no replica is in sync yet"), step(cluster.OpDone, 4, ""),
	}}
	out, errs, code := typed(t.Context(), "node drain 2 --http "+startAPI(t, api))
	const want = `drain of node 2: pending 0%
drain of node 2: running 25%, 1 of 4, 30s left
drain of node 2: running 75%, 3 of 4, 10s left: orders/3: no replica is in sync yet
drain of node 2: done 100%, 4 of 4
`
	if errs != want || out != "drain of node 2 is done after 40s\n" || code != 0 {
		t.Errorf("exit code %d, printed %q, and\n%swant\n%s", code, out, errs, want)
	}
	if len(api.asked) != 1 || api.asked[0].Kind != cluster.OpDrain || api.asked[0].Node != 2 || api.asked[0].ID == "" {
		t.Errorf("asked for %+v", api.asked)
	}
}

// How an operation ends is the exit code, and the reason is printed.
func TestExitCodesOfOperations(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		steps      []cluster.Op
		fail       *gateway.Error
		code, want int
		text       string
	}{
		{"done", "node undrain 2", []cluster.Op{step(cluster.OpDone, 0, "")}, nil, 0, 0, ""},
		{"refused", "node drain 2", []cluster.Op{step(cluster.OpRefused, 0, "orders/3 would have no leader")}, nil, 0, 3, "orders/3 would have no leader"},
		{"failed", "partition move orders/3 --to 1,2", []cluster.Op{step(cluster.OpFailed, 0, "node 7 is gone")}, nil, 0, 3, "node 7 is gone"},
		{"cancelled", "node decommission 2", []cluster.Op{step(cluster.OpCancelled, 0, "")}, nil, 0, 4, "was cancelled"},
		{"goes on", "node drain 2 --timeout 50ms", []cluster.Op{step(cluster.OpRunning, 1, "")}, nil, 0, 5, "raftsman ops cancel drain-2-"},
		{"not to be waited for", "node drain 2 --no-wait", nil, nil, 0, 0, ""},
		{"etcd away", "node drain 2", nil, &gateway.Error{Text: "unavailable", Remedy: "ask again"}, 503, 1, "unavailable; ask again"},
		{"the same id", "node drain 2 --id x", nil, &gateway.Error{Text: "operation exists", Remedy: "choose another"}, 409, 1, "operation exists"},
		{"the answer was lost", "node drain 2", []cluster.Op{step(cluster.OpDone, 4, "")}, &gateway.Error{Text: "operation exists"}, 409, 0, ""},
		{"what another version refuses", "node drain 2", nil, &gateway.Error{Text: "no", Remedy: "never"}, 400, 3, "no; never"},
		{"wait", "ops wait x", []cluster.Op{step(cluster.OpRunning, 1, ""), step(cluster.OpDone, 4, "")}, nil, 0, 0, ""},
		{"wait for nothing", "ops wait x", nil, nil, 0, 1, "404"},
		{"cancel nothing", "ops cancel x", nil, nil, 0, 1, "404"},
		{"not a node", "node drain two", nil, nil, 0, 2, "node list"},
		{"node 0", "node drain 0", nil, nil, 0, 2, "node list"},
		{"not a partition", "partition move orders --to 1", nil, nil, 0, 2, "TOPIC/PARTITION"},
		{"a node twice", "partition move orders/3 --to 1,1", nil, nil, 0, 2, "another node"},
		{"nowhere to", "partition move orders/3", nil, nil, 0, 2, "to"},
		{"nobody to lead", "partition transfer orders/3 --to 0", nil, nil, 0, 2, "shall lead"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url := startAPI(t, &nodeAPI{steps: tc.steps, fail: tc.fail, code: tc.code})
			out, errs, code := typed(t.Context(), tc.line+" --http "+url)
			if code != tc.want || !strings.Contains(errs, tc.text) {
				t.Errorf("exit code %d, want %d with %q; printed\n%s%s", code, tc.want, tc.text, out, errs)
			}
			if tc.want == 0 && out == "" {
				t.Error("nothing was printed")
			}
		})
	}
}

// TestInterruptedCommandLeavesTheOperation says how to see and stop it.
func TestInterruptedCommandLeavesTheOperation(t *testing.T) {
	api := &nodeAPI{steps: []cluster.Op{step(cluster.OpRunning, 1, "")}}
	clearEnv(t)
	for _, during := range []string{http.MethodPost, http.MethodGet} { // while it asks, while it waits
		ctx, interrupt := context.WithCancel(t.Context())
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			api.ServeHTTP(w, r)
			if r.Method == during {
				interrupt()
				<-r.Context().Done()
			}
		}))
		_, errs, code := typed(ctx, "node drain 2 --id mine --http "+srv.URL)
		if code != exitUnfinished || !strings.Contains(errs, "raftsman ops wait mine") || !strings.Contains(errs, "raftsman ops cancel mine") {
			t.Errorf("%s: exit code %d, printed %s", during, code, errs)
		}
		srv.Close()
	}
}

// TestDecommissionAsks a person, who may say no.
func TestDecommissionAsks(t *testing.T) {
	for answer, want := range map[string]int{"y\n": 0, "YES\n": 0, "\n": exitCancelled, "n\n": exitCancelled, "": exitCancelled} {
		cmd := newDecommission()
		var errs bytes.Buffer
		cmd.SetIn(strings.NewReader(answer))
		cmd.SetErr(&errs)
		err := askDecommission(cmd, health.Node{Node: cluster.Node{Node: 2, Replicas: 37}, Bytes: 5 << 30})
		if exitCode(err) != want || !strings.Contains(errs.String(), "37 replicas, about 5.0 GiB off node 2") {
			t.Errorf("%q: %v, asked %q", answer, err, errs.String())
		}
	}
}

// TestBarOnATerminal is drawn into one line; elsewhere there are no control
// characters.
func TestBarOnATerminal(t *testing.T) {
	var out bytes.Buffer
	width := 200
	p := &progress{w: &out, terminal: true, width: func() int { return width }}
	p.op(gateway.Operation{Op: step(cluster.OpRunning, 1, "")})
	width = 21 // a line that wraps could not be drawn over
	p.op(gateway.Operation{Op: step(cluster.OpRunning, 1, "")})
	width = 200
	p.op(gateway.Operation{Op: step(cluster.OpDone, 4, "")})
	p.end()
	p.end()
	const want = "\r\x1b[Kdrain of node 2 [#######-----------------------] 25% running, 1 of 4, 30s left" +
		"\r\x1b[Kdrain of node 2 [###" +
		"\r\x1b[Kdrain of node 2 [##############################] 100% done, 4 of 4\n"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// TestGoldenScreens compares what operators see with files; go test -update writes
// them.
func TestGoldenScreens(t *testing.T) {
	files := map[string]string{
		"/nodes": "api-nodes.json", "/partitions": "api-partitions.json", "/ops": "api-ops.json", "/health.json": "api-health.json",
		"/ops/decommission-4-1": "api-op.json", "/rebalance": "api-rebalance.json",
	}
	url := startAPI(t, &nodeAPI{files: files})
	for name, line := range map[string]string{
		"nodes": "node list", "node": "node describe 2", "partitions": "partition list", "problems": "partition list --problems",
		"ops": "ops list", "ops-active": "ops list --active", "op": "ops describe decommission-4-1", "health": "cluster health",
		"rebalance": "cluster rebalance status", "health-yaml": "cluster health -o yaml", "partitions-json": "partition list -o json --problems",
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := typed(t.Context(), line+" --http "+url)
			if want := map[bool]int{true: exitBroken}[strings.HasPrefix(name, "health")]; code != want {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			file := filepath.Join("testdata", "screen-"+name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || out != string(want) {
				t.Errorf("%v; got:\n%s", err, out)
			}
		})
	}
}

// TestSeveralAddresses: the first node that answers is asked; when none does,
// each address is named with what was wrong.
func TestSeveralAddresses(t *testing.T) {
	clearEnv(t)
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(gateway.Error{Text: "etcd is away", Remedy: "wait"})
	}))
	defer sick.Close()
	well := httptest.NewServer(&nodeAPI{files: map[string]string{"/rebalance": "api-rebalance.json"}})
	defer well.Close()
	dead, dead2 := deadAddr(t), deadAddr(t)
	if out, errs, code := typed(t.Context(), "cluster rebalance status --http "+dead+","+sick.URL+","+well.URL); code != 0 || out != "rebalancing is paused\n" {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if _, errs, code := typed(t.Context(), "cluster rebalance status --http "+sick.URL+","+dead); code != 1 || !strings.Contains(errs, "etcd is away; wait") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	_, errs, code := typed(t.Context(), "cluster health --http "+dead+","+dead2)
	if code != exitUnfinished || !strings.Contains(errs, dead+": ") || !strings.Contains(errs, dead2+": ") || !strings.Contains(errs, "--http-addr") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	t.Setenv("RAFTSMAN_HTTP", dead+", "+well.URL)
	if _, errs, code := typed(t.Context(), "cluster rebalance status"); code != 0 {
		t.Errorf("RAFTSMAN_HTTP: exit code %d: %s", code, errs)
	}
}

// TestHealthExitCodes: the state is the code, and only the screen is printed.
func TestHealthExitCodes(t *testing.T) {
	for state, want := range map[health.Severity]int{health.Healthy: 0, health.Degraded: exitDegraded, health.Broken: exitBroken, "worse": exitBroken} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(health.Report{Cluster: "c", Node: 1, State: state, Nodes: 3})
		}))
		clearEnv(t)
		quiet(t)
		if code := run(t.Context(), []string{"cluster", "health", "--http", srv.URL}); code != want {
			t.Errorf("%s: exit code %d, want %d", state, code, want)
		}
		srv.Close()
	}
	if err := error(exitError{exitDegraded, nil}); !errors.As(err, new(exitError)) || err.Error() == "" {
		t.Errorf("got %v", err)
	}
}

// TestCompletion offers what there is, and nothing when no node answers.
func TestCompletion(t *testing.T) {
	url := startAPI(t, &nodeAPI{files: map[string]string{"/nodes": "api-nodes.json", "/partitions": "api-partitions.json", "/ops": "api-ops.json"}})
	for line, want := range map[string]string{
		"node drain --http " + url + " ":                  "2\t",
		"partition move --http " + url + " ":              "orders/0\n",
		"partition list --http " + url + " --topic ":      "orders\n",
		"ops cancel --http " + url + " ":                  "decommission-4-1\t",
		"node drain --http " + deadAddr(t) + " ":          ":4",
		"partition transfer a/0 --http " + url + " --to ": "1\t",
	} {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		root.SetArgs(append([]string{"__complete"}, append(strings.Fields(line), "")...))
		if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, got %q, want %q", line, err, out.String(), want)
		}
	}
}
