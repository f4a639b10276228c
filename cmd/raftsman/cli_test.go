package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/health"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// commandCase is how a command is tried: with -o json, and so that it fails.
type commandCase struct {
	path  string // "topic create"
	json  string // its arguments; "" for a command that shows nothing, and why
	why   string
	code  int    // of json
	input string // of json, on standard input
	fails string // its arguments
}

// commandCases are in an order in which each finds what it needs. {next} is a
// replica of orders/0 that does not lead, {data} the directory of a stopped node,
// {out} a directory to write to, {dead} an address where nobody listens.
var commandCases = []commandCase{
	{path: "version", json: "-o json", fails: "extra"},
	{path: "completion", why: "a script", fails: "tcsh"},
	{path: "serve", why: "it runs until it is stopped", fails: "--node-id -1 --data-dir {out}/node"},
	{path: "gateway", why: "it runs until it is stopped", fails: "--addr nowhere"},
	{path: "dev", why: "it runs until it is stopped", fails: "--nodes 0"},
	{path: "healthcheck", json: "-o json", fails: "--http {dead}"},
	{path: "config print", json: "-o json", fails: "--config {out}/none.yaml"},

	{path: "topic create", json: "orders --partitions 2 -o json", fails: "orders"},
	{path: "topic list", json: "-o json", fails: "--brokers {dead}"},
	{path: "topic alter", json: "orders --config retention.ms=86400000 -o json", fails: "orders --config retention.mss=1"},
	{path: "topic describe", json: "orders -o json", fails: "ordres"},
	{path: "produce", json: "orders --key k --header source=test -o json", input: "a\nb\nc\n", fails: "orders --partition 7"},
	{path: "consume", json: "orders -o json", fails: "orders --partition 2"},

	{path: "partition list", json: "--topic orders -o json", fails: "--topic ordres"},
	{path: "partition transfer", json: "orders/0 --to {next} -o json", fails: "orders --to 1"},
	{path: "partition move", json: "orders/0 --to 1,2,3 -o json", fails: "orders/0 --to 1,1"},
	{path: "node list", json: "-o json", fails: "--http {dead}"},
	{path: "node describe", json: "1 -o json", fails: "7"},
	{path: "node drain", json: "3 -o json", fails: "three"},
	{path: "node undrain", json: "3 -o json", fails: "0"},
	{path: "node decommission", json: "3 --force --no-wait --id gone -o json", fails: "3 --no-wait --id gone"},
	{path: "ops cancel", json: "gone -o json", fails: "nothing"},
	{path: "ops wait", json: "gone -o json", code: exitCancelled, fails: "nothing"},
	{path: "ops list", json: "-o json", fails: "--http {dead},{dead}"},
	{path: "ops describe", json: "gone -o json", fails: "nothing"},

	{path: "partition recover", json: "orders 0 -o json", code: exitFailed, fails: "orders x"},

	{path: "cluster status", json: "-o json", fails: "--http {dead}"},
	{path: "cluster health", json: "-o json", code: -1, fails: "--http {dead}"},
	{path: "cluster verify", json: "orders --quiet -o json", fails: "ordres"},
	{path: "cluster rebalance pause", json: "-o json", fails: "--http {dead}"},
	{path: "cluster rebalance resume", json: "-o json", fails: "now"},
	{path: "cluster rebalance status", json: "-o json", fails: "--watch --interval 1ms"},
	{path: "cluster restore-metadata", json: "--dry-run --force --cluster test -o json", fails: "--cluster a/b"},

	{path: "group reset", json: "billing --to start --topic orders --execute -o json", fails: "billing --to middle"},
	{path: "group list", json: "-o json", fails: "--brokers {dead}"},
	{path: "group describe", json: "billing -o json", fails: "biling"},
	{path: "group delete", json: "billing -o json", fails: "billing"},

	{path: "bench produce", json: "--records 200 -o json", fails: "--acks 0"},
	{path: "bench consume", json: "--fill 200 -o json", fails: "ordres"},
	{path: "bench failover", json: "orders --duration 600ms --transfer 1 --every 100ms -o json", fails: "--threshold 1us"},

	{path: "debug wal", json: "{data} -o json", fails: "{out}/nowhere"},
	{path: "debug segment", json: "{data} -o json", fails: "{out}"},
	{path: "debug manifest", json: "{data} -o json", fails: "{out}"},
	{path: "debug bundle", json: "--file {out}/bundle.tar.gz -o json", fails: "--file {out}/no/bundle.tar.gz"},

	{path: "backup create", json: "{out}/backup orders --quiet -o json", fails: "{out}/backup2 --brokers {dead} --quiet"},
	{path: "backup list", json: "{out}/backup -o json", fails: "{out}/backup orders"},
	{path: "backup verify", json: "{out}/backup --quiet -o json", fails: "{out}/nowhere"},
	{path: "backup restore", json: "{out}/backup --rename orders=restored --quiet -o json", fails: "{out}/nowhere --quiet"},
	{path: "torture check", json: "testdata/torture-history.jsonl -o json", fails: "{out}/none.jsonl"},
	{path: "manpages", why: "it writes files", fails: "{out}/man {out}/more"},

	{path: "topic delete", json: "orders -o json", fails: "orders"},
}

