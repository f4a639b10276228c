package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTortureCannotRun: what leaves no verdict is told so by its exit code, with what to do.
func TestTortureCannotRun(t *testing.T) {
	clearEnv(t)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "history.jsonl"), []byte("other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--partitions", "0"}, "--partitions is 0"},
		{[]string{"--nodes", "10"}, "--nodes is 10"},
		{[]string{"--rate", "0"}, "--rate is 0"},
		{[]string{"--duration", "0"}, "--duration"},
		{[]string{"--brokers", "127.0.0.1:1", "--processes"}, "give one of them"},
		{[]string{"--dir", full}, "is not empty"},
		{[]string{"--brokers", deadAddr(t), "--dir", filepath.Join(t.TempDir(), "new"), "--quiet"}, "--brokers"},
		{[]string{"check", filepath.Join(full, "none")}, "no such file"},
		{[]string{"check", filepath.Join(full, "history.jsonl")}, "not a history"},
	} {
		_, err := execute(t, append([]string{"torture"}, c.args...)...)
		if exitCode(err) != exitNoRun || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: exit code %d, %v; want %q", c.args, exitCode(err), err, c.want)
		}
	}
}

// TestTortureCheck judges histories from disk, and draws what is wrong.
func TestTortureCheck(t *testing.T) {
	const good = `{"version":1,"seed":7,"command":"raftsman torture --seed 7"}
{"t":1,"id":1,"op":"produce","client":"p","topic":"t"}
{"t":2,"id":1,"is":"ok"}
{"t":3,"id":2,"op":"read","client":"f","topic":"t","via":"final","offset":-2}
`
	for _, c := range []struct {
		name, end string
		code      int
		want      string
	}{
		{"valid", `{"t":4,"id":2,"is":"ok","runs":[{"at":0,"epoch":1,"records":["p/0"]}],"high":1}`, 0, "valid"},
		{"lost", `{"t":4,"id":2,"is":"ok"}`, exitViolated, "lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.jsonl")
			if err := os.WriteFile(path, []byte(good+c.end+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := execute(t, "torture", "check", path)
			if exitCode(err) != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, %v\n%s", exitCode(err), err, out)
			}
			picture, perr := os.ReadFile(strings.TrimSuffix(path, ".jsonl") + ".html")
			if c.code == 0 != os.IsNotExist(perr) || c.code != 0 && !strings.Contains(string(picture), "append p/0") {
				t.Errorf("picture: %v", perr)
			}
			if c.code != 0 && !strings.Contains(err.Error(), "--seed 7") {
				t.Errorf("%v does not say how to do it again", err)
			}
		})
	}
}
