package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"gopkg.in/yaml.v3"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

var updateMetrics = flag.Bool("update-metrics", false, "rewrite the tables of docs/metrics.md")

// family is a metric as it is registered.
type family struct {
	name, kind, help string
	labels           []string
}

// recorder notes all that is registered, whether it has a value yet or not.
type recorder struct {
	*prometheus.Registry
	mu  sync.Mutex
	all map[string]family
}

func (r *recorder) Register(c prometheus.Collector) error {
	r.note(c)
	return r.Registry.Register(c)
}

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", (?:unit: "[^"]*", )?constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}\}$`)

func (r *recorder) note(c prometheus.Collector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	descs := make(chan *prometheus.Desc)
	go func() { c.Describe(descs); close(descs) }()
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			panic("the description of a metric reads otherwise: " + d.String())
		}
		f := family{name: m[1], help: strings.ReplaceAll(m[2], `\"`, `"`), kind: "gauge"}
		if m[3] != "" {
			f.labels = strings.Split(m[3], ",")
		}
		switch c.(type) {
		case prometheus.Histogram, *prometheus.HistogramVec:
			f.kind = "histogram"
		default:
			if strings.HasSuffix(f.name, "_total") {
				f.kind = "counter"
			}
		}
		r.all[f.name] = f
	}
}

// exported is what a node that runs has registered, and what it serves.
func exported(t *testing.T) (map[string]family, []*dto.MetricFamily) {
	t.Helper()
	logger, err := newLogger(io.Discard, "error", "text")
	if err != nil {
		t.Fatal(err)
	}
	etcd := testetcd.Start(t)
	cfg := node.Config{
		NodeID: 1, DataDir: filepath.Join(t.TempDir(), "node"), Logger: logger, SessionTTL: 2 * time.Second,
		Listeners: []node.KafkaListener{{Name: "default", Addr: "127.0.0.1:0"}}, HTTPAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
	}
	cfg.Etcd.Endpoints = []string{etcd.Endpoint()}
	observe(&cfg)
	r := &recorder{Registry: cfg.Registerer.(*prometheus.Registry), all: make(map[string]family)}
	cfg.Registerer = r
	r.note(logger.Handler().(logHandler).messages.all)
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("the node is not ready after 30 s")
	}
	families, err := r.Gather()
	if err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	left, err := r.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range left {
		if name := f.GetName(); strings.HasPrefix(name, "raftsman_") && name != "raftsman_log_messages_total" {
			t.Errorf("%s is still registered after the node has ended", name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.all), families
}

// TestMetrics holds what a node exports against the rules of Prometheus, against
// docs/metrics.md (go test ./cmd/raftsman -run TestMetrics -update-metrics writes
// its tables), and what the alerts and the dashboard ask for against what there is.
func TestMetrics(t *testing.T) {
	all, families := exported(t)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "raftsman_") {
			continue
		}
		if r, ok := all[f.GetName()]; ok && r.kind != strings.ToLower(f.GetType().String()) {
			t.Errorf("%s is a %s", r.name, f.GetType())
		} else if !ok {
			t.Errorf("%s was not registered by Register", f.GetName())
		}
		if series := len(f.GetMetric()); series > 100 {
			t.Errorf("%s has %d series", f.GetName(), series)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, f := range all {
		if !strings.HasPrefix(f.name, "raftsman_") || !strings.HasSuffix(f.help, ".") || strings.ContainsAny(f.help, "\n|") {
			t.Errorf("%s: %q is no sentence for a table", f.name, f.help)
		}
		for _, l := range f.labels {
			if slices.Contains([]string{"topic", "client", "group", "remote"}, l) && !strings.HasPrefix(f.name, "raftsman_topic_") {
				t.Errorf("%s has a label %s, for which there is no bound", f.name, l)
			}
		}
	}
	t.Run("documented", func(t *testing.T) { checkDocs(t, all) })
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, all) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, all) })
}

// areas are the tables of docs/metrics.md: the first that fits a metric has it.
var areas = []struct{ title, prefixes string }{
	{"Kafka clients", "kafka_"},
	{"Consumer groups", "group_ groups_ coordinator_"},
	{"Topics", "topic_"},
	{"Partitions and replication", "partitions replicas commit leaderships_ failover_ follower_ segment topics"},
	{"Catching up", "catchup_"},
	{"Compaction", "compaction"},
	{"Disk", "disk_ wal_"},
	{"Other nodes", "raftnet_ nodes"},
	{"etcd, the winner, operations", "etcd_ winner metadata_ operations"},
	{"HTTP", "http_"},
	{"The node", ""},
}

func tables(all map[string]family) string {
	of := make(map[string][]family)
	for _, f := range all {
		for _, a := range areas {
			if fits(strings.TrimPrefix(f.name, "raftsman_"), a.prefixes) {
				of[a.title] = append(of[a.title], f)
				break
			}
		}
	}
	var b strings.Builder
	for _, a := range areas {
		if len(of[a.title]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| name | type | labels | what |\n|---|---|---|---|\n", a.title)
		slices.SortFunc(of[a.title], func(x, y family) int { return cmp.Compare(x.name, y.name) })
		for _, f := range of[a.title] {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.labels, ", "), f.help)
		}
	}
	return b.String()
}

func fits(name, prefixes string) bool {
	if prefixes == "" {
		return true
	}
	return slices.ContainsFunc(strings.Fields(prefixes), func(p string) bool { return strings.HasPrefix(name, p) })
}

const tablesBegin = "<!-- from here on generated: go test ./cmd/raftsman -run TestMetrics -update-metrics -->\n"

func checkDocs(t *testing.T, all map[string]family) {
	const path = "../../docs/metrics.md"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, have, ok := strings.Cut(string(content), tablesBegin)
	if !ok {
		t.Fatalf("%s lacks the line %q", path, tablesBegin)
	}
	want := tables(all)
	if *updateMetrics {
		if err := os.WriteFile(path, []byte(head+tablesBegin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	documented, registered := strings.Split(have, "\n"), strings.Split(want, "\n")
	for _, line := range registered {
		if !slices.Contains(documented, line) {
			t.Errorf("docs/metrics.md lacks %s", line)
		}
	}
	for _, line := range documented {
		if !slices.Contains(registered, line) {
			t.Errorf("docs/metrics.md has what there is not: %s", line)
		}
	}
	if !t.Failed() && have != want {
		t.Error("the tables of docs/metrics.md are in another order")
	}
}

var metricName = regexp.MustCompile(`\braftsman_[a-z0-9_]+`)

// known says whether a name in a query is a metric, or one of a histogram's.
func known(all map[string]family, name string) bool {
	if f, ok := all[name]; ok {
		return f.kind != "histogram" // has no value of its own
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if f, ok := all[strings.TrimSuffix(name, suffix)]; ok && f.kind == "histogram" && strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func checkQuery(t *testing.T, all map[string]family, where, query string) {
	t.Helper()
	for _, name := range metricName.FindAllString(query, -1) {
		if !known(all, name) {
			t.Errorf("%s asks for %s, which no node exports", where, name)
		}
	}
}

func checkAlerts(t *testing.T, all map[string]family) {
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	parse(t, "../../deploy/prometheus/raftsman-alerts.yml", yaml.Unmarshal, &rules)
	tests := fileText(t, "../../deploy/prometheus/raftsman-alerts_test.yml")
	manual := fileText(t, "../../docs/operations/troubleshooting.md")
	alerts := make(map[string]bool)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = true
			checkQuery(t, all, r.Alert, r.Expr)
			if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			for _, a := range []string{"summary", "description"} {
				if r.Annotations[a] == "" {
					t.Errorf("%s has no %s", r.Alert, a)
				}
			}
			if link := r.Annotations["runbook_url"]; !strings.HasSuffix(link, "/docs/operations/troubleshooting.md#"+strings.ToLower(r.Alert)) {
				t.Errorf("%s: runbook_url %q", r.Alert, link)
			}
			if !strings.Contains(manual, "\n### "+r.Alert+"\n") {
				t.Errorf("docs/operations/troubleshooting.md does not say what to do about %s", r.Alert)
			}
			if !strings.Contains(tests, `"`+r.Alert+`"`) {
				t.Errorf("no test has %s fire", r.Alert)
			}
		}
	}
	for _, m := range regexp.MustCompile(`\n### (Raftsman\w+)\n`).FindAllStringSubmatch(manual, -1) {
		if !alerts[m[1]] {
			t.Errorf("docs/operations/troubleshooting.md explains %s, which is no alert", m[1])
		}
	}
}