// changing are fields that are there or not as time goes by.
var changing = []string{"away_since", "behind", "bytes", "delete", "differences", "finished", "findings", "gaps", "lagging", "load", "moving", "offline", "progress", "reason", "since", "started", "was", "wish", "wiped"}

// TestCommands tries every command against one cluster, and compares its help, the
// fields of its JSON and what it says when it fails with testdata/cli; go test
// -run TestCommands -update writes that.
func TestCommands(t *testing.T) {
	clearEnv(t)
	c := testcluster.Start(t, 3, func(cfg *node.Config) {
		cfg.PprofEnabled, cfg.DrainTimeout = true, -1 // all nodes stop together
	})
	var brokers, https []string
	for id := int32(1); id <= 3; id++ {
		brokers, https = append(brokers, c.Member(id).Node.KafkaAddr()), append(https, c.Member(id).Node.HTTPAddr())
	}
	t.Setenv("RAFTSMAN_BROKERS", strings.Join(brokers, ","))
	t.Setenv("RAFTSMAN_HTTP", strings.Join(https, ","))
	places := map[string]string{"{data}": madeDataDir(t), "{out}": t.TempDir(), "{dead}": deadAddr(t)}
	t.Run("a topic that is made by writing to it", func(t *testing.T) { checkRecords(t, places) })
	t.Run("what is in a bundle", func(t *testing.T) { checkBundle(t, places) })
	done := make(map[string]bool)
	for _, tc := range commandCases {
		done[tc.path] = true
		t.Run(tc.path, func(t *testing.T) {
			if strings.Contains(tc.json, "{next}") {
				places["{next}"] = nextReplica(t)
			}
			golden(t, filepath.Join("cli", strings.ReplaceAll(tc.path, " ", "-")), tc.try(t, places))
		})
	}
	eachCommand(newRoot(), func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "raftsman ")
		if !cmd.HasSubCommands() && !done[path] {
			t.Errorf("%q has no case in commandCases", path)
		}
		delete(done, path)
	})
	for path := range done {
		t.Errorf("there is no command %q", path)
	}
}

// checkRecords writes to a topic that does not exist yet, reads it in some ways, and
// copies it by way of JSON.
func checkRecords(t *testing.T, places map[string]string) {
	ok := func(input, line, want string) string {
		t.Helper()
		path, args, _ := strings.Cut(line, " ")
		try := commandCase{path: path, input: input}
		out, errs, code := try.typed(t, places, args)
		if code != 0 || want != "" && out+errs != want {
			t.Errorf("%s: exit code %d, got\n%s%s", line, code, out, errs)
		}
		return out
	}
	ok("a:1\nb:2\nc:3\nc:4\n", "produce fresh --acks 1 --key-separator : --header h=x --compression zstd", "4 records\n")
	ok("", "consume fresh --print-key", "a\t1\nb\t2\nc\t3\nc\t4\n")
	ok("", "consume fresh --offset -2", "3\n4\n")
	ok("", "consume fresh --offset 1 --until 3", "2\n3\n")
	ok("", "consume fresh --offset @-1h --key c --max 1", "3\n")
	ok("", "consume fresh --until @-1h", "")
	ok("", "consume fresh --follow --until @0s --header h=/^x$/ --value /[24]/", "2\n4\n") // does not wait for ever
	ok("", "consume fresh --group readers --max 3", "1\n2\n3\n")
	ok("", "consume fresh --group readers --max 1", "4\n")
	lines := ok("", "consume fresh --format json", "")
	ok(lines, "produce copy --format json --keep-partitions", "4 records\n")
	if got := ok("", "consume copy --format json", ""); strings.ReplaceAll(got, `"copy"`, `"fresh"`) != lines {
		t.Errorf("got\n%s of\n%s", got, lines)
	}
}

