package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongSettings runs the real commands with one wrong thing each. The error
// names the key, the value, where it came from and what is allowed, or the
// nearest right name; the exit code is 2.
func TestWrongSettings(t *testing.T) {
	for _, tc := range []struct {
		name, line, file, env string
		want                  []string
	}{
		// Keys of the file.
		{"unknown key", "", "rack: a\n\netcd-endpoint: x\n", "", []string{`line 3`, `unknown key "etcd-endpoint"`, `did you mean "etcd-endpoints"?`}},
		{"unknown key, underscores", "", "etcd_endpoint: x\n", "", []string{"line 1", `"etcd_endpoint"`, `"etcd-endpoints"`}},
		{"far from any key", "", "zzzzzzzzzzzz: 1\n", "", []string{`unknown key "zzzzzzzzzzzz"`, "config print"}},
		{"two unknown keys", "", "dta-dir: x\nrak: x\n", "", []string{`line 1: unknown key "dta-dir"`, `line 2: unknown key "rak"`, `"rack"`}},
		{"twice", "", "rack: a\ncluster: c\nrack: b\n", "", []string{"line 3", `"rack"`, "line 1 already"}},
		{"twice, spelt differently", "", "data-dir: a\ndata_dir: b\n", "", []string{"line 2", `"data_dir"`, "line 1 already"}},
		// Types in the file.
		{"map", "", "etcd-prefix: {a: b}\n", "", []string{"line 1", `"etcd-prefix"`, "not a map"}},
		{"list where there is one value", "", "rack: [a, b]\n", "", []string{"line 1", "rack", "not a list"}},
		{"list of lists", "", "etcd-endpoints: [[a]]\n", "", []string{"line 1", `"etcd-endpoints"`}},
		{"no value", "", "cluster: c\nrack:\n", "", []string{"line 2", `"rack"`, "no value"}},
		{"not a number", "", "node-id: one\n", "", []string{"line 1", "node-id", `"one"`, "whole number"}},
		{"too large a number", "", "node-id: 3000000000\n", "", []string{"line 1", "node-id", `"3000000000"`, "2147483647"}},
		{"not a duration", "", "session-ttl: 10\n", "", []string{"line 1", "session-ttl", `"10"`, "10s"}},
		{"not a bool", "", "pprof: maybe\n", "", []string{"line 1", "pprof", `"maybe"`, "true or false"}},
		// The file itself.
		{"no YAML", "", "rack: a\nb: c: d\n", "", []string{"--config", "line 2"}},
		{"a list", "", "- a\n", "", []string{"line 1", "key: value"}},
		{"two documents", "", "rack: a\n---\nrack: b\n", "", []string{"one YAML document"}},
		{"binary", "", "\x00\x01\x02", "", []string{"--config"}},
		// The environment.
		{"unknown variable", "", "", "RAFTSMAN_ETCD_ENDPOINT=x", []string{"RAFTSMAN_ETCD_ENDPOINT:", "did you mean RAFTSMAN_ETCD_ENDPOINTS?"}},
		{"not a number in a variable", "", "", "RAFTSMAN_NODE_ID=one", []string{"environment RAFTSMAN_NODE_ID", "node-id", `"one"`, "whole number"}},
		{"not a bool in a variable", "", "", "RAFTSMAN_AUTO_CREATE_TOPICS=ja", []string{"environment RAFTSMAN_AUTO_CREATE_TOPICS", `"ja"`, "true or false"}},
		// Flags.
		{"unknown flag", "--etcd-endpoint=x", "", "", []string{"--etcd-endpoint", "did you mean --etcd-endpoints?"}},
		{"not a number in a flag", "--node-id=one", "", "", []string{"--node-id", `"one"`, "whole number"}},
		{"not a duration in a flag", "--session-ttl=10", "", "", []string{"--session-ttl", `"10"`, "10s"}},
		{"listener", "--kafka-listener=9092", "", "", []string{"--kafka-listener", `"9092"`, "NAME=ADDR"}},
		{"log level", "--log-level=loud", "", "", []string{"--log-level", `"loud"`, "debug, info, warn or error"}},
		// Values of the right type that make no sense: only serve checks them.
		{"value in the file", "serve", "rack: r\nsession-ttl: 1s\n", "", []string{"--session-ttl", `"1s"`, "line 2", "2s or more"}},
		{"value in a variable", "serve", "", "RAFTSMAN_RAFT_STORE=rocks", []string{"--raft-store", `"rocks"`, "environment RAFTSMAN_RAFT_STORE", "wal or boltdb"}},
		{"value of a flag", "serve --segment-bytes=1", "", "", []string{"--segment-bytes", `"1"`, "16384"}},
		{"nothing given", "serve", "", "", []string{"--data-dir", "not set"}},
		{"several", "serve --node-id=-1", "wal-file-size: 5\n", "", []string{"--node-id", "--data-dir", "--wal-file-size", "line 1"}},
		{"memory", "serve", "kafka-max-request-memory: 5\n", "", []string{"--kafka-max-request-memory", `"5"`, "line 1", "1048576"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clearEnv(t)
			if name, value, ok := strings.Cut(tc.env, "="); ok {
				t.Setenv(name, value)
			}
			path := filepath.Join(t.TempDir(), "raftsman.yaml")
			if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			args := strings.Fields(tc.line)
			if len(args) == 0 || strings.HasPrefix(args[0], "-") {
				args = append([]string{"config", "print"}, args...)
			}
			_, err := execute(t, append(args, "--config", path)...)
			var usage usageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
		})
	}
}