func checkDashboard(t *testing.T, all map[string]family) {
	var d struct {
		Title, UID    string
		SchemaVersion int
		Templating    struct {
			List []struct {
				Name, Type string
				Query      any
			}
		}
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, RefID string }
		}
	}
	parse(t, "../../deploy/grafana/raftsman.json", json.Unmarshal, &d)
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 {
		t.Errorf("title %q, uid %q, schema version %d", d.Title, d.UID, d.SchemaVersion)
	}
	variables := make(map[string]bool)
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		checkQuery(t, all, "variable "+v.Name, fmt.Sprint(v.Query))
	}
	used := regexp.MustCompile(`\$\{?([a-z]\w*)`)
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.X < 0 || g.W < 1 || g.X+g.W > 24 || g.H < 1 {
			t.Errorf("%s: place %+v", p.Title, g)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			if q.Expr == "" || q.RefID == "" {
				t.Errorf("%s: query %+v", p.Title, q)
			}
			checkQuery(t, all, p.Title, q.Expr)
			for _, m := range used.FindAllStringSubmatch(q.Expr, -1) {
				if !variables[m[1]] {
					t.Errorf("%s uses $%s, which is no variable", p.Title, m[1])
				}
			}
		}
	}
}

func parse(t *testing.T, path string, unmarshal func([]byte, any) error, into any) {
	t.Helper()
	if err := unmarshal([]byte(fileText(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLogs: what is logged is counted by level, and the level can be changed while
// the process runs, also for loggers that were made before.
func TestLogs(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out strings.Builder
		logger, err := newLogger(&out, "warn", format)
		if err != nil {
			t.Fatal(err)
		}
		cfg := node.Config{Logger: logger}
		observe(&cfg)
		of := logger.With("node", 1).WithGroup("g")
		of.Info("unheard")
		of.Error("heard")
		cfg.LogLevel.Set(slog.LevelDebug)
		of.Debug("heard too")
		if lines := strings.Count(out.String(), "\n"); lines != 2 || strings.Contains(out.String(), "unheard") {
			t.Errorf("%s: %q", format, out.String())
		}
		if json.Valid([]byte(strings.SplitN(out.String(), "\n", 2)[0])) != (format == "json") {
			t.Errorf("%s: %q", format, out.String())
		}
		families, err := cfg.Registerer.(*prometheus.Registry).Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, f := range families {
			if f.GetName() == "raftsman_log_messages_total" {
				for _, m := range f.GetMetric() {
					got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
		if want := map[string]float64{"debug": 1, "info": 0, "warn": 0, "error": 1}; !maps.Equal(got, want) {
			t.Errorf("%s: counted %v", format, got)
		}
	}
}
