package gateway

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func ask(t *testing.T, method, url, contentType, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestProbes(t *testing.T) {
	var leading atomic.Bool
	var winner atomic.Int32
	behind := 3 * time.Second
	base := start(t, Options{Probes: Probes{
		Leader: func() (bool, int32) { return leading.Load(), winner.Load() },
		Replica: func(most time.Duration) (int, time.Duration, error) {
			if most > 0 && behind > most {
				return 7, behind, errors.New("a replica is 3s behind")
			}
			return 7, behind, nil
		},
	}})
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		for _, tc := range []struct {
			path    string
			leading bool
			winner  int32
			status  int
			says    string
		}{
			{"/healthz", false, 0, 200, "ok"},
			{"/readyz", false, 0, 200, "ready"},
			{"/leader", true, 1, 200, "this node is the winner"},
			{"/leader", false, 2, 503, "node 2 is the winner"},
			{"/leader", false, 0, 503, "no winner is known"},
			{"/replica", false, 0, 200, "7 replicas"},
			{"/replica?lag=10s", false, 0, 200, "at most 3s behind"},
			{"/replica?lag=2s", false, 0, 503, "3s behind"},
			{"/replica?lag=10", false, 0, 400, "with its unit"},
			{"/replica?lag=-1s", false, 0, 400, "with its unit"},
			{"/replica?lag=10ms", false, 0, 400, "a second or more"},
		} {
			leading.Store(tc.leading)
			winner.Store(tc.winner)
			status, body := ask(t, method, base+tc.path, "", "")
			if status != tc.status || method != "HEAD" && !strings.Contains(body, tc.says) {
				t.Errorf("%s %s: %d %q", method, tc.path, status, body)
			}
		}
	}
	if status, _ := ask(t, "POST", base+"/leader", "", ""); status != 405 {
		t.Errorf("POST /leader: %d", status)
	}
	if status, _, _ := get(t, start(t, Options{})+"/leader"); status != 404 {
		t.Errorf("/leader of a server without probes: %d", status)
	}
}

func TestLogLevel(t *testing.T) {
	level := new(slog.LevelVar)
	base := start(t, Options{LogLevel: level})
	for _, tc := range []struct {
		method, kind, body string
		status             int
		want               slog.Level
		says               string
	}{
		{"GET", "", "", 200, slog.LevelInfo, `"info"`},
		{"PUT", "application/json", `{"level":"debug"}`, 200, slog.LevelDebug, `"debug"`},
		{"PUT", "application/json", `{"level":"loud"}`, 400, slog.LevelDebug, "debug, info, warn or error"},
		{"PUT", "application/json", `{"lvl":"info"}`, 400, slog.LevelDebug, "lvl"},
		{"PUT", "text/plain", `{"level":"info"}`, 415, slog.LevelDebug, "content type"},
		{"GET", "", "", 200, slog.LevelDebug, `"debug"`},
	} {
		status, body := ask(t, tc.method, base+"/log/level", tc.kind, tc.body)
		if status != tc.status || level.Level() != tc.want || !strings.Contains(body, tc.says) {
			t.Errorf("%s %s: %d %q, the level is %v", tc.method, tc.body, status, body, level.Level())
		}
	}
}

// TestRequestsAreCounted by what answers them: a client can't make up labels.
func TestRequestsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	var (
		mu  sync.Mutex
		out strings.Builder
	)
	logger := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), nil))
	base := start(t, Options{Gatherer: reg, Registerer: reg, LogRequests: true, Logger: logger})
	for _, path := range []string{"/healthz", "/healthz?x=1", "/nothing", "/nothing/else", "/%2e%2e/etc"} {
		get(t, base+path)
	}
	_, body, _ := get(t, base+"/metrics")
	for _, want := range []string{
		`raftsman_http_requests_total{code="200",path="/healthz"} 2`,
		`raftsman_http_requests_total{code="404",path="other"} 3`,
		`raftsman_http_request_seconds_count{path="/healthz"} 2`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %s in\n%s", want, body)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(out.String(), "msg=request"); n < 5 || !strings.Contains(out.String(), "path=/nothing/else status=404") {
		t.Errorf("%d requests were logged:\n%s", n, out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
