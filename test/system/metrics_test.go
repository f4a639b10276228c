//go:build system

package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const rulesDir = "../../deploy/prometheus"

// promtool runs Debian's promtool.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// dashboardQueries are those of the Grafana dashboard, with its variables filled in.
func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	data, err := os.ReadFile("../../deploy/grafana/raftsman.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$job", "raftsman.*", "$instance", ".+", "$__rate_interval", "10s")
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			queries = append(queries, fill.Replace(q.Expr))
		}
	}
	return queries
}

// TestAlertRules holds the rules and their tests against promtool.
func TestAlertRules(t *testing.T) {
	promtool(t, "", "check", "config", filepath.Join(rulesDir, "prometheus.yml"))
	promtool(t, "", "check", "rules", filepath.Join(rulesDir, "raftsman-alerts.yml"))
	promtool(t, "", "test", "rules", filepath.Join(rulesDir, "raftsman-alerts_test.yml"))
}

// prometheus is a real one that scrapes the nodes each second.
type prometheus struct {
	t   *testing.T
	url string
}

// startPrometheus starts one with the rules as they are, but that a node needs to be
// down for a second only.
func (c *cluster) startPrometheus() *prometheus {
	c.t.Helper()
	rules, err := os.ReadFile(filepath.Join(rulesDir, "raftsman-alerts.yml"))
	if err != nil {
		c.t.Fatal(err)
	}
	down := "expr: 'up{job=~\"raftsman.*\"} == 0'\n        for: "
	quick := strings.Replace(string(rules), down+"1m", down+"1s", 1)
	if quick == string(rules) {
		c.t.Fatal("RaftsmanNodeDown is not what it was")
	}
	quoted := make([]string, len(c.http))
	for i, addr := range c.http {
		quoted[i] = fmt.Sprintf("%q", addr)
	}
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: raftsman
    static_configs: [{targets: [%s]}]
`, strings.Join(quoted, ", "))
	for name, content := range map[string]string{"rules.yml": quick, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports(c.t, 1)[0])
	p := c.spawn("prometheus", "prometheus", "--config.file", filepath.Join(c.dir, "prometheus.yml"),
		"--storage.tsdb.path", filepath.Join(c.dir, "tsdb"), "--web.listen-address", addr, "--log.level", "warn")
	c.t.Cleanup(func() {
		p.cleanUp()
		if c.t.Failed() {
			c.t.Logf("prometheus wrote:\n%s", p.logs())
		}
	})
	return &prometheus{c.t, "http://" + addr}
}

// get asks the API; false while it does not answer.
func (p *prometheus) get(path string, into any) bool {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(p.url + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer := struct {
		Status string
		Data   any
		Error  string
	}{Data: into}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false
	}
	if answer.Status != "success" {
		p.t.Errorf("%s: %s", path, answer.Error)
	}
	return answer.Status == "success"
}

// firing lists the alerts that fire, with what they are about; but not that a failover
// took long, which says something about this machine.
func (p *prometheus) firing() (names []string) {
	var found struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	if !p.get("/api/v1/alerts", &found) {
		return []string{"no answer"}
	}
	for _, a := range found.Alerts {
		if a.State == "firing" && a.Labels["alertname"] != "RaftsmanFailoverSlow" {
			names = append(names, a.Labels["alertname"]+" "+a.Labels["instance"])
		}
	}
	slices.Sort(names)
	return names
}

// series is how many series a query finds.
func (p *prometheus) series(query string) int {
	var found struct{ Result []any }
	if !p.get("/api/v1/query?query="+url.QueryEscape(query), &found) {
		return -1
	}
	return len(found.Result)
}

// TestPrometheus has a real Prometheus scrape three nodes: what they export is as it
// should be, the dashboard's queries find something, no alert fires while all is well,
// the right one fires when a node dies, and it ends when the node is back.
func TestPrometheus(t *testing.T) {
	c := startCluster(t, 3, 3*time.Second)
	c.create("numbers", 6)
	s := startSteady(t, c, "metrics", 6)
	p := c.startPrometheus()
	waitFor(t, "acknowledgements", 20*time.Second, func() bool { return s.partitionsFrom(0) == 6 })
	command(t, "", "kcat", "-b", c.kafka[0], "-C", "-t", "numbers", "-o", "beginning", "-c", "10", "-q")
	for id := 1; id <= 3; id++ {
		promtool(t, c.page(id, "/metrics"), "check", "metrics")
		if page := c.page(id, "/metrics"); strings.Count(page, "\n") > 2500 {
			t.Errorf("node %d has %d lines of metrics", id, strings.Count(page, "\n"))
		}
	}

	waitFor(t, "Prometheus to scrape three nodes", 30*time.Second, func() bool { return p.series(`up{job="raftsman"} == 1`) == 3 })
	var empty []string
	waitFor(t, "the dashboard to have something to show", 30*time.Second, func() bool {
		empty = empty[:0]
		for _, q := range dashboardQueries(t) {
			// There are no errors, and nobody is turned away.
			if p.series(q) < 1 && !strings.Contains(q, "errors_total") && !strings.Contains(q, "failures_total") && !strings.Contains(q, "rejected") {
				empty = append(empty, q)
			}
		}
		return len(empty) == 0
	})
	if len(empty) > 0 {
		t.Errorf("the dashboard shows nothing for %q", empty)
	}
	waitFor(t, "no alert to fire", 30*time.Second, func() bool { return len(p.firing()) == 0 })

	winner := c.winner()
	for id := 1; id <= 3; id++ {
		if got, want := c.status(id, "/leader"), map[bool]int{true: 200, false: 503}[id == winner]; got != want {
			t.Errorf("/leader of node %d: %d, node %d is the winner", id, got, winner)
		}
		waitFor(t, "replicas without lag", 20*time.Second, func() bool { return c.status(id, "/replica?lag=5s") == 200 })
	}

	c.node(winner).kill()
	want := []string{"RaftsmanNodeDown " + c.http[winner-1]}
	waitFor(t, "the alert of a node that died", 30*time.Second, func() bool { return slices.Equal(p.firing(), want) })
	other := winner%3 + 1
	waitFor(t, "another winner", 30*time.Second, func() bool { return c.status(other, "/leader")+c.status(other%3+1, "/leader") == 200+503 })
	if got := p.firing(); !slices.Equal(got, want) {
		t.Errorf("these fire: %q, want %q", got, want)
	}
	c.node(winner).start()
	c.waitReady(winner)
	waitFor(t, "no alert to fire again", 30*time.Second, func() bool { return len(p.firing()) == 0 })
	waitFor(t, "the restarted node's replicas to have no lag", 30*time.Second, func() bool { return c.status(winner, "/replica?lag=5s") == 200 })
	s.halt()
}

// status of a page of a node's HTTP server, 0 without an answer.
func (c *cluster) status(id int, path string) int {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + c.http[id-1] + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestRequestLog: requests are logged when that is wanted, and the log's level changes
// while a node runs.
func TestRequestLog(t *testing.T) {
	c := startClusterWith(t, 1, 3*time.Second, func(int) []string { return []string{"--log-requests", "--log-format", "json"} })
	c.create("logs", 1)
	command(t, "hello\n", "kcat", "-b", c.kafka[0], "-P", "-t", "logs")
	waitFor(t, "a logged Produce", 10*time.Second, func() bool {
		return strings.Contains(c.node(1).logs(), `"msg":"request","api":"Produce"`)
	})
	change := func(level string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+c.http[0]+"/log/level", strings.NewReader(`{"level":"`+level+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("PUT /log/level: %s", resp.Status)
		}
	}
	change("error")
	before := c.node(1).logs()
	command(t, "hello\n", "kcat", "-b", c.kafka[0], "-P", "-t", "logs")
	if more := strings.TrimPrefix(c.node(1).logs(), before); strings.Contains(more, `"level":"INFO"`) && strings.Contains(more, `"api":"Produce"`) {
		t.Errorf("at level error it logged %s", more)
	}
	change("debug")
	c.raftsman("topic", "create", "more")
	waitFor(t, "messages at debug level", 10*time.Second, func() bool { return strings.Contains(c.node(1).logs(), `"level":"DEBUG"`) })
	for line := range bytes.Lines([]byte(c.node(1).logs())) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
}
