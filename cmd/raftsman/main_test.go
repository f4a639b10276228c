package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// execute runs a command line and returns its standard output.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// quiet keeps run's messages out of the tests' output.
func quiet(t *testing.T) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null
	t.Cleanup(func() {
		os.Stdout, os.Stderr = stdout, stderr
		null.Close()
	})
}

// deadAddr is an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestExitCodes(t *testing.T) {
	clearEnv(t)
	quiet(t)
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer srv.Close()
	dead := deadAddr(t)
	for _, tc := range []struct {
		line string
		want int
	}{
		{"", 0},
		{"--help", 0},
		{"version", 0},
		{"version -o yaml", 0},
		{"healthcheck --http " + srv.URL, 0},
		{"healthcheck --http " + dead, 1},
		{"node list --http " + dead, 1},
		{"node list --http " + srv.URL, 1}, // no JSON
		{"cluster status --http " + dead, 1},
		{"topic list --brokers " + dead, 1},
		{"consume t --brokers " + dead, 1},
		{"produce t --brokers " + dead, 1},
		{"produce t --file /does/not/exist", 1},
		{"nonsense", 2},
		{"topic", 2},
		{"topic nonsense", 2},
		{"topic create", 2},
		{"topic describe a b", 2},
		{"topic alter t", 2},
		{"topic alter t --config retention.ms", 2},
		{"topic alter t --delete-config retention.ms=1", 2},
		{"topic alter t --partitions 0", 2},
		{"topic alter t --partitions 3 --brokers " + dead, 1},
		{"topic list extra", 2},
		{"topic list --broker x", 2},
		{"topic list -o xml", 2},
		{"topic list --brokers ,", 2},
		{"consume t --offset middle", 2},
		{"consume t --partition -2", 2},
		{"consume t -n -1", 2},
		{"consume t -o xml", 2},
		{"consume t -o json --print-key", 2},
		{"consume t --until middle", 2},
		{"consume t --key /(/", 2},
		{"consume t --header =x", 2},
		{"consume t --group g --until 5", 2},
		{"consume t --group g --partition 0", 2},
		{"consume t --format {{.Nothing}}", 2},
		{"produce t --format xml", 2},
		{"produce t --format json --key k", 2},
		{"produce t --keep-partitions", 2},
		{"produce t --header x", 2},
		{"produce t --rate -1", 2},
		{"produce t --acks 2", 2},
		{"produce t --compression rar", 2},
		{"produce t --partition x", 2},
		{"healthcheck --http ftp://x", 2},
		{"config print --config /does/not/exist", 2},
		{"config print --log-level loud", 2},
		{"serve extra", 2},
	} {
		if got := run(context.Background(), strings.Fields(tc.line)); got != tc.want {
			t.Errorf("raftsman %s: exit code %d, want %d", tc.line, got, tc.want)
		}
	}
	status = http.StatusServiceUnavailable
	if got := run(context.Background(), []string{"healthcheck", "--http", srv.URL}); got != 1 {
		t.Errorf("a node that is not ready: exit code %d, want 1", got)
	}
}

func TestUnknownFlagSuggestion(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"topic list --broker x", "did you mean --brokers?"},
		{"serve --datadir x", "did you mean --data-dir?"},
		{"serve --zzzzzzzzzzzzzz x", "see raftsman serve --help"},
	} {
		if _, err := execute(t, strings.Fields(tc.line)...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("raftsman %s: got %v, want %q", tc.line, err, tc.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"brokers", "http", "partitions", "data-dir"}
	for _, tc := range []struct{ name, want string }{
		{"broker", "brokers"},
		{"htpp", "http"},
		{"partition", "partitions"},
		{"datadir", "data-dir"},
		{"http", "http"},
		{"nothing-like-it", ""},
	} {
		if got := nearest(tc.name, names); got != tc.want {
			t.Errorf("nearest(%q) = %q, want %q", tc.name, got, tc.want)
		}
	}
	if got := nearestName("nope", []string{"copy"}); got != "" {
		t.Errorf("%q passes for nope", got)
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 2}} {
		if got := edits(tc.a, tc.b); got != tc.want {
			t.Errorf("edits(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// Every command says what it is for, and every flag what it does.
func TestEverythingHasHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no Short", cmd.CommandPath())
		}
		if cmd.Example == "" {
			t.Errorf("%s has no Example", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}
