package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// serve runs a dashboard behind a real server.
func serve(t *testing.T, w *world) (*Dashboard, string) {
	t.Helper()
	d := newTest(t, w)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.Run(ctx)
	}()
	s := httptest.NewServer(d)
	t.Cleanup(func() {
		cancel()
		<-ended
		s.Close()
	})
	return d, s.URL
}

func fetch(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// stream reads messages of server-sent events.
func stream(t *testing.T, url string) func() message {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/api/dashboard/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("the type is %q", kind)
	}
	lines := bufio.NewReader(resp.Body)
	return func() (m message) {
		t.Helper()
		data, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		text, ok := strings.CutPrefix(data, "data: ")
		if !ok || json.Unmarshal([]byte(text), &m) != nil {
			t.Fatalf("got %q", data)
		}
		if end, err := lines.ReadString('\n'); err != nil || end != "\n" {
			t.Fatalf("an event ends with %q, %v", end, err)
		}
		return m
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(3)
	_, url := serve(t, w)
	next := stream(t, url)
	if m := next(); !m.Reset || m.Set["cluster"] == nil {
		t.Fatalf("the first message is %+v", m)
	}
	w.change(func() { w.leader[0] = 2 })
	for {
		m := next()
		if m.Set["p/t/0"] != nil {
			if p := string(m.Set["p/t/0"]); m.Reset || !strings.Contains(p, `"leader":2`) {
				t.Errorf("got %s", p)
			}
			return
		}
	}
}

// Nobody watches any more when the connections have gone.
func TestWatchersThatGoAreForgotten(t *testing.T) {
	d, url := serve(t, newWorld(3))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/api/dashboard/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	watchers := func() int {
		d.hub.mu.Lock()
		defer d.hub.mu.Unlock()
		return len(d.hub.watchers)
	}
	testetcd.Eventually(t, "one to watch", func() bool { return watchers() == 1 })
	cancel()
	resp.Body.Close()
	testetcd.Eventually(t, "nobody to watch", func() bool { return watchers() == 0 })
}

func TestState(t *testing.T) {
	d, url := serve(t, newWorld(3))
	resp, body := fetch(t, url+"/api/dashboard/state")
	var m message
	if err := json.Unmarshal([]byte(body), &m); err != nil || !m.Reset || m.Set["cluster"] == nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %v %s %v", resp.Status, body, err)
	}
	for range maxWatchers {
		join(t, d)
	}
	if resp, body := fetch(t, url+"/api/dashboard/state"); resp.StatusCode != 503 || !strings.Contains(body, "64 pages") || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %v %s", resp.Status, body)
	}
	if resp, _ := fetch(t, url+"/api/dashboard/events"); resp.StatusCode != 503 {
		t.Errorf("got %v", resp.Status)
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	_, url := serve(t, newWorld(3))
	for _, path := range []string{"state", "figures", "events", "groups", "group?name=g", "offsets?topic=t", "records?topic=t"} {
		for _, site := range []string{"cross-site", "same-site"} {
			if resp, _ := fetch(t, url+"/api/dashboard/"+path, "Sec-Fetch-Site", site); resp.StatusCode != 403 {
				t.Errorf("%s from %s: %s", path, site, resp.Status)
			}
		}
	}
	for _, site := range []string{"same-origin", "none"} {
		if resp, _ := fetch(t, url+"/api/dashboard/state", "Sec-Fetch-Site", site); resp.StatusCode != 200 {
			t.Errorf("from %s: %s", site, resp.Status)
		}
	}
}

// A page whose name is rebound to this node's address is of the same site to its
// browser: it is the name that gives it away.
func TestNamesThatAreNotOurs(t *testing.T) {
	d := newTest(t, newWorld(3))
	d.opts.Known = func(host string) bool { return host == "node-1.example" }
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "10.1.2.3": 200, "[::1]:8080": 200, "[fe80::1]": 200, "localhost": 200, "LocalHost:8080": 200, "a.localhost:1": 200,
		"node-1.example:8080": 200, "Node-1.Example.": 200, "evil.example:8080": 403, "node-1.example.evil": 403, "127.0.0.1.evil:8080": 403, "": 403, "[::1]evil": 403,
	} {
		for _, site := range []string{"", "same-origin"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/dashboard/figures", nil)
			r.Host = host
			if site != "" {
				r.Header.Set("Sec-Fetch-Site", site)
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%q: %d, want %d: %s", host, w.Code, want, w.Body)
			}
		}
	}
}