func eachCommand(cmd *cobra.Command, f func(cmd *cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, f)
	}
}

// try returns all that is compared.
func (tc *commandCase) try(t *testing.T, places map[string]string) string {
	t.Helper()
	help, _, _ := tc.typed(t, places, "--help")
	got := "$ raftsman " + tc.path + " --help\n" + help
	if tc.json != "" {
		out, errs, code := tc.typed(t, places, tc.json)
		if code != tc.code && tc.code >= 0 {
			t.Errorf("%s: exit code %d\n%s%s", tc.json, code, out, errs)
		}
		got += "\n$ raftsman " + tc.path + " " + tc.json + "\n" + jsonShape(t, out)
	} else if tc.why == "" {
		t.Error("neither JSON nor why there is none")
	}
	out, errs, code := tc.typed(t, places, tc.fails)
	if code == 0 || errs == "" {
		t.Errorf("%s: exit code %d, %q", tc.fails, code, errs)
	}
	return got + fmt.Sprintf("\n$ raftsman %s %s\n%s%sexit code %d\n", tc.path, tc.fails, masks(out, places), masks(errs, places), code)
}

func (tc *commandCase) typed(t *testing.T, places map[string]string, args string) (stdout, stderr string, code int) {
	t.Helper()
	for name, value := range places {
		args = strings.ReplaceAll(args, name, value)
	}
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(tc.input))
	root.SetArgs(strings.Fields(tc.path + " " + args))
	err := root.ExecuteContext(t.Context())
	if err != nil {
		fmt.Fprintln(&errs, "raftsman:", err)
	}
	return out.String(), errs.String(), exitCode(err)
}

var address = regexp.MustCompile(`127\.0\.0\.1:\d{4,5}`)

// masks replaces what differs from run to run.
func masks(text string, places map[string]string) string {
	for name, value := range places {
		if len(value) > 2 {
			text = strings.ReplaceAll(text, value, name)
		}
	}
	text = regexp.MustCompile(regexp.QuoteMeta(os.Getenv("RAFTSMAN_BROKERS"))).ReplaceAllString(text, "BROKERS")
	return address.ReplaceAllStringFunc(text, func(a string) string {
		if slices.Contains([]string{"127.0.0.1:9092", "127.0.0.1:8080", "127.0.0.1:7070", "127.0.0.1:2379"}, a) {
			return a // in a text, as an example
		}
		return "ADDRESS"
	})
}

// jsonShape is the type of each field of a document, or of the lines of several.
func jsonShape(t *testing.T, text string) string {
	t.Helper()
	var all any
	for dec := json.NewDecoder(strings.NewReader(text)); dec.More(); {
		var doc any
		if err := dec.Decode(&doc); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all = mergeShapes(all, shapeOf(doc))
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil || all == nil {
		t.Fatalf("%v: no JSON in %q", err, text)
	}
	return string(b) + "\n"
}

func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		fields := make(map[string]any)
		for k, f := range v {
			if !slices.Contains(changing, k) {
				fields[k] = shapeOf(f)
			}
		}
		return fields
	case []any:
		var item any
		for _, i := range v {
			item = mergeShapes(item, shapeOf(i))
		}
		if item == nil {
			return []any{}
		}
		return []any{item}
	case nil:
		return nil
	}
	return map[string]string{"string": "text", "float64": "number", "bool": "truth"}[fmt.Sprintf("%T", v)]
}

// mergeShapes has the fields of both.
func mergeShapes(a, b any) any {
	x, ok := a.(map[string]any)
	y, both := b.(map[string]any)
	switch {
	case a == nil:
		return b
	case ok && both:
		all := maps.Clone(x)
		for k, v := range y {
			all[k] = mergeShapes(all[k], v)
		}
		return all
	case b != nil && fmt.Sprint(a) == "[]":
		return b
	}
	return a
}

// nextReplica is a replica of orders/0 that can be its next leader.
func nextReplica(t *testing.T) string {
	t.Helper()
	var next string
	testetcd.Eventually(t, "a replica that can lead", func() bool {
		out, err := execute(t, "partition", "list", "--topic", "orders", "-o", "json")
		if err != nil {
			t.Fatal(err)
		}
		var list []health.Partition
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) == 0 {
			t.Fatalf("%v in %s", err, out)
		}
		for _, node := range list[0].InSync {
			if node != list[0].Leader {
				next = fmt.Sprint(node)
			}
		}
		return next != ""
	})
	return next
}