// TestRightSettings: what is allowed is not refused.
func TestRightSettings(t *testing.T) {
	for _, tc := range []struct{ name, file, env, want string }{
		{"empty file", "", "", ""},
		{"comments", "# nothing\n", "", ""},
		{"null", "~\n", "", ""},
		{"list", "etcd-endpoints: [http://a:1, http://b:2]\n", "", "http://a:1,http://b:2"},
		{"list in one value", "etcd-endpoints: http://a:1,http://b:2\n", "", "http://a:1,http://b:2"},
		{"listeners", "kafka-listener:\n  - a=127.0.0.1:1,advertise=h:1\n  - b=127.0.0.1:2\n", "", "a=127.0.0.1:1,advertise=h:1"},
		{"quoted number", "node-id: \"7\"\n", "", "7"},
		{"empty string", "rack: \"\"\n", "", ""},
		{"alias", "rack: &r here\ncluster: *r\n", "", "here"},
		{"Kubernetes' variables", "", "RAFTSMAN_HTTP_ADDR_SERVICE_HOST=1.2.3.4", ""},
		{"Kubernetes' ports", "", "RAFTSMAN_PORT_9092_TCP_ADDR=1.2.3.4", ""},
		{"another program's", "", "RAFTSMAN_SOMETHING_ELSE_ENTIRELY=1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clearEnv(t)
			if name, value, ok := strings.Cut(tc.env, "="); ok {
				t.Setenv(name, value)
			}
			path := filepath.Join(t.TempDir(), "raftsman.yaml")
			if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := execute(t, "config", "print", "--config", path)
			if err != nil || !strings.Contains(out, tc.want) {
				t.Errorf("%v; want %q in:\n%s", err, tc.want, out)
			}
		})
	}
}

// TestWrongCommands name what is near.
func TestWrongCommands(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"topc list", "topic"},
		{"topic lst", "list"},
		{"serv", "serve"},
		{"topic list --broker x", "--brokers"},
		{"produce t --act all", "--acks"},
		{"node lst", "list"},
		{"config show", "config"},
	} {
		_, err := execute(t, strings.Fields(tc.line)...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("raftsman %s: got %v, want %q", tc.line, err, tc.want)
		}
	}
}
