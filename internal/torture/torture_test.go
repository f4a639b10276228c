package torture

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/torture/check"
	"github.com/raftsman/raftsman/internal/torture/history"
)

// TestTortureInProcess is a short torture of three nodes in this process. Its history
// is valid, and says the same when it is checked again from the file.
func TestTortureInProcess(t *testing.T) {
	cluster, err := Local(t.Context(), LocalConfig{Nodes: 3, Dir: t.TempDir(), Version: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var shown bytes.Buffer
	report, err := Run(t.Context(), Config{
		Duration: 8 * time.Second, Seed: uint64(time.Now().UnixNano()), Partitions: 3, Rate: 100, Recovery: 90 * time.Second, History: path, Logger: slog.New(slog.DiscardHandler),
		Progress: func(p Progress) { shown.Reset(); shown.WriteString(p.String()) },
	}, cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Errorf("%s at %s/%d, offset %d: %s", v.Kind, v.Topic, v.Partition, v.Offset, v.Text)
	}
	for _, kind := range []string{"produce ok", "produce failed", "read ok", "commit ok", "committed ok", "bounds ok", "recover ok", "verify ok"} {
		if report.Operations[kind] == 0 {
			t.Errorf("no %q among %v", kind, report.Operations)
		}
	}
	if report.Faults == 0 {
		t.Error("no fault")
	}
	if !strings.Contains(shown.String(), "comparison") {
		t.Errorf("the last progress is %q", shown.String())
	}
	_, again, err := check.File(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(report, again) {
		t.Errorf("checked again: %+v, at first: %+v", again, report)
	}
	t.Logf("%d records, %d observed, %d faults", report.Records, report.Observed, report.Faults)
}

func TestChooseFaults(t *testing.T) {
	all := []fault{{name: "kill"}, {name: "move"}}
	for _, c := range []struct {
		want, chosen []string
		err          string
	}{
		{nil, []string{"kill", "move"}, ""},
		{[]string{"none"}, nil, ""},
		{[]string{"move"}, []string{"move"}, ""},
		{[]string{"flood"}, nil, `--nemesis "flood": this target can do kill, move, or none`},
	} {
		got, err := choose(all, c.want)
		var names []string
		for _, f := range got {
			names = append(names, f.name)
		}
		if text(err) != c.err || !slices.Equal(names, c.chosen) {
			t.Errorf("%v: %v and %v, want %v and %q", c.want, names, err, c.chosen, c.err)
		}
	}
}

// TestValues: what a record holds says who it is, and nothing else does.
func TestValues(t *testing.T) {
	for n := range int64(500) {
		r := history.Record{Client: "plain0", N: n}
		v := value(r)
		if got := recordOf(v); got != r {
			t.Fatalf("%q is read as %v", v, got)
		}
		v[len(v)-1] ^= 1
		if got := recordOf(v); got == r {
			t.Fatalf("%q is read as %v", v, got)
		}
	}
}

// TestNemesisCommand runs a fault of the user's own, and undoes it.
func TestNemesisCommand(t *testing.T) {
	dir := t.TempDir()
	r := &run{Config: Config{NemesisCommand: "touch " + dir + "/$RAFTSMAN_FAULT-$RAFTSMAN_RANDOM"}}
	what, end, err := r.command(context.Background(), rng(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	number := what[strings.LastIndexByte(what, '=')+1:]
	got, err := filepath.Glob(filepath.Join(dir, "*-"+number))
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v; want begin and end", got, err)
	}
	r.NemesisCommand = "echo no; false"
	if _, _, err := r.command(context.Background(), rng(1)); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("a command that fails: %v", err)
	}
}
