package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
)

// TestRestoreAsks: only the cluster's name, or --yes, lets it write.
func TestRestoreAsks(t *testing.T) {
	for _, tt := range []struct {
		in   string
		yes  bool
		good bool
	}{
		{"default\n", false, true}, {"default", false, true}, {"yes\n", false, false}, {"", false, false}, {"Default\n", false, false}, {"", true, true},
	} {
		var out bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetIn(strings.NewReader(tt.in))
		cmd.SetErr(&out)
		f := restoreFlags{yes: tt.yes}
		f.etcd.cfg.Cluster = "default"
		err := f.confirm(cmd, &restoreResult{RestorePlan: &cluster.RestorePlan{Epoch: 7}})
		if (err == nil) != tt.good {
			t.Errorf("%q, --yes %v: %v", tt.in, tt.yes, err)
		}
		if !tt.yes && !strings.Contains(out.String(), "epoch 7") {
			t.Errorf("it asked without showing the plan: %s", out.String())
		}
	}
}

// TestRestoreRefuses without the flag that says that one knows better.
func TestRestoreRefuses(t *testing.T) {
	for _, tt := range []struct {
		plan  cluster.RestorePlan
		flags restoreFlags
		want  string
	}{
		{cluster.RestorePlan{}, restoreFlags{}, ""},
		{cluster.RestorePlan{Well: true}, restoreFlags{}, "--force"},
		{cluster.RestorePlan{Well: true}, restoreFlags{force: true}, ""},
		{cluster.RestorePlan{Foreign: "other"}, restoreFlags{allowMissing: true}, "holds another cluster (other)"},
		{cluster.RestorePlan{Foreign: "other"}, restoreFlags{force: true}, ""},
		{cluster.RestorePlan{Missing: []int32{2, 3}}, restoreFlags{force: true}, "nodes 2,3 are missing"},
		{cluster.RestorePlan{Missing: []int32{2, 3}}, restoreFlags{allowMissing: true}, ""},
	} {
		got := strings.Join(tt.flags.refusals(&restoreResult{RestorePlan: &tt.plan}), "; ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%+v with %+v: %q", tt.plan, tt.flags, got)
		}
	}
}
