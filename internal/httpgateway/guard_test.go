package httpgateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuardKnowsWhoAsks(t *testing.T) {
	g := newGuard(Limits{MaxRequestBytes: 1 << 10, MaxRequests: 1, AllowedHosts: []string{"logs.example.com"}, AllowedOrigins: []string{"https://ops.example.com"}},
		func() string { return "node-1.internal:8080" })
	h := g.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, c := range []struct {
		what   string
		host   string
		header []string
		want   int
	}{
		{"an address", "192.0.2.7:8080", nil, 200},
		{"an address of version 6", "[2001:db8::1]:8080", nil, 200},
		{"localhost", "localhost:8080", nil, 200},
		{"the advertised name", "NODE-1.internal", nil, 200},
		{"a name that is allowed", "logs.example.com", nil, 200},
		{"a page's own name, rebound to this address", "evil.example:8080", []string{"Origin", "http://evil.example:8080"}, 403},
		{"a name without an origin", "evil.example", nil, 403},
		{"no name", "", nil, 403},
		{"this node's own page", "10.0.0.1:8080", []string{"Origin", "http://10.0.0.1:8080", "Sec-Fetch-Site", "same-origin"}, 200},
		{"another page", "10.0.0.1:8080", []string{"Origin", "https://evil.example"}, 403},
		{"another port of this host", "10.0.0.1:8080", []string{"Origin", "http://10.0.0.1:3000"}, 403},
		{"a page without an address", "10.0.0.1:8080", []string{"Origin", "null"}, 403},
		{"a page that is allowed", "10.0.0.1:8080", []string{"Origin", "https://ops.example.com"}, 200},
		{"an image of another page", "10.0.0.1:8080", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"an address bar", "10.0.0.1:8080", []string{"Sec-Fetch-Site", "none"}, 200},
	} {
		r := httptest.NewRequest(http.MethodPost, "/raftsman.v1.RecordService/Produce", strings.NewReader("{}"))
		r.Host = c.host
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", c.what, w.Code, c.want, w.Body)
		}
		if origin := w.Header().Get("Access-Control-Allow-Origin"); (origin != "") != (c.what == "a page that is allowed") {
			t.Errorf("%s: may be read by %q", c.what, origin)
		}
	}
}

func TestGuardAnswersPreflight(t *testing.T) {
	g := newGuard(Limits{MaxRequestBytes: 1 << 10, MaxRequests: 1, AllowedOrigins: []string{"https://ops.example.com"}}, func() string { return "" })
	h := g.wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a preflight reached the services") }))
	for origin, want := range map[string]int{"https://ops.example.com": 204, "https://evil.example": 403} {
		r := httptest.NewRequest(http.MethodOptions, "http://127.0.0.1/raftsman.v1.RecordService/Produce", nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", origin, w.Code, want)
		}
	}
}

// What is under way at once is bounded, calls and streams apart, and the refusal is
// one that the client understands.
func TestGuardBoundsRequests(t *testing.T) {
	g := newGuard(Limits{MaxRequestBytes: 1 << 10, MaxRequests: 1}, func() string { return "" })
	inside, leave := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(g.wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-leave
	})))
	defer srv.Close()
	ask := func(method, kind string) (*http.Response, error) {
		return http.Post(srv.URL+"/raftsman.v1."+method, kind, strings.NewReader("{}"))
	}
	ended := make(chan error, 2)
	for _, m := range []string{"RecordService/Fetch", "RecordService/Consume"} {
		go func() {
			resp, err := ask(m, "application/json")
			if err == nil {
				resp.Body.Close()
			}
			ended <- err
		}()
		<-inside
	}
	for kind, want := range map[string]int{"application/json": 429, "application/grpc": 200} {
		resp, err := ask("TopicService/ListTopics", kind)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || want == 200 && resp.Trailer.Get("Grpc-Status") != "8" {
			t.Errorf("%s: %d %v %v", kind, resp.StatusCode, resp.Header, resp.Trailer)
		}
	}
	close(leave)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
