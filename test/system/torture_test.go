//go:build system

package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tortured is what `raftsman torture -o json` says.
type tortured struct {
	Valid      bool           `json:"valid"`
	Records    int64          `json:"records"`
	Faults     int            `json:"faults"`
	Operations map[string]int `json:"operations"`
	Violations []any          `json:"violations"`
}

// torture runs raftsman torture to its end and returns its exit code.
func torture(t *testing.T, args ...string) (tortured, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t, "raftsman"), append([]string{"torture"}, args...)...)
	cmd.Env = plainEnv()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var v tortured
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatalf("torture %v: exit code %d, %v\n%s\n%s", args, cmd.ProcessState.ExitCode(), err, out.String(), errs.String())
	}
	return v, cmd.ProcessState.ExitCode()
}

// valid judges a run that must have found nothing.
func (v tortured) valid(t *testing.T, code int) {
	t.Helper()
	if code != 0 || !v.Valid || v.Records == 0 || v.Faults == 0 || v.Operations["verify ok"] != 1 {
		t.Errorf("exit code %d, %+v", code, v)
	}
	t.Logf("%d records, %d faults", v.Records, v.Faults)
}

// TestTortureProcesses tortures three processes by kill -9, SIGSTOP and a network that
// fails. The history says the same when it is checked again, and what is changed in it
// is found.
func TestTortureProcesses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	v, code := torture(t, "--processes", "--duration", "12s", "--partitions", "4", "--rate", "150", "--quiet", "-o", "json", "--dir", dir)
	v.valid(t, code)
	path := filepath.Join(dir, "history.jsonl")
	again, code := torture(t, "check", path, "-o", "json")
	again.valid(t, code)

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndex(text, []byte(`"via":"final"`)) // the last read of all: it lacks its records now
	if last < 0 {
		t.Fatal("no final read")
	}
	head, tail, _ := bytes.Cut(text[last:], []byte(`"high":`))
	tail = bytes.TrimLeft(tail, "0123456789")
	if err := os.WriteFile(path, []byte(fmt.Sprintf(`%s%s"high":0%s`, text[:last], head, tail)), 0o644); err != nil {
		t.Fatal(err)
	}
	again, code = torture(t, "check", path, "-o", "json")
	if code != 1 || again.Valid || len(again.Violations) == 0 {
		t.Errorf("changed: exit code %d, %+v", code, again)
	}
	picture, err := os.ReadFile(strings.TrimSuffix(path, ".jsonl") + ".html")
	if err != nil || !bytes.Contains(picture, []byte("<html")) {
		t.Errorf("the picture: %v", err)
	}
}

// TestTortureRunning tortures a cluster that runs already, from outside, and runs a
// command of the user as a fault, the first one of this seed.
func TestTortureRunning(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, 3*time.Second)
	dir := t.TempDir()
	touch := "touch " + dir + "/$RAFTSMAN_FAULT"
	v, code := torture(t, "--brokers", strings.Join(c.kafka, ","), "--http", strings.Join(c.http, ","), "--nemesis", "transfer,move,disconnect,command",
		"--nemesis-command", touch, "--seed", "2", "--duration", "15s", "--partitions", "4", "--rate", "150", "--quiet", "-o", "json", "--dir", filepath.Join(dir, "run"))
	v.valid(t, code)
	for _, which := range []string{"begin", "end"} {
		if _, err := os.Stat(filepath.Join(dir, which)); err != nil {
			t.Errorf("the user's own fault: %v", err)
		}
	}
}
