//go:build system

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// snapshotRestorer is a program that knows `snapshot restore`: etcdutl, or an etcdctl
// before 3.6.
func snapshotRestorer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"etcdutl", "etcdctl"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		cmd := exec.Command(path, "snapshot", "restore", "--help")
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		if out, err := cmd.CombinedOutput(); err == nil && strings.Contains(string(out), "--data-dir") {
			return path
		}
	}
	t.Fatal("neither etcdutl nor an etcdctl that can restore a snapshot is installed (Debian: etcd-client)")
	return ""
}

// TestEtcdSnapshot restores etcd by its own tools from a snapshot of before half of
// the topics. Changes freeze, data is served on, and the nodes know more than the
// backup.
func TestEtcdSnapshot(t *testing.T) {
	tool := snapshotRestorer(t)
	x := newTrouble(t, startPlain(t, 3, plainEtcd{}))
	file := filepath.Join(x.dir, "backup.db")
	ids := newIDs(t, x.cluster)
	ids.take(1, 2, 3)
	x.etcdctl("snapshot", "save", file)
	x.createWith("late", "--replication-factor", "3")
	ids.takeMany(2, 11_000)
	late := startLoad(t, x.kafka, "late")
	late.goesOn(t)
	keys := x.keys()
	x.begin()
	etcd := x.etcds[0]
	etcd.signal(syscall.SIGKILL)
	<-etcd.done
	if err := os.RemoveAll(x.etcdDir(0)); err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{}
	for i, arg := range etcd.args[:len(etcd.args)-1] {
		flags[arg] = etcd.args[i+1]
	}
	cmd := exec.Command(tool, "snapshot", "restore", file, "--data-dir", x.etcdDir(0), "--name", "e0",
		"--initial-cluster", flags["--initial-cluster"], "--initial-advertise-peer-urls", flags["--initial-advertise-peer-urls"])
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("restore the snapshot: %v\n%s", err, out)
	}
	etcd.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("etcd wrote: %s", etcd.logs())
		}
	})
	waitFor(t, "all nodes to be frozen", 60*time.Second, func() bool {
		return x.each(func(i clusterInfo) bool { return i.Frozen != "" })
	})
	info, _ := x.info(1)
	t.Logf("frozen: %s", info.Frozen)
	x.endures(2 * x.ttl)
	late.goesOn(t)
	message, code := x.tryCreate(1, "meanwhile")
	if !retriable(code) || !strings.Contains(message, "frozen") {
		t.Errorf("a new topic: %v %s", code, message)
	}
	x.toldOnce(x.marks)

	out, err := x.raftsman("cluster", "restore-metadata", "--http", x.http[0], "--yes")
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	t.Log(out)
	x.mended("after")
	for id := range x.nodes {
		if i, err := x.info(id + 1); err != nil || i.Epoch != 2 {
			t.Errorf("node %d is at epoch %d, %v", id+1, i.Epoch, err)
		}
	}
	now := x.keys()
	for line := range strings.Lines(keys) {
		if strings.Contains(line, "topic_id") && !strings.Contains(now, line) {
			t.Errorf("lost or changed: %s", line)
		}
	}
	highest := ids.last
	joined := x.addNode()
	x.waitReady(joined)
	if lowest := ids.takeMany(joined, 3); lowest <= highest {
		t.Errorf("producer id %d was handed out after %d", lowest, highest)
	}
	ids.verify()
	x.quiet(8)
	late.finish(t)
	x.finish()
}
