//go:build system

package system

import (
	"bytes"
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

// groupState is what `raftsman group describe -o json` says, as far as it is
// looked at.
type groupState struct {
	State       string `json:"state"`
	Coordinator int    `json:"coordinator"`
	Members     []any  `json:"members"`
	Offsets     []struct {
		Partition int    `json:"partition"`
		Committed *int64 `json:"committed"`
		Lag       *int64 `json:"lag"`
	} `json:"offsets"`
}

func (c *cluster) group(name string) (g groupState, ok bool) {
	out, err := c.raftsman("group", "describe", name, "-o", "json")
	return g, err == nil && json.Unmarshal([]byte(out), &g) == nil
}

// TestKcatGroupThroughKills reads lines with two members of a group while its
// coordinator is killed three times: each line is read, few of them again, and
// committed offsets never go back. Without -E kcat ends when it happens to be
// connected to no node.
func TestKcatGroupThroughKills(t *testing.T) {
	c := startCluster(t, 3, 10*time.Second, "--group-initial-rebalance-delay", "0")
	c.create("lines", 4)
	brokers := strings.Join(c.kafka, ",")
	dir := t.TempDir()
	var members []*exec.Cmd
	complaints := make([]bytes.Buffer, 2)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		g, _ := c.raftsman("group", "describe", "readers")
		t.Logf("the group at the end:\n%s", g)
		for i, m := range members {
			text, _ := os.ReadFile(filepath.Join(dir, fmt.Sprint("member", i)))
			_ = m.Process.Kill()
			_ = m.Wait()
			t.Logf("member %d (%v) has read %d lines and says:\n%s", i, m.ProcessState, bytes.Count(text, []byte("\n")), complaints[i].String())
		}
	})
	for i := range 2 {
		out, err := os.Create(filepath.Join(dir, fmt.Sprint("member", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		m := exec.CommandContext(t.Context(), "kcat", "-b", brokers, "-G", "readers", "-E", "-u", "-q", "-f", "%s\n", "-o", "beginning",
			"-X", "auto.commit.interval.ms=100", "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "lines")
		m.Stdout, m.Stderr = out, &complaints[i]
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
	}
	waitFor(t, "both members", time.Minute, func() bool {
		g, ok := c.group("readers")
		return ok && g.State == "Stable" && len(g.Members) == 2
	})

	committed := make(map[int]int64)
	look := func() (g groupState, ok bool) {
		if g, ok = c.group("readers"); !ok {
			return g, false
		}
		for _, o := range g.Offsets {
			if o.Committed != nil {
				if *o.Committed < committed[o.Partition] {
					t.Fatalf("partition %d went back from %d to %d", o.Partition, committed[o.Partition], *o.Committed)
				}
				committed[o.Partition] = *o.Committed
			}
		}
		return g, true
	}
	want := make(map[string]int)
	for round := range 4 {
		var lines strings.Builder
		for i := range 2000 {
			line := fmt.Sprintf("line %d of round %d", i, round)
			want[line] = 0
			lines.WriteString(line + "\n")
		}
		command(t, lines.String(), "kcat", "-b", brokers, "-P", "-t", "lines", "-X", "enable.idempotence=true")
		var g groupState
		waitFor(t, "a look at the group", time.Minute, func() (ok bool) {
			g, ok = look()
			return ok
		})
		if round < 3 {
			c.node(g.Coordinator).kill()
			c.node(g.Coordinator).start()
			c.waitReady(g.Coordinator)
		}
	}
	waitFor(t, "all lines to be read and committed", time.Minute, func() bool {
		g, ok := look()
		sum := int64(0)
		for _, o := range g.Offsets {
			ok = ok && o.Lag != nil && *o.Lag == 0
		}
		for _, n := range committed {
			sum += n
		}
		return ok && sum == int64(len(want))
	})
	for _, m := range members {
		if err := m.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = m.Wait() // by a signal
	}
	read := 0
	for i := range members {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("member", i)))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			name := strings.TrimSuffix(string(line), "\n")
			if _, known := want[name]; !known {
				t.Fatalf("read %q, which nobody wrote", name)
			}
			want[name]++
			read++
		}
	}
	for line, n := range want {
		if n == 0 {
			t.Errorf("%s was not read", line)
		}
	}
	if again := read - len(want); again > len(want)/20 {
		t.Errorf("%d of %d lines were read again, at most 5 %% should be", again, len(want))
	}
	waitFor(t, "the group to be empty", time.Minute, func() bool {
		g, ok := c.group("readers")
		return ok && g.State == "Empty"
	})
	if out, err := c.raftsman("group", "reset", "readers", "--to", "earliest", "--execute"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := command(t, "", "kcat", "-b", brokers, "-G", "readers", "-q", "-f", "%s\n", "-c", fmt.Sprint(len(want)), "lines")
	if n := bytes.Count(got, []byte("\n")); n != len(want) {
		t.Errorf("%d lines after the reset, want %d", n, len(want))
	}
}
