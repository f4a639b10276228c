package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What excludes each other is said with both flags.
func TestWaysInExcludeEachOther(t *testing.T) {
	clearEnv(t)
	for _, tc := range []struct{ line, want string }{
		{"--discover --etcd-endpoints http://10.0.0.1:2379", "--discover and --etcd-endpoints (flag --etcd-endpoints) exclude each other"},
		{"--join 10.0.0.1:8080 --etcd-endpoints http://10.0.0.1:2379", "--join and --etcd-endpoints"},
		{"--discover --etcd-discovery-srv example.org", "--discover and --etcd-discovery-srv"},
		{"--discover --join 10.0.0.1:8080", "--discover and --join exclude each other"},
		{"--bootstrap", "--bootstrap needs --discover"},
		{"--bootstrap --join 10.0.0.1:8080", "--bootstrap needs --discover"},
		{"--join 10.0.0.1", "use HOST:PORT"},
		{"--discover --discover-group 10.0.0.1:7077", "is no IPv4 multicast address"},
		{"--discover --discover-timeout 10ms", "use 1s to 10m"},
		{"--discover --etcd-client-port 0", "use 1 to 65535"},
		{"--discover --etcd-client-port 2380", "etcd needs two"},
		{"--discover --cluster-secret-file /does/not/exist", "--cluster-secret-file /does/not/exist"},
	} {
		_, err := execute(t, append([]string{"serve", "--data-dir", t.TempDir()}, strings.Fields(tc.line)...)...)
		if err == nil || !strings.Contains(err.Error(), tc.want) || exitCode(err) != exitUsage {
			t.Errorf("%s: got %v (exit code %d), want %q", tc.line, err, exitCode(err), tc.want)
		}
	}
	// etcdctl's own variables are no such order.
	t.Setenv("ETCDCTL_ENDPOINTS", "http://10.0.0.1:2379")
	if _, err := execute(t, "config", "print", "--discover"); err != nil {
		t.Errorf("with ETCDCTL_ENDPOINTS: %v", err)
	}
}

// A node that joins through another one believes it in bounds only.
func TestJoinRefuses(t *testing.T) {
	clearEnv(t)
	answer := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
	defer srv.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("correct horse battery staple"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := `{"cluster":"default","cluster_id":"c1","etcd":["http://127.0.0.1:1"],"nodes":[]}`
	belonging := t.TempDir()
	if err := os.WriteFile(filepath.Join(belonging, "identity.json"), []byte(`{"cluster_id":"c0","node":3,"incarnation":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ line, answer, want string }{
		{"", `{"cluster":"other","cluster_id":"c1","etcd":["http://127.0.0.1:1"]}`, `is a node of the cluster named "other", and --cluster says "default"`},
		{"", "nonsense", "no node's"},
		{"--cluster-secret-file " + secret, good, "did not sign"},
		{"--data-dir " + belonging, good, "belongs to cluster c0"},
	} {
		answer = tc.answer
		args := append([]string{"serve", "--data-dir", t.TempDir(), "--discover-timeout", "1s", "--join", strings.TrimPrefix(srv.URL, "http://")}, strings.Fields(tc.line)...)
		if _, err := execute(t, args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, answered %s: got %v, want %q", tc.line, tc.answer, err, tc.want)
		}
	}
}