func TestBadQuestions(t *testing.T) {
	_, url := serve(t, newWorld(3))
	long := strings.Repeat("x", maxName+1)
	for _, path := range []string{"offsets", "offsets?topic=" + long, "group?name=" + long, "records", "records?topic=t&partition=x", "records?topic=t&partition=-2",
		"records?topic=t&count=0", "records?topic=t&count=51", "records?topic=t&count=99999999999999999999"} {
		if resp, body := fetch(t, url+"/api/dashboard/"+path); resp.StatusCode != 400 || !strings.Contains(body, `"error"`) {
			t.Errorf("%.60s: %s %s", path, resp.Status, body)
		}
	}
	// There are no brokers.
	for _, path := range []string{"offsets?topic=t", "groups", "group?name=g", "records?topic=t"} {
		if resp, body := fetch(t, url+"/api/dashboard/"+path); resp.StatusCode != 503 || !strings.Contains(body, "no Kafka address") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/api/dashboard/state", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST: %s", resp.Status)
	}
}

func TestStatic(t *testing.T) {
	_, url := serve(t, newWorld(3))
	for path, kind := range map[string]string{
		"/": "text/html", "/ui/": "text/html", "/ui/topic?name=x": "text/html", "/ui/static/app.js": "text/javascript", "/ui/static/style.css": "text/css", "/ui/static/icon.svg": "image/svg",
	} {
		resp, body := fetch(t, url+path)
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || body == "" {
			t.Errorf("%s: %s %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		again, _ := fetch(t, url+path, "If-None-Match", resp.Header.Get("ETag"))
		if again.StatusCode != 304 {
			t.Errorf("%s again: %s", path, again.Status)
		}
	}
	for _, path := range []string{"/ui/static/", "/ui/static/nothing.js", "/ui/static/..%2fstatic.go", "/nothing", "/static/app.js"} {
		if resp, _ := fetch(t, url+path); resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// The page loads nothing that it does not bring, and has no way to turn text into
// HTML or code.
func TestPageIsSelfContained(t *testing.T) {
	files, _, err := staticFiles()
	if err != nil {
		t.Fatal(err)
	}
	imported := regexp.MustCompile(`(?:from|href=|src=) ?"([^"#]+)"`)
	for name, f := range files {
		body := strings.ReplaceAll(string(f.body), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "https://", "javascript:", "//cdn", "@import", "url("} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %s", name, bad)
			}
		}
		if strings.HasSuffix(name, ".html") && (strings.Contains(body, "<style") || strings.Contains(body, "style=") || regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(body) || regexp.MustCompile(` on[a-z]+=`).MatchString(body)) {
			t.Errorf("%s has styles or scripts in it", name)
		}
		for _, m := range imported.FindAllStringSubmatch(body, -1) {
			if m[1] == "/ui/" {
				continue
			}
			if _, ok := files[path.Base(m[1])]; !ok {
				t.Errorf("%s wants %s, which is not here", name, m[1])
			}
		}
	}
}

// Another node's answer is believed only if it is one.
func TestAskingOtherNodes(t *testing.T) {
	answers := map[string]string{"2": `{"node":2,"records":5}`, "3": `{"node":2}`, "4": `nonsense`, "5": strings.Repeat("[", maxFigures+10)}
	w := newWorld(3)
	for id, answer := range answers {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, answer) }))
		t.Cleanup(s.Close)
		n := int32(id[0] - '0')
		w.alive[n], w.http[n] = true, strings.TrimPrefix(s.URL, "http://")
	}
	elsewhere := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	t.Cleanup(elsewhere.Close)
	w.alive[6], w.http[6] = true, strings.TrimPrefix(elsewhere.URL, "http://")
	w.alive[7], w.http[7] = true, "no address"
	w.alive[8] = false
	d := newTest(t, w)
	want := map[int32]string{1: "", 2: "", 3: "answers node 2", 4: "makes no sense", 5: "makes no sense", 6: "302", 7: "address", 8: "pings"}
	results := d.poll(t.Context(), w.look().Nodes)
	if len(results) != len(want) {
		t.Fatalf("%d answers", len(results))
	}
	for _, h := range results {
		switch text := want[h.node]; {
		case text == "" && h.err != nil, text != "" && (h.err == nil || !strings.Contains(h.err.Error(), text)):
			t.Errorf("node %d: %v", h.node, h.err)
		case h.node == 2 && h.figures.Records != 5:
			t.Errorf("node 2: %+v", h.figures)
		}
	}
}
