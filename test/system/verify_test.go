//go:build system

package system

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// verified is the JSON of cluster verify.
type verified struct {
	Partitions, Replicas int
	Batches              int64
	Complete             bool
	Differences          []struct {
		Topic     string
		Partition int
		Kind      string
		Repaired  bool
		Copies    []struct {
			Node   int
			State  string
			File   string
			Pos    int
			Repair string
		}
	}
	Incomplete []struct {
		Node   int
		Reason string
	}
}

// verify runs cluster verify at a node.
func (c *cluster) verify(id int, args ...string) (v verified, code int, stderr string) {
	c.t.Helper()
	cmd := exec.Command(binary(c.t, "raftsman"), append([]string{"cluster", "verify", "--http", c.http[id-1], "-o", "json"}, args...)...)
	cmd.Env = plainEnv()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			c.t.Fatalf("cluster verify: %v in\n%s", err, out.String())
		}
	}
	if err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return v, cmd.ProcessState.ExitCode(), errs.String()
}

// whole says whether cluster verify finds nothing, and everything.
func (c *cluster) whole(id int) bool {
	_, code, _ := c.verify(id, "--quiet")
	return code == 0
}

// TestClusterVerify runs the command against a cluster that works: clean, then
// with a bit flipped on one node, then repaired, then with a node away.
func TestClusterVerify(t *testing.T) {
	c, load := loaded(t)
	for id := 1; id <= 3; id++ {
		c.node(id).start()
	}
	for id := 1; id <= 3; id++ {
		c.waitReady(id)
	}
	waitFor(t, "a clean verification", time.Minute, func() bool { return c.whole(1) })
	_, r := seeded(t)
	c.create("busy", 1)
	busy := startPaced(t, c.kafka, "busy", 0, 1000, time.Millisecond) // verified under load from here on
	for range 5 {
		id := 1 + r.IntN(3)
		files := filesOf(t, c.dataDir(id), "partitions", "*", "log", "*.log")
		name := files[r.IntN(len(files))]
		if _, err := os.Stat(strings.TrimSuffix(name, ".log") + ".index"); err != nil {
			continue // the active segment is being written
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		at := r.Int64N(info.Size())
		what := fmt.Sprintf("byte %d of %s", at, name)
		before := hash(t, name)
		xor(t, name, at, 1<<r.IntN(8))
		v, code, stderr := c.verify(1+r.IntN(3), "--quiet")
		if code != 3 || len(v.Differences) != 1 || v.Differences[0].Kind != "damage" || v.Differences[0].Repaired || !strings.Contains(stderr, "1 difference remains") {
			t.Fatalf("%s: exit code %d, %+v, %s", what, code, v, stderr)
		}
		bad := 0
		for _, at := range v.Differences[0].Copies {
			if at.State == "damaged" {
				bad++
				if at.Node != id || at.File != name {
					t.Errorf("%s: found in %s of node %d", what, at.File, at.Node)
				}
			}
		}
		if bad != 1 || hash(t, name) == before {
			t.Errorf("%s: %d damaged copies in %+v", what, bad, v)
		}
		v, code, stderr = c.verify(1+r.IntN(3), "--repair", "--quiet")
		if code != 0 || len(v.Differences) != 1 || !v.Differences[0].Repaired {
			t.Fatalf("%s: repair ends with exit code %d, %+v, %s", what, code, v, stderr)
		}
		if hash(t, name) != before {
			t.Errorf("%s: the file is not what it was", what)
		}
	}
	busy.finish(t)
	c.node(3).signal(syscall.SIGTERM)
	<-c.node(3).done
	v, code, stderr := c.verify(1, "--quiet")
	if code != 4 || len(v.Incomplete) == 0 || v.Incomplete[0].Node != 3 || v.Complete || len(v.Differences) > 0 {
		t.Errorf("with a node away: exit code %d, %+v, %s", code, v, stderr)
	}
	if _, code, stderr := c.verify(3); code != 1 || !strings.Contains(stderr, "can't reach the node") {
		t.Errorf("asking a node that is away: exit code %d, %s", code, stderr)
	}
	if _, code, stderr := c.verify(1, "nosuch"); code != 1 || !strings.Contains(stderr, "does not exist") {
		t.Errorf("a topic that is not there: exit code %d, %s", code, stderr)
	}
	if _, code, _ := c.verify(1, "--rate", "-1"); code != 2 {
		t.Errorf("a rate that makes no sense: exit code %d", code)
	}
	c.node(3).start()
	c.waitReady(3)
	waitFor(t, "a clean verification", time.Minute, func() bool { return c.whole(3) })
	load.verify(t, c.kafka)
}

// TestDamagedReplicaIsMended: a node that is started with damaged segments mends
// them from the others by itself, says so, and serves what was there.
func TestDamagedReplicaIsMended(t *testing.T) {
	c, load := loaded(t)
	dir := c.dataDir(2)
	var removed []string
	want := make(map[string]string)
	for _, replica := range filesOf(t, dir, "partitions", "*", "log") {
		files := filesOf(t, replica, "*.log")
		for _, name := range files[:2] {
			want[name] = hash(t, name)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		change(t, files[1], func(b []byte) []byte { return b[:len(b)-9] })
		removed = append(removed, files[0])
	}
	for id := 1; id <= 3; id++ {
		c.node(id).start()
	}
	for id := 1; id <= 3; id++ {
		c.waitReady(id)
	}
	waitFor(t, "a clean verification", time.Minute, func() bool { return c.whole(2) })
	for name, sum := range want {
		if hash(t, name) != sum {
			t.Errorf("%s is not what it was", name)
		}
	}
	said := c.node(2).logs()
	for _, name := range removed {
		if m := missing(said, []string{"replica can't be opened", "mended a damaged segment", name, "the file is missing"}); m != "" {
			t.Errorf("the node did not say %q", m)
		}
		aside := filepath.Join(filepath.Dir(filepath.Dir(name)), "damaged")
		if files := filesOf(t, aside, "*.log"); len(files) != 1 {
			t.Errorf("set aside in %s: %q, want the one that was cut short", aside, files)
		}
	}
	load.verify(t, c.kafka)
}

func hash(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// xor flips bits of one byte in place, as a disk would: no other byte is written.
func xor(t *testing.T, name string, at int64, bits byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= bits
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
