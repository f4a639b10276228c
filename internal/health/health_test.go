package health

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata with what Assess says now")

// Each script is lines that change a cluster of which node 1 is asked; what
// `health` says follows it, indented. go test -update writes that. A line `new`
// begins with an empty cluster.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			w := newWorld()
			for line := range strings.Lines(string(data)) {
				if strings.HasPrefix(line, "\t") {
					continue // what was said before
				}
				got.WriteString(line)
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				if line == "new" {
					w = newWorld()
					continue
				}
				for out := range strings.Lines(w.do(t, line)) {
					got.WriteString("\t" + out)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != string(data) {
				t.Errorf("%s differs; got:\n%s", file, got.String())
			}
		})
	}
}

// kinds are in the code as Kind: "…" or f.Kind = "…".
var kinds = regexp.MustCompile(`Kind(?:, [a-z.A-Z]+)? ?[:=]+ "([a-z-]+)"`)

// Every kind of finding is in a script, and in the operators' manual with what
// to do.
func TestEveryKindIsShownAndDocumented(t *testing.T) {
	sources, _ := filepath.Glob("*.go")
	scripts, _ := filepath.Glob("testdata/*.txt")
	read := func(names []string) string {
		var all strings.Builder
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		return all.String()
	}
	shown, manual := read(scripts), read([]string{"../../docs/operations/health.md"})
	found := map[string]bool{"operation-refused": true, "operation-failed": true} // made of the state
	for _, m := range kinds.FindAllStringSubmatch(read(sources), -1) {
		found[m[1]] = true
	}
	delete(found, "operation-")
	if len(found) < 20 {
		t.Fatalf("only %d kinds found in the code: %v", len(found), found)
	}
	for kind := range found {
		if !strings.Contains(shown, " "+kind+":") {
			t.Errorf("no script shows %s", kind)
		}
		if !strings.Contains(manual, "`"+kind+"`") {
			t.Errorf("docs/operations/health.md does not explain %s", kind)
		}
	}
}

// What programs get is whole, whatever the sentence names.
func TestReportIsComplete(t *testing.T) {
	w := newWorld()
	for _, line := range []string{"node 1", "node 2", "node 3", "topic big partitions=40 rf=3", "away 3 10m"} {
		w.do(t, line)
	}
	w.health()
	data, err := json.Marshal(Assess(w.in))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Findings) != 1 || len(back.Findings[0].Partitions) != 40 || len(back.Findings[0].What) > 200 {
		t.Errorf("got %s", data)
	}
	w.health()
	if again := Assess(w.in); !reflect.DeepEqual(again, Assess(w.in)) {
		t.Error("two reports of one input differ")
	}
}

func TestSpanAndSize(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1400 * time.Millisecond: "1s", 89 * time.Second: "89s", 4 * time.Minute: "4m", 3 * time.Hour: "3h",
		200 * time.Minute: "3h20m", 48 * time.Hour: "2d", 53 * time.Hour: "2d5h", 240 * time.Hour: "10d", 610 * time.Minute: "10h10m",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 20 << 20: "20 MiB", 5 << 40: "5.0 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// Whatever has happened to a cluster, a report says what and what to do, and is
// the same each time.
func TestAnyCluster(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("RAFTSMAN_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	lines := []string{
		"node %d", "node %d state=full", "node %d inc=other", "silent %d 5m", "away %d 20m", "unregistered %d", "lag t0/%d 1", "leaderless t1/%d",
		"moving t0/%d", "wish %d drained", "wish %d decommissioned", "forget %d", "winner %d", "key topics/t%d nonsense", "etcd %dm", "paused",
		"op o%d kind=drain node=3 state=running progress=1/0", "op x%d state=failed finished=1m", "op y%d kind=move topic=t0 state=odd", "frozen %d", "source disk", "disk stuck",
	}
	for range 300 {
		w := newWorld()
		for id := range 1 + rng.IntN(6) {
			w.do(t, fmt.Sprintf("node %d", id+1))
		}
		for i := range 2 {
			w.do(t, fmt.Sprintf("topic t%d partitions=%d rf=%d", i, 1+rng.IntN(6), 1+rng.IntN(len(w.in.View.Nodes))))
		}
		var story []string
		for range rng.IntN(12) {
			line := lines[rng.IntN(len(lines))]
			if strings.Contains(line, "%d") {
				line = fmt.Sprintf(line, 1+rng.IntN(7))
			}
			story = append(story, line)
			w.do(t, line)
		}
		w.health()
		r := Assess(w.in)
		worst := Healthy
		for _, f := range r.Findings {
			if f.Kind == "" || f.What == "" || f.Do == "" || f.Severity.rank() < 0 || len(f.What) > 1000 {
				t.Fatalf("%q: finding %+v", story, f)
			}
			if f.Severity != Info && f.Severity.rank() < worst.rank() {
				worst = f.Severity
			}
		}
		if r.State != worst || !reflect.DeepEqual(r, Assess(w.in)) {
			t.Fatalf("%q: state %s, the worst is %s", story, r.State, worst)
		}
	}
}
