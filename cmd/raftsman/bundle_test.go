package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkBundle gathers a bundle of a cluster of three, and looks into it.
func checkBundle(t *testing.T, places map[string]string) {
	dir := places["{out}"]
	log, file := filepath.Join(dir, "node.log"), filepath.Join(dir, "all.tar.gz")
	if err := os.WriteFile(log, []byte("first line\nconnected with password=hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	try := commandCase{path: "debug bundle"}
	out, errs, code := try.typed(t, places, "--file "+file+" --log "+log+" --log "+log+".gone --config "+log)
	if code != 0 || !strings.Contains(out, "node.log.gone") || !strings.Contains(errs, "node 3") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	files := untar(t, file)
	for name, want := range map[string]string{
		"bundle.json": `"missing"`, "host.json": `"cpus"`, "environment.json": "RAFTSMAN_HTTP", "config.yaml": "password=***", "logs/1-node.log": "password=***",
		"cluster/cluster.json": `"cluster": "test"`, "cluster/health.json": `"state"`, "cluster/nodes.json": `"incarnation"`, "cluster/partitions.json": "[", "cluster/ops.json": "[",
		"node-1/metrics.txt": "raftsman_", "node-2/goroutines.txt": "goroutine ", "node-3/readyz.txt": "200 ready", "node-3/heap.pprof": "", "node-1/cluster.json": `"winner"`,
	} {
		if got, ok := files[name]; !ok || !strings.Contains(got, want) {
			t.Errorf("%s: %v, no %q in %.300q", name, ok, want, got)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s has the password", name)
		}
	}
	out, errs, code = try.typed(t, places, "--file "+file+" --http {dead}")
	if code != exitFailed || !strings.Contains(errs, "no node answered") || !strings.Contains(out, "cluster/nodes.json") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if files := untar(t, file); files["host.json"] == "" {
		t.Error("without a node the host is not there")
	}
}

func untar(t *testing.T, name string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for r := tar.NewReader(gz); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "raftsman-bundle/")] = string(text)
	}
}

func TestRedact(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"etcd-user: root:hunter2", "etcd-user: root:***"},
		{"RAFTSMAN_ETCD_USER=root:hunter2", "RAFTSMAN_ETCD_USER=root:***"},
		{`"ETCDCTL_USER=root:hunter2",`, `"ETCDCTL_USER=root:***",`},
		{"serve --etcd-user root:hunter2 --rack a", "serve --etcd-user root:*** --rack a"},
		{"etcd-user: root", "etcd-user: root"},
		{"etcd-password-file: /etc/raftsman/password", "etcd-password-file: /etc/raftsman/password"},
		{"cluster-secret-file: /etc/raftsman/secret", "cluster-secret-file: /etc/raftsman/secret"},
		{"ETCDCTL_PASSWORD=hunter2", "ETCDCTL_PASSWORD=***"},
		{`password: "hunter 2" # mine`, `password: "***" # mine`},
		{`{"token":"abc\"def","x":1}`, `{"token":"***","x":1}`},
		{"secret = 'a b'", "secret = '***'"},
		{"http://root:hunter2@10.0.0.1:2379", "http://root:***@10.0.0.1:2379"},
		{"http://10.0.0.1:2379,http://10.0.0.2:2379", "http://10.0.0.1:2379,http://10.0.0.2:2379"},
		{"Authorization: Bearer abc.def", "Authorization: Bearer ***"},
		{"-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\nx", "-----BEGIN EC PRIVATE KEY-----\n***\n-----END EC PRIVATE KEY-----\nx"},
		{"-----BEGIN PRIVATE KEY-----\nabc", "-----BEGIN PRIVATE KEY-----\n***\n"},
		{"nothing to hide: 10.0.0.1:8080", "nothing to hide: 10.0.0.1:8080"},
	} {
		if got := string(redact([]byte(tc.text))); got != tc.want {
			t.Errorf("of %q: got %q, want %q", tc.text, got, tc.want)
		}
	}
}
