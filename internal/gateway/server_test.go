package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/discovery"
)

// start runs a server on a free port until the test ends.
func start(t *testing.T, opts Options) (base string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts.Listener = ln
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close after Run: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

func get(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
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

// TestReadinessFollowsTheNode: alive is not ready, and the reason is told.
func TestReadinessFollowsTheNode(t *testing.T) {
	var ready atomic.Bool
	base := start(t, Options{Ready: func() error {
		if !ready.Load() {
			return errors.New("no winner yet")
		}
		return nil
	}})
	if status, body, _ := get(t, base+"/readyz"); status != 503 || !strings.Contains(body, "no winner yet") {
		t.Errorf("/readyz before: %d %q", status, body)
	}
	if status, _, _ := get(t, base+"/healthz"); status != 200 {
		t.Errorf("/healthz of a node that is not ready: %d", status)
	}
	ready.Store(true)
	if status, _, _ := get(t, base+"/readyz"); status != 200 {
		t.Errorf("/readyz after: %d", status)
	}
}

func TestClusterJSON(t *testing.T) {
	base := start(t, Options{ClusterJSON: func() any { return map[string]any{"cluster": "default", "nodes": []int{1, 2}} }})
	status, body, header := get(t, base+"/cluster.json")
	var got struct {
		Cluster string `json:"cluster"`
		Nodes   []int  `json:"nodes"`
	}
	if err := json.Unmarshal([]byte(body), &got); status != 200 || err != nil || got.Cluster != "default" || len(got.Nodes) != 2 {
		t.Errorf("%d %q: %v", status, body, err)
	}
	if ct := header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
}

// TestClusterJSONThatCantBeEncoded is a status, not half an object.
func TestClusterJSONThatCantBeEncoded(t *testing.T) {
	base := start(t, Options{ClusterJSON: func() any { return func() {} }})
	if status, _, _ := get(t, base+"/cluster.json"); status != 500 {
		t.Errorf("status %d", status)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "raftsman_test_total", Help: "A test."})
	reg.MustRegister(c)
	c.Add(3)
	base := start(t, Options{Gatherer: reg})
	if status, body, _ := get(t, base+"/metrics"); status != 200 || !strings.Contains(body, "raftsman_test_total 3") {
		t.Errorf("%d %q", status, body)
	}
}

func TestProfilesOnlyWhenWanted(t *testing.T) {
	for _, on := range []bool{false, true} {
		base := start(t, Options{Pprof: on})
		status, _, _ := get(t, base+"/debug/pprof/goroutine?debug=1")
		if want := map[bool]int{false: 404, true: 200}[on]; status != want {
			t.Errorf("profiles %v: status %d", on, status)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	base := start(t, Options{})
	if status, _, _ := get(t, base+"/nothing"); status != 404 {
		t.Errorf("unknown path: %d", status)
	}
	resp, err := http.Post(base+"/cluster.json", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// TestRunEndsDespiteAStalledClient: one that sends half a request is cut off.
func TestRunEndsDespiteAStalledClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	get(t, "http://"+ln.Addr().String()+"/healthz") // accepted later: the stalled one is known
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Run does not end")
	}
}

// TestRequestUnderWayIsAnswered: stopping waits for it.
func TestRequestUnderWayIsAnswered(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln, ClusterJSON: func() any {
		close(entered)
		<-release
		return "late"
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	answer := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + ln.Addr().String() + "/cluster.json")
		if err != nil {
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	<-entered
	cancel()
	close(release)
	if status := <-answer; status != 200 {
		t.Errorf("status %d", status)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestCloseWithoutRun closes the listener, as often as one likes.
func TestCloseWithoutRun(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}

func TestListenerIsRequired(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("New without a listener succeeded")
	}
}

// TestEvidence: what a node knows, an error that is a status, and no such path
// where there is nothing to show.
func TestEvidence(t *testing.T) {
	base := start(t, Options{Evidence: func() (any, error) { return map[string]int{"node": 3}, nil }})
	if status, body, _ := get(t, base+"/cluster/view"); status != http.StatusOK || body != `{"node":3}` {
		t.Errorf("%d %s", status, body)
	}
	base = start(t, Options{Evidence: func() (any, error) { return nil, errors.New("no") }})
	if status, _, _ := get(t, base+"/cluster/view"); status != http.StatusInternalServerError {
		t.Errorf("after an error: %d", status)
	}
	base = start(t, Options{})
	if status, _, _ := get(t, base+"/cluster/view"); status != http.StatusNotFound {
		t.Errorf("without evidence: %d", status)
	}
}

// TestClusterJSONIsSigned for those who ask for it, and for no others.
func TestClusterJSONIsSigned(t *testing.T) {
	base := start(t, Options{
		ClusterJSON: func() any { return map[string]any{"cluster": "default"} },
		Sign:        func(nonce string, body []byte) string { return nonce + " and " + strconv.Itoa(len(body)) },
	})
	_, body, header := get(t, base+"/cluster.json")
	if s := header.Get(discovery.HeaderSignature); s != "" {
		t.Errorf("signed without a nonce: %q", s)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/cluster.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(discovery.HeaderNonce, "n")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if s := resp.Header.Get(discovery.HeaderSignature); s != fmt.Sprintf("n and %d", len(body)) {
		t.Errorf("signature %q", s)
	}
}
