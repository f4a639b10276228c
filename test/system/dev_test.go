//go:build system

package system

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDev starts `raftsman dev`, sends a million lines through kcat with each
// codec and reads them back, and looks at the cluster with Debian's etcdctl.
func TestDev(t *testing.T) {
	dir := t.TempDir()
	p := ports(t, 1)[0]
	base := 20000 + p%10000 // three in a row, which ports can't promise
	p1 := &process{t: t, name: "dev", log: filepath.Join(dir, "dev.log"), args: []string{
		binary(t, "raftsman"), "dev", "--kafka-port", fmt.Sprint(base), "--http-port", fmt.Sprint(base + 10), "--etcd-port", fmt.Sprint(base + 20),
	}}
	began := time.Now()
	p1.start()
	t.Cleanup(p1.cleanUp)
	waitFor(t, "the ready line", 15*time.Second, func() bool { return strings.Contains(p1.logs(), "ready in") })
	t.Logf("ready after %v: %s", time.Since(began).Round(time.Millisecond), strings.TrimSpace(p1.logs()))

	lines := filepath.Join(dir, "lines")
	want := writeLines(t, lines, 1_000_000)
	brokers := fmt.Sprintf("127.0.0.1:%d", base)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		topic := "logs-" + codec
		command(t, "", "kcat", "-b", brokers, "-P", "-t", topic, "-z", codec, "-l", lines)
		got := command(t, "", "kcat", "-b", brokers, "-C", "-t", topic, "-e", "-q")
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back, %d were sent, or they differ", codec, len(got), len(want))
		}
	}

	etcd := fmt.Sprintf("127.0.0.1:%d", base+20)
	t.Setenv("ETCDCTL_API", "3")
	story := string(command(t, "", "etcdctl", "--endpoints", etcd, "get", "--prefix", "/raftsman/default/"))
	for _, key := range []string{"meta", "nodes/1", "nodes/2", "nodes/3", "leader/", "topics/logs-zstd", "assignments/logs-zstd/0", "status/"} {
		if !strings.Contains(story, "/raftsman/default/"+key) {
			t.Errorf("etcd holds no %s:\n%s", key, story)
		}
	}
	leases := string(command(t, "", "etcdctl", "--endpoints", etcd, "lease", "list"))
	for _, lease := range strings.Fields(leases)[3:] {
		keys := string(command(t, "", "etcdctl", "--endpoints", etcd, "lease", "timetolive", "--keys", lease))
		if !strings.Contains(keys, "/nodes/") || !strings.Contains(keys, "/leader/") {
			t.Errorf("a node's keys are under one lease; got %s", keys)
		}
	}

	p1.signal(syscall.SIGINT)
	select {
	case <-p1.done:
		if code := p1.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("dev ended with code %d: %s", code, p1.logs())
		}
	case <-time.After(20 * time.Second):
		t.Error("dev does not end on SIGINT")
	}
}

func writeLines(t *testing.T, name string, n int) []byte {
	t.Helper()
	licence, err := os.ReadFile(filepath.Join("..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Split(string(licence), "\n")
	var buf bytes.Buffer
	w := bufio.NewWriter(&buf)
	for i := range n {
		fmt.Fprintf(w, "%d %s\n", i, text[i%len(text)])
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
